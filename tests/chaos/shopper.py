"""Merchants' programs under fire: they keep their keys, ask again until they are answered, and write down every answer.

What they were told stands in a file, synced before anything else happens: nothing in it may be lost.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tests.chaos.system import NeverHappened, System

GOOD = ("4111111111111111", "5555555555554444", "6521111111111110")
DECLINED, UNANSWERED, CUT_OFF = "4000000000000002", "4000000000000077", "4000000000000101"
# Of a hundred payments, these cards (docs/simulator.md).
CARDS = (*GOOD * 26, *(DECLINED,) * 6, *(UNANSWERED,) * 10, *(CUT_OFF,) * 6)
# A capture of so much is booked by the bank and never answered; its settlement file tells.
TOLD_BY_FILE = 66604
ANSWER_TIMEOUT = aiohttp.ClientTimeout(total=20, sock_connect=2)
PATIENCE_S = 120.0
PAUSE_S = 0.2


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A request that was answered with success: ``answer`` is what came, to the byte."""

    merchant: int
    path: str
    key: str
    body: dict[str, Any]
    status: int
    answer: str


@dataclass
class Log:
    """Acknowledgements on disk, and what must not happen at all."""

    path: Path
    broken: list[str] = field(default_factory=list[str])
    """Answers that no client may ever get."""
    retries: int = 0

    def write(self, acknowledged: Acknowledged) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(asdict(acknowledged)) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def read(self) -> list[Acknowledged]:
        if not self.path.exists():
            return []
        return [Acknowledged(**json.loads(line)) for line in self.path.read_text().splitlines()]


class Refused(Exception):
    """The answer is no, and says why: nothing has happened."""


@dataclass
class Client:
    """One merchant's connection to the API."""

    http: aiohttp.ClientSession
    system: System
    merchant: int
    log: Log
    _token: str = ""

    async def get(self, path: str) -> dict[str, Any]:
        status, text = await self._until_answered("GET", path, {})
        assert status == 200, f"GET {path}: {text}"
        return json.loads(text)

    async def post(self, path: str, body: dict[str, Any], key: str) -> dict[str, Any]:
        """Raises ``Refused``."""
        status, text = await self.send(path, body, key)
        if status >= 300:
            raise Refused(text)
        self.log.write(Acknowledged(self.merchant, path, key, body, status, text))
        return json.loads(text)

    async def send(self, path: str, body: dict[str, Any], key: str) -> tuple[int, str]:
        """The answer, whatever it is, to a request that is repeated under its key until there is one."""
        return await self._until_answered("POST", path, {"Idempotency-Key": key}, json=body)

    async def _until_answered(
        self, method: str, path: str, headers: dict[str, str], **more: Any
    ) -> tuple[int, str]:
        deadline, last = asyncio.get_running_loop().time() + PATIENCE_S, ""
        while asyncio.get_running_loop().time() < deadline:
            try:
                status, text, again = await self._once(method, path, headers, **more)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                status, text, again = 0, repr(error), True
            if not again:
                return status, text
            last = f"{status} {text}"
            self.log.retries += 1
            await asyncio.sleep(PAUSE_S)
        raise NeverHappened(f"an answer to {method} {path} {headers}; the last was {last}")

    async def _once(
        self, method: str, path: str, headers: dict[str, str], **more: Any
    ) -> tuple[int, str, bool]:
        """Status, body, and whether to ask again."""
        if not self._token and not await self._authenticate():
            return 0, "no token", True
        bearer = {"Authorization": f"Bearer {self._token}", **headers}
        async with self.http.request(
            method, f"{self.system.stage.api}{path}", headers=bearer, **more
        ) as answer:
            text = await answer.text()
        if answer.status == 401:
            self._token = ""
            return answer.status, text, True
        if answer.status >= 500 and answer.status != 503:
            self.log.broken.append(f"{answer.status} to {method} {path}: {text}")
        return answer.status, text, answer.status >= 500 or "Retry-After" in answer.headers

    async def _authenticate(self) -> bool:
        member = self.system.members[self.merchant]
        async with self.http.post(
            f"{self.system.stage.api}/oauth/token",
            data={"grant_type": "client_credentials"},
            headers={"Authorization": aiohttp.encode_basic_auth(member.client_id, member.secret)},
        ) as answer:
            self._token = (await answer.json())["access_token"] if answer.status == 200 else ""
        return bool(self._token)


