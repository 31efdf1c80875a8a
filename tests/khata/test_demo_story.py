"""The story's patience: what is late is waited for, what ends otherwise is said in one line."""

from __future__ import annotations

import random
from typing import Any, cast

import pytest

from khata.demo import StoryFailed, script
from khata.demo.acts import all_of, doing
from khata.demo.client import MerchantClient
from khata.demo.script import GOOD, Player, paid, refunded


class Shop:
    """A client whose every request is answered by the next of ``answers``, a status each."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def get(self, path: str, **_: str) -> dict[str, Any]:
        return await self.post(path, {})

    async def post(self, path: str, body: Any) -> dict[str, Any]:
        self.asked.append(path.rsplit("/", 1)[-1])
        refund = "refund" in path
        kind, id_ = ("refund", "re_1") if refund else ("payment", "pay_1")
        return {"object": kind, "id": id_, "status": self.answers.pop(0)}


def player(shop: Shop) -> Player:
    return Player(cast(MerchantClient, shop), "INR", random.Random(1))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "POLL_S", 0)
    monkeypatch.setattr(script, "PATIENCE_S", 0.2)


async def test_a_payment_that_succeeds_late_is_waited_for() -> None:
    shop = Shop("requires_payment_method", "processing", "processing", "succeeded")
    await paid(player(shop))
    assert shop.asked == ["payments", "confirm", "pay_1", "pay_1"]


async def test_a_refund_that_succeeds_late_is_waited_for() -> None:
    shop = Shop("requires_payment_method", "succeeded", "pending", "pending", "succeeded")
    await refunded(player(shop))
    assert shop.asked[2:] == ["refunds", "re_1", "re_1"]


async def test_after_a_late_authorization_was_reversed_the_customer_pays_again() -> None:
    shop = Shop("requires_payment_method", "processing", "requires_payment_method", "processing", "succeeded")
    await paid(player(shop))
    assert shop.asked == ["payments", "confirm", "pay_1", "confirm", "pay_1"]


async def test_a_payment_that_ends_otherwise_or_never_fails_the_story() -> None:
    with pytest.raises(StoryFailed, match="pay_1 is canceled, the story says succeeded"):
        await paid(player(Shop("requires_payment_method", "processing", "canceled")))
    endless = player(Shop("requires_payment_method", *["processing"] * 1_000_000))
    with pytest.raises(StoryFailed, match="pay_1 is still processing"):
        await paid(endless)
    assert not endless.waiting


async def test_what_fails_among_many_scenes_is_raised_by_itself() -> None:
    declined = player(Shop("requires_payment_method", "requires_payment_method"))
    with pytest.raises(StoryFailed, match="the story says succeeded"):
        await all_of([paid(declined), paid(player(Shop("requires_payment_method", "succeeded")))])


def test_the_progress_line_says_what_is_waited_for() -> None:
    assert doing(set()) == "payments"
    assert doing({GOOD[0], "pay_1"}).startswith("payments, waiting for the outcome of 2 (")
