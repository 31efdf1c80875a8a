"""The scenes: what merchants and customers do, over HTTP, against a bank that declines, delays and forgets.

The bank's behaviour is chosen by the card number, or by the last digits of an amount (docs/simulator.md).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from khata.demo import StoryFailed
from khata.demo.client import MerchantClient

GOOD = ("4111111111111111", "5555555555554444", "6521111111111110")
DO_NOT_HONOUR, INSUFFICIENT = "4000000000000002", "4000000000000010"
LOST_REQUEST, LOST_ANSWER, LATE = "4000000000000069", "4000000000000077", "4000000000000085"
WRONG_AMOUNT, RESET, GARBAGE = "4000000000000093", "4000000000000101", "4000000000000119"
# Captures and refunds of amounts that end in these digits: see docs/simulator.md.
UNANSWERED, SILENT_BOOKED, REFUSED = 66602, 66604, 66609
# What rails leave open is closed within seconds here (khata/cli/demo_command.py sets the pauses).
# Longer than recovery takes to ask often, even on a machine that is busy.
PATIENCE_S = 150.0
TRIES = 3
POLL_S = 0.25
OPEN = ("processing", "pending")
SHORT_HOLD_S = 2


@dataclass
class Player:
    """A merchant in one currency; amounts are drawn from a seeded generator.

    ``waiting``: ids of payments and refunds whose outcome is waited for; players may share one.
    """

    client: MerchantClient
    currency: str
    dice: random.Random
    waiting: set[str] = field(default_factory=set[str])
    _cards: dict[str, str] = field(default_factory=dict[str, str], repr=False)

    def amount(self) -> int:
        """Some minor units, never one of the bank's magic amounts."""
        return self.dice.randrange(10, 500) * 1000 + self.dice.choice((0, 250, 499, 990))

    async def pay(self, card: str, amount: int, *, manual: bool = False, **more: Any) -> dict[str, Any]:
        """Make a payment and confirm it with ``card``."""
        method = "manual" if manual else "automatic"
        body = {"amount": amount, "currency": self.currency, "capture_method": method, **more}
        payment = await self.client.post("/v1/payments", body)
        return await self.confirm(payment, card)

    async def confirm(self, payment: dict[str, Any], card: str) -> dict[str, Any]:
        self._cards[payment["id"]] = card
        typed = {"number": card, "expiry_month": 12, "expiry_year": 2030, "cvv": "123"}
        return await self.client.post(f"/v1/payments/{payment['id']}/confirm", {"card": typed})

    async def act(self, payment: dict[str, Any], action: str, **body: Any) -> dict[str, Any]:
        return await self.client.post(f"/v1/payments/{payment['id']}/{action}", body)

    async def settled(self, thing: dict[str, Any]) -> dict[str, Any]:
        """The payment or refund once its outcome is known. Raises ``StoryFailed`` after ``PATIENCE_S``."""
        path = "/v1/refunds" if thing.get("object") == "refund" else "/v1/payments"
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        self.waiting.add(thing["id"])
        try:
            while thing["status"] in OPEN:
                if asyncio.get_running_loop().time() > deadline:
                    raise StoryFailed(f"{thing['id']} is still {thing['status']} after {PATIENCE_S:.0f} s")
                await asyncio.sleep(POLL_S)
                thing = await self.client.get(f"{path}/{thing['id']}")
        finally:
            self.waiting.discard(thing["id"])
        return thing

    async def reach(self, thing: dict[str, Any], status: str) -> dict[str, Any]:
        """The payment or refund, which must come to ``status``. Raises ``StoryFailed``.

        On a busy machine any answer may be late: what is open is waited for, and where recovery has reversed an
        authorization the customer pays again with the same card.
        """
        for _ in range(TRIES):
            late = thing["status"] in OPEN
            thing = await self.settled(thing)
            if not late or thing["status"] != "requires_payment_method" or status == thing["status"]:
                break
            thing = await self.confirm(thing, self._cards[thing["id"]])
        return expect(await self.settled(thing), status)


def expect(payment: dict[str, Any], status: str) -> dict[str, Any]:
    """The story stops when it goes another way than told."""
    if payment["status"] != status:
        raise StoryFailed(f"{payment['id']} is {payment['status']}, the story says {status}")
    return payment


async def paid(p: Player) -> None:
    await p.reach(await p.pay(p.dice.choice(GOOD), p.amount()), "succeeded")


async def declined_then_paid(p: Player) -> None:
    payment = await p.reach(await p.pay(DO_NOT_HONOUR, p.amount()), "requires_payment_method")
    await p.reach(await p.confirm(payment, p.dice.choice(GOOD)), "succeeded")


async def insufficient(p: Player) -> None:
    await p.reach(await p.pay(INSUFFICIENT, p.amount()), "requires_payment_method")


