"""A link that pays one payment; and what merchants are told."""

from __future__ import annotations

import pytest

from gateway import captures, checkout, events, payments, refunds, voids
from gateway.errors import CurrencyUnknown, Invalid, PaymentNotFound, SessionExpired, SessionNotFound
from gateway.fees import FeePlan
from gateway.merchants import NewMerchant, exponent
from gateway.payments import NewPayment
from gateway.states import PaymentStatus as S
from tests.gateway.world import BANK, DECLINED, LOST_ANSWER, World, card

URL = "https://shop.example/thanks?order=7"


async def test_a_customer_pays_by_the_link(world: World) -> None:
    payment = await world.new(manual=False)
    made = await checkout.create_session(world.gw, world.merchant.id, payment.id, URL)
    session, seen = await checkout.load_session(world.gw, made.token)
    assert (session, seen.id) == (made, payment.id)
    declined = await checkout.pay(world.gw, made.token, card(DECLINED))
    assert declined.status is S.REQUIRES_PAYMENT_METHOD
    paid = await checkout.pay(world.gw, made.token, card())
    assert paid.status is S.SUCCEEDED


async def test_a_link_is_known_by_its_hash_alone_and_ends(world: World) -> None:
    payment = await world.new()
    made = await checkout.create_session(world.gw, world.merchant.id, payment.id, URL)
    ((stored,),) = await world.rows("SELECT token_hash FROM gateway.checkout_session")
    assert made.token.encode() not in stored
    with pytest.raises(SessionNotFound):
        await checkout.load_session(world.gw, made.token[:-1])
    world.clock.forward(minutes=31)
    with pytest.raises(SessionExpired):
        await checkout.pay(world.gw, made.token, card())


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "//x",
        "https://",
        "ftp://x/",
        "https://x/\n",
        "https://[",
        "https://x/" + "a" * 2000,
    ],
)
async def test_a_return_address_that_is_none_is_refused(world: World, url: str) -> None:
    payment = await world.new()
    with pytest.raises(Invalid):
        await checkout.create_session(world.gw, world.merchant.id, payment.id, url)


async def test_a_link_to_another_merchants_payment_cannot_be_made(world: World) -> None:
    payment = await world.new()
    with pytest.raises(PaymentNotFound):
        await checkout.create_session(world.gw, world.gw.ids(), payment.id, URL)


async def _told(world: World) -> list[str]:
    async with world.gw.engine.connect() as conn:
        found = await events.events(conn, world.merchant.id, limit=100)
    return [event.type for event in reversed(found)]


async def test_each_change_is_told_once_with_the_object_as_it_was(world: World) -> None:
    payment = await world.authorized(200_000)
    await captures.capture(world.gw, world.merchant.id, payment.id, 150_000)
    await voids.void(world.gw, world.merchant.id, payment.id)
    await refunds.refund(world.gw, world.merchant.id, payment.id, 100)
    await refunds.refund(world.gw, world.merchant.id, payment.id, 66_609)
    await world.authorized(number=LOST_ANSWER)
    assert await _told(world) == [
        "payment.created",
        "payment.requires_capture",
        "payment.partially_captured",
        "payment.succeeded",
        "refund.created",
        "refund.succeeded",
        "refund.created",
        "refund.failed",
        "payment.created",
        "payment.unknown",
    ]
    async with world.gw.engine.connect() as conn:
        newest, *_ = await events.events(conn, world.merchant.id)
    assert newest.payload["outcome"] == "unknown"
    assert newest.object_id == newest.payload["id"]


async def test_payments_are_listed_newest_first_by_page(world: World) -> None:
    made = [await world.new() for _ in range(5)]
    first = await payments.list_payments(world.gw, world.merchant.id, limit=3)
    rest = await payments.list_payments(world.gw, world.merchant.id, before=first[-1].id)
    assert [p.id for p in (*first, *rest)] == [p.id for p in reversed(made)]


async def test_refused_requests_name_the_field(world: World) -> None:
    for wrong in ({"amount": 0}, {"amount": 10**16}, {"amount": True}, {"reference": "x" * 65}):
        with pytest.raises(Invalid):
            NewPayment(**{"amount": 1, "currency": "INR"} | wrong)  # type: ignore[arg-type]
    for currency in ("USD", "XXX", "inr"):
        with pytest.raises(CurrencyUnknown):
            await payments.create(world.gw, world.merchant.id, NewPayment(1, currency))
    with pytest.raises(Invalid):
        await payments.create(world.gw, world.merchant.id, NewPayment(1, "INR", tolerance_bps=1))
    with pytest.raises(CurrencyUnknown):
        NewMerchant("x", 1, BANK, {"XAU": FeePlan(1)})
    assert [exponent(c) for c in ("INR", "JPY", "KWD")] == [2, 0, 3]
