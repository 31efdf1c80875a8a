"""Same key, same answer, byte for byte; one effect whatever happens in between."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from banks.card.rail import CardRail
from gateway import captures, idempotency, payments, recovery, refunds
from gateway.errors import AmountExceeded, IdempotencyInFlight, IdempotencyMismatch, Invalid
from gateway.idempotency import Answer, Idem
from gateway.payments import NewPayment
from tests.gateway.test_recovery import Died, recover
from tests.gateway.world import World, card, idem

NEW = NewPayment(100_000, "INR")


async def create(world: World, request: Idem, number: str = "4111111111111111") -> Answer:
    gw, m = world.gw, world.merchant.id
    return await idempotency.answered(
        gw, m, request, lambda: payments.create(gw, m, NEW, request, card=card(number))
    )


async def test_a_replay_gives_the_first_answer_byte_for_byte(world: World) -> None:
    first = await create(world, idem("k"))
    await refunds.refund(world.gw, world.merchant.id, (await _only(world)).id, 10)
    again = await create(world, idem("k"))
    assert again.body == first.body
    assert (first.replayed, again.replayed) == (False, True)
    assert len(await world.rows("SELECT FROM gateway.payment")) == 1


async def test_the_same_key_with_another_body_is_refused(world: World) -> None:
    await create(world, idem("k"))
    with pytest.raises(IdempotencyMismatch):
        await create(world, idem("k", b"other"))


async def test_keys_are_each_merchants_and_each_routes_own(world: World) -> None:
    await create(world, idem("k"))
    other = Idem("k", idem("k").request_hash, idem("k").render, route="POST /v1/other")
    await create(world, other)
    assert len(await world.rows("SELECT FROM gateway.payment")) == 2


async def test_a_request_that_is_still_running_is_not_run_again(patient_world: World) -> None:
    world = patient_world
    world.acquirer.post("/settings", {"latency_ms": 400})
    answers = await asyncio.gather(*(create(world, idem("k")) for _ in range(16)), return_exceptions=True)
    assert sum(isinstance(a, Answer) for a in answers) == 1
    assert all(isinstance(a, IdempotencyInFlight) for a in answers if not isinstance(a, Answer)), answers
    assert len(world.acquirer.entries(kind="authorization")) == 1


async def test_captures_at_once_under_one_key_capture_once(patient_world: World) -> None:
    world = patient_world
    payment = await world.authorized()
    gw, m = world.gw, world.merchant.id
    request = idem("k")

    async def once() -> Answer:
        return await idempotency.answered(
            gw, m, request, lambda: captures.capture(gw, m, payment.id, 100, idem=request)
        )

    answers = await asyncio.gather(*(once() for _ in range(16)), return_exceptions=True)
    assert sum(isinstance(a, Answer) for a in answers) >= 1
    assert all(isinstance(a, Answer | IdempotencyInFlight) for a in answers), answers
    assert (await world.get(payment)).totals.captured == 100


async def test_refunds_at_once_under_one_key_refund_once(patient_world: World) -> None:
    world = patient_world
    await world.captured()
    payment = await world.captured()
    gw, m = world.gw, world.merchant.id
    request = idem("k")

    async def once() -> Answer:
        return await idempotency.answered(
            gw, m, request, lambda: refunds.refund(gw, m, payment.id, 100, idem=request)
        )

    answers = await asyncio.gather(*(once() for _ in range(16)), return_exceptions=True)
    assert sum(isinstance(a, Answer) for a in answers) >= 1
    assert all(isinstance(a, Answer | IdempotencyInFlight) for a in answers), answers
    assert (await world.get(payment)).totals.refunded == 100
    assert (await once()).body == next(a.body for a in answers if isinstance(a, Answer))


async def test_a_refused_request_claims_nothing(world: World) -> None:
    payment = await world.authorized()
    gw, m, request = world.gw, world.merchant.id, idem("k")
    with pytest.raises(AmountExceeded):
        await captures.capture(gw, m, payment.id, 100_001, idem=request)
    assert await idempotency.replay(gw, m, request) is None


async def test_after_a_crash_the_key_answers_with_what_became_of_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dies(*_: object, **__: object) -> object:
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(CardRail, "authorize", dies)
        with pytest.raises(Died):
            await create(world, idem("k"))
    with pytest.raises(IdempotencyInFlight):
        await create(world, idem("k"))
    await recover(world)
    world.clock.forward(seconds=60)
    answer = await create(world, idem("k"))
    assert b'"status":"requires_payment_method"' in answer.body
    assert (await create(world, idem("k"))).body == answer.body
    assert len(await world.rows("SELECT FROM gateway.payment")) == 1


async def test_a_slow_answer_never_replaces_the_one_given_after_the_lease(patient_world: World) -> None:
    world = patient_world
    world.acquirer.post("/settings", {"latency_ms": 800})
    slow = asyncio.create_task(create(world, idem("k")))
    await asyncio.sleep(0.4)
    world.clock.forward(seconds=60)
    given = await create(world, idem("k"))
    assert (await slow).body == given.body
    assert (await create(world, idem("k"))).body == given.body


async def test_an_unknown_outcome_is_an_answer_too(world: World) -> None:
    first = await create(world, idem("k"), "4000000000000077")
    assert b'"outcome":"unknown"' in first.body
    world.clock.forward(seconds=60)
    assert await recovery.recover_due(world.gw) == 1
    assert (await create(world, idem("k"))).body == first.body


async def test_keys_out_of_bounds_cannot_be_made(world: World) -> None:
    for key in ("", "k" * 256):
        with pytest.raises(Invalid):
            idem(key)
    assert world.gw.policy.lease > timedelta(0)


async def _only(world: World) -> payments.Payment:
    (payment,) = await payments.list_payments(world.gw, world.merchant.id)
    return payment
