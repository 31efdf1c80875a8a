"""The load client: keep-alive connections, each asking again as soon as it has its answer. Parses next to nothing.

CONFIG: ``cases``, by name: ``ports``, ``request`` (a key of ``REQUESTS``), ``status`` (what must come back); and
``tokens`` (a connection uses one), ``connections``, ``seed``, ``merchant``, ``wallets``.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast
from uuid import uuid4

import uvloop

from bench.pairs import CURRENCY, wallet
from bench.worker import Run, Sample, serve

ANSWER_S = 30.0
CARD = {"number": "4111111111111111", "expiry_month": 12, "expiry_year": 2035, "cvv": "123"}
_LENGTH = b"content-length: "


class Unexpected(Exception):
    """Another answer than the case is about."""


Request = Callable[[str, random.Random], bytes]


def balance(config: Mapping[str, Any]) -> Request:
    def request(token: str, _: random.Random) -> bytes:
        return f"GET /v1/balance HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {token}\r\n\r\n".encode()

    return request


def hold(config: Mapping[str, Any]) -> Request:
    """From a customer's wallet to the merchant."""
    payable = f"Liabilities:Merchant:{config['merchant']}:Available"

    def request(token: str, draw: random.Random) -> bytes:
        payer = wallet(draw.randrange(config["wallets"]))
        body = {"debit": payer, "credit": payable, "amount": 1 + draw.randrange(1000), "currency": CURRENCY}
        return _post("/v1/holds", token, body)

    return request


def payment(config: Mapping[str, Any]) -> Request:
    """With a card: authorized and captured at the bank before the answer."""

    def request(token: str, draw: random.Random) -> bytes:
        body = {"amount": 100 + draw.randrange(100_000) // 100 * 100, "currency": CURRENCY, "card": CARD}
        return _post("/v1/payments", token, body)

    return request


REQUESTS = {"balance": balance, "hold": hold, "payment": payment}


def _post(path: str, token: str, body: Mapping[str, Any]) -> bytes:
    content = json.dumps(body)
    return (
        f"POST {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {token}\r\nidempotency-key: {uuid4().hex}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n{content}"
    ).encode()


class Asker(asyncio.Protocol):
    """One connection. ``done`` ends once the last answer after ``end`` has come, or with what went wrong."""

    def __init__(self, build: Callable[[], bytes], status: bytes, waits_us: list[int], end: float) -> None:
        self._build = build
        self._status = status
        self._waits_us = waits_us
        self._end = end
        self._buffer = b""
        self._sent = 0.0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        if not _whole(self._buffer):
            return
        answer, self._buffer = self._buffer, b""
        now = time.perf_counter()
        self._waits_us.append(int((now - self._sent) * 1e6))
        if answer[9:12] != self._status:
            self._finish(Unexpected(answer[:1000].decode(errors="replace")))
        elif now < self._end:
            self._ask()
        else:
            self._finish(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or Unexpected("the connection was closed"))

    def _ask(self) -> None:
        request = self._build()
        self._sent = time.perf_counter()
        self._transport.write(request)

    def _finish(self, error: Exception | None) -> None:
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)
        self._transport.close()


def _whole(answer: bytes) -> bool:
    """Whether head and body are there; uvicorn sends lower-case names and a length."""
    head = answer.find(b"\r\n\r\n")
    if head < 0:
        return False
    at = answer.find(_LENGTH, 0, head)
    if at < 0:
        raise Unexpected(f"no content-length: {answer[:500]!r}")
    start = at + len(_LENGTH)
    return len(answer) >= head + 4 + int(answer[start : answer.index(b"\r", start)])


async def run(
    config: Mapping[str, Any], case: Mapping[str, Any], draw: random.Random, seconds: float
) -> Sample:
    """Connections in turn to each port. Connecting is inside the measured time: some tens of microseconds each."""
    sample = Sample()
    start = time.perf_counter()
    build = REQUESTS[case["request"]](config)
    loop = asyncio.get_running_loop()
    askers: list[Asker] = []
    for number in range(config["connections"]):
        token = config["tokens"][number % len(config["tokens"])]
        make = partial(
            *(Asker, partial(build, token, draw), str(case["status"]).encode(), sample.waits_us),
            start + seconds,
        )
        port = case["ports"][number % len(case["ports"])]
        _, asker = await loop.create_connection(make, "127.0.0.1", port)
        askers.append(asker)
    async with asyncio.timeout(seconds + ANSWER_S):
        await asyncio.gather(*(asker.done for asker in askers))
    sample.seconds = time.perf_counter() - start
    sample.done = len(sample.waits_us)
    return sample


@asynccontextmanager
async def opened(config: Mapping[str, Any]) -> AsyncGenerator[dict[str, Run]]:
    draw = random.Random(config["seed"])
    yield {name: partial(run, config, case, draw) for name, case in config["cases"].items()}


if __name__ == "__main__":
    uvloop.run(serve(opened(json.loads(sys.argv[1]))))