def unanswered(card: str) -> Callable[[Player], Awaitable[None]]:
    """The bank does not answer an authorization: unknown, then reversed; the customer pays again."""

    async def scene(p: Player) -> None:
        payment = expect(await p.pay(card, p.amount()), "processing")
        expect(await p.settled(payment), "requires_payment_method")
        if p.dice.random() < 0.5:
            await p.reach(await p.confirm(payment, GOOD[0]), "succeeded")

    return scene


async def captured_in_part(p: Player) -> None:
    amount = p.amount()
    payment = await p.reach(await p.pay(GOOD[0], amount, manual=True), "requires_capture")
    await p.reach(await p.act(payment, "capture", amount=amount // 2, final=True), "succeeded")


async def captured_thrice(p: Player) -> None:
    amount = p.amount()
    payment = await p.reach(await p.pay(GOOD[1], amount, manual=True), "requires_capture")
    for part in (amount // 4, amount // 3):
        await p.reach(await p.act(payment, "capture", amount=part, final=False), "partially_captured")
    await p.reach(await p.act(payment, "capture"), "succeeded")


async def voided(p: Player) -> None:
    payment = await p.reach(await p.pay(GOOD[2], p.amount(), manual=True), "requires_capture")
    await p.reach(await p.act(payment, "void"), "canceled")


async def voided_in_part(p: Player) -> None:
    amount = p.amount()
    payment = await p.reach(await p.pay(GOOD[0], amount, manual=True), "requires_capture")
    await p.reach(await p.act(payment, "void", amount=amount // 3), "requires_capture")
    await p.reach(await p.act(payment, "capture"), "succeeded")


async def expired(p: Player) -> None:
    payment = await p.pay(GOOD[0], p.amount(), manual=True, authorization_valid_s=SHORT_HOLD_S)
    payment = await p.reach(payment, "requires_capture")
    await asyncio.sleep(SHORT_HOLD_S)
    expect(await p.client.get(f"/v1/payments/{payment['id']}"), "expired")


async def refunded(p: Player) -> None:
    payment = await p.reach(await p.pay(GOOD[1], p.amount()), "succeeded")
    await p.reach(await p.act(payment, "refunds", reason="returned goods"), "succeeded")


async def refunded_twice(p: Player) -> None:
    amount = p.amount()
    payment = await p.reach(await p.pay(GOOD[2], amount), "succeeded")
    for part in (amount // 5, amount // 3):
        await p.reach(await p.act(payment, "refunds", amount=part), "succeeded")


async def capture_unanswered(p: Player) -> None:
    payment = expect(await p.pay(GOOD[0], 100_000 * p.dice.randrange(1, 9) + UNANSWERED), "processing")
    await p.reach(payment, "succeeded")


async def capture_told_by_the_file(p: Player) -> None:
    expect(await p.pay(GOOD[0], 100_000 * p.dice.randrange(1, 9) + SILENT_BOOKED), "processing")


async def refund_unanswered(p: Player) -> None:
    payment = await p.reach(await p.pay(GOOD[0], 300_000), "succeeded")
    refund = expect(await p.act(payment, "refunds", amount=UNANSWERED), "pending")
    await p.reach(refund, "succeeded")


async def refund_refused(p: Player) -> None:
    payment = await p.reach(await p.pay(GOOD[0], 300_000), "succeeded")
    await p.reach(await p.act(payment, "refunds", amount=REFUSED), "failed")


Scene = Callable[[Player], Awaitable[None]]

# What happens, and how often for each merchant.
SCENES: tuple[tuple[str, int, Scene], ...] = (
    ("paid at once", 26, paid),
    ("declined, then paid with another card", 4, declined_then_paid),
    ("declined: insufficient funds", 2, insufficient),
    ("no answer, the bank never saw it: reversed", 2, unanswered(LOST_REQUEST)),
    ("no answer, the bank had booked it: reversed", 2, unanswered(LOST_ANSWER)),
    ("an answer that came too late: reversed", 2, unanswered(LATE)),
    ("an answer for another amount: reversed", 1, unanswered(WRONG_AMOUNT)),
    ("an answer cut off: reversed", 1, unanswered(RESET)),
    ("an answer that is no message: reversed", 1, unanswered(GARBAGE)),
    ("captured in part, the rest freed", 4, captured_in_part),
    ("captured in three parts", 4, captured_thrice),
    ("voided", 4, voided),
    ("voided in part, the rest captured", 2, voided_in_part),
    ("expired uncaptured", 3, expired),
    ("refunded", 4, refunded),
    ("refunded in two parts", 3, refunded_twice),
    ("capture unanswered, sent again", 2, capture_unanswered),
    ("capture unanswered, known by the settlement file", 1, capture_told_by_the_file),
    ("refund unanswered, sent again", 1, refund_unanswered),
    ("refund refused by the bank", 1, refund_refused),
)