@dataclass
class Shopper:
    """Plays one scene after the other, each drawn from ``dice``; every key is named after who asks for what."""

    client: Client
    name: str
    dice: random.Random
    played: int = 0

    async def play(self, stop: asyncio.Event) -> None:
        scenes = (self.sale, self.sale, self.parts, self.parts, self.hold)
        while not stop.is_set():
            self.played += 1
            scene: Callable[[str], Awaitable[None]] = self.dice.choice(scenes)
            with suppress(Refused):  # a bank has not answered, or has declined: the story ends here
                await scene(f"{self.name}-{self.played}")
            await asyncio.sleep(self.dice.uniform(0.0, 0.1))

    @property
    def currency(self) -> str:
        return self.client.system.members[self.client.merchant].currency

    def _new(self, key: str, amount: int, card: str, method: str) -> dict[str, Any]:
        typed = {"number": card, "expiry_month": 12, "expiry_year": 2030, "cvv": "123"}
        return {
            "amount": amount,
            "currency": self.currency,
            "capture_method": method,
            "reference": key,
            "card": typed,
        }

    async def sale(self, key: str) -> None:
        """Paid at once; perhaps some of it goes back, in one refund or two."""
        amount = 1000 * self.dice.randrange(10, 500)
        body = self._new(key, amount, self.dice.choice(CARDS), "automatic")
        payment = await self.client.post("/v1/payments", body, key)
        if (await self.known(payment))["status"] != "succeeded":
            return
        for n in range(self.dice.choice((0, 0, 1, 2))):
            refund = {"amount": amount // 10 + n, "reason": f"{key}-r{n}"}
            await self.client.post(f"/v1/payments/{payment['id']}/refunds", refund, f"{key}-r{n}")
            await self.known(payment)

    async def parts(self, key: str) -> None:
        """Authorized, a part of it captured, the rest captured or given back."""
        amount = 1000 * self.dice.randrange(10, 500)
        body = self._new(key, amount, self.dice.choice(CARDS), "manual")
        payment = await self.client.post("/v1/payments", body, key)
        if (await self.known(payment))["status"] != "requires_capture":
            return
        path = f"/v1/payments/{payment['id']}"
        await self.client.post(f"{path}/capture", {"amount": amount // 2 + 10}, f"{key}-c0")
        await self.known(payment)
        if self.dice.random() < 0.6:
            await self.client.post(f"{path}/capture", {"final": True}, f"{key}-c1")
        else:
            await self.client.post(f"{path}/void", {}, f"{key}-v")

    async def hold(self, key: str) -> None:
        """A customer's money held, some of it captured, the rest released."""
        shop = self.client.system.members[self.client.merchant].merchant
        amount = self.dice.randrange(1000, 9000)
        body = {
            "debit": self.client.system.wallets[self.client.merchant],
            "credit": f"Liabilities:Merchant:{shop.owner}:Available",
            "amount": amount,
            "currency": self.currency,
            "metadata": {"key": key},
        }
        path = f"/v1/holds/{(await self.client.post('/v1/holds', body, key))['id']}"
        await self.client.post(f"{path}/capture", {"amount": amount // 3}, f"{key}-c")
        await self.client.post(f"{path}/release", {}, f"{key}-l")

    async def told_by_the_file(self) -> str:
        """A payment whose capture the bank books and never answers; its id."""
        amount = 100_000 * self.dice.randrange(1, 9) + TOLD_BY_FILE
        key = f"{self.name}-file"
        return (await self.client.post("/v1/payments", self._new(key, amount, GOOD[0], "automatic"), key))[
            "id"
        ]

    async def known(self, payment: dict[str, Any]) -> dict[str, Any]:
        """The payment once its outcome is known."""
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        found = await self.client.get(f"/v1/payments/{payment['id']}")
        while found["status"] == "processing":
            if asyncio.get_running_loop().time() > deadline:
                raise NeverHappened(f"{payment['id']} has an outcome")
            await asyncio.sleep(PAUSE_S)
            found = await self.client.get(f"/v1/payments/{payment['id']}")
        return found
