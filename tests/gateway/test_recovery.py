"""When the bank does not answer, answers late, or we die in between: on the real simulator."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from banks.card.rail import CardRail
from banks.errors import SettlementRefused
from banks.outcomes import NotSent, NotSentReason, Outcome
from banks.references import BankReference
from gateway import captures, payments, recovery, refunds, settlement, voids
from gateway.core import Gateway
from gateway.errors import OutcomeUnknown
from gateway.model import Kind
from gateway.states import AttemptState, OperationState
from gateway.states import PaymentStatus as S
from tests.gateway.test_payments import BOOKED
from tests.gateway.world import GOOD, LATE, LOST_ANSWER, LOST_REQUEST, WRONG_AMOUNT, World, card

LOST_ANSWER_AMOUNT, LOST_REQUEST_AMOUNT, NEVER_ANSWERED_AMOUNT = 66_602, 66_601, 66_604


class Died(BaseException):
    """The process ends here: nothing after this line runs."""


async def recover(world: World) -> None:
    """Let time pass and the worker run, until nothing is due any more."""
    for _ in range(8):
        world.clock.forward(seconds=60)
        if not await recovery.recover_due(world.gw):
            return


@pytest.mark.parametrize("number", [LOST_REQUEST, LOST_ANSWER, LATE, WRONG_AMOUNT])
async def test_an_authorization_without_an_outcome_is_reversed(world: World, number: str) -> None:
    payment = await world.authorized(number=number)
    assert payment.status is S.PROCESSING
    assert payment.outcome == "unknown"
    assert payment.unknown_since is not None
    assert payment.next_check_at is not None
    with pytest.raises(OutcomeUnknown):
        await payments.confirm(world.gw, world.merchant.id, payment.id, card())
    await recover(world)
    payment = await world.get(payment)
    assert payment.status is S.REQUIRES_PAYMENT_METHOD
    assert payment.attempt_state is AttemptState.REVERSED
    assert payment.outcome is None
    assert await world.held() == 0
    assert world.acquirer.get("/book")["open"] == []
    paid = await payments.confirm(world.gw, world.merchant.id, payment.id, card(GOOD))
    assert paid.status is S.REQUIRES_CAPTURE
    await world.check()


async def test_a_wrong_amount_in_the_answer_is_a_conflict(world: World) -> None:
    payment = await world.authorized(number=WRONG_AMOUNT)
    assert payment.attempt_state is AttemptState.CONFLICTED


async def test_a_late_approval_does_not_revive_what_is_being_reversed(world: World) -> None:
    payment = await world.authorized(number=LATE)
    await recover(world)
    await asyncio.sleep(2.5)  # the late 0110 comes in now
    assert (await world.get(payment)).attempt_state is AttemptState.REVERSED


async def test_a_new_attempt_may_start_once_the_reversal_is_queued(world: World) -> None:
    payment = await world.authorized(number=LOST_ANSWER)
    world.acquirer.kill()
    world.clock.forward(seconds=60)
    await recovery.recover_due(world.gw)
    payment = await world.get(payment)
    assert payment.status is S.PROCESSING
    assert [op.kind for op in payment.operations] == [Kind.AUTHORIZE, Kind.REVERSAL]
    world.acquirer.start()
    paid = await payments.confirm(world.gw, world.merchant.id, payment.id, card(GOOD))
    assert paid.status is S.REQUIRES_CAPTURE
    await recover(world)
    payment = await world.get(payment)
    assert payment.status is S.REQUIRES_CAPTURE
    assert payment.operations[0].state is OperationState.REVERSED
    assert [left["left"] for left in world.acquirer.get("/book")["open"]] == [100_000]
    await world.check()


async def test_a_payment_that_never_reached_the_bank_can_be_tried_again(world: World) -> None:
    payment = await world.new()
    world.acquirer.kill()
    await asyncio.sleep(0.1)
    tried = await payments.confirm(world.gw, world.merchant.id, payment.id, card())
    assert tried.status is S.REQUIRES_PAYMENT_METHOD
    assert tried.attempts_used == 0
    assert tried.operations[0].state is OperationState.NOT_SENT
    world.acquirer.start()
    paid = await payments.confirm(world.gw, world.merchant.id, payment.id, card())
    assert paid.status is S.REQUIRES_CAPTURE
    await world.check()


async def test_a_bank_killed_in_the_middle_of_an_authorization(world: World) -> None:
    payment = await world.new()
    world.acquirer.post("/settings", {"latency_ms": 300})
    trying = asyncio.create_task(payments.confirm(world.gw, world.merchant.id, payment.id, card()))
    await asyncio.sleep(0.2)
    world.acquirer.kill()
    payment = await trying
    assert payment.status is S.PROCESSING
    assert payment.outcome == "unknown"
    await recover(world)
    assert (await world.get(payment)).status is S.PROCESSING
    world.acquirer.start()
    await recover(world)
    assert (await world.get(payment)).status is S.REQUIRES_PAYMENT_METHOD
    assert world.acquirer.get("/book")["open"] == []
    await world.check()


@pytest.mark.parametrize("amount", [LOST_ANSWER_AMOUNT, LOST_REQUEST_AMOUNT])
async def test_a_capture_without_an_answer_is_sent_again_and_booked_once(world: World, amount: int) -> None:
    payment = await world.authorized()
    payment = await captures.capture(world.gw, world.merchant.id, payment.id, amount)
    assert payment.status is S.PROCESSING
    assert payment.outcome == "unknown"
    assert await world.balances() == {}
    for act in (captures.capture, voids.void, refunds.refund):
        with pytest.raises(OutcomeUnknown):
            await act(world.gw, world.merchant.id, payment.id)
    await recover(world)
    payment = await world.get(payment)
    assert payment.status is S.PARTIALLY_CAPTURED
    assert payment.totals.captured == amount
    assert len(world.acquirer.entries(kind="capture")) == 1
    assert (await world.balances())["Assets:Receivable:meridian"] == amount
    await world.check()


@pytest.mark.parametrize("amount", [LOST_ANSWER_AMOUNT, LOST_REQUEST_AMOUNT])
async def test_a_refund_without_an_answer_stays_in_transit_until_it_is_known(
    world: World, amount: int
) -> None:
    payment = await world.captured(200_000)
    refund = await refunds.refund(world.gw, world.merchant.id, payment.id, amount)
    assert (refund.status, refund.outcome) == ("pending", "unknown")
    assert (await world.balances())["Liabilities:InTransit:Refunds:meridian"] == amount
    assert (await world.get(payment)).status is S.PROCESSING
    with pytest.raises(OutcomeUnknown):
        await refunds.refund(world.gw, world.merchant.id, payment.id, 1)
    await recover(world)
    refund = await refunds.get_refund(world.gw, world.merchant.id, refund.id)
    assert refund.status == "succeeded"
    assert (await world.get(payment)).status is S.SUCCEEDED
    sums = await world.balances()
    assert "Liabilities:InTransit:Refunds:meridian" not in sums
    assert sums["Assets:Receivable:meridian"] == 200_000 - amount
    assert len(world.acquirer.entries(kind="refund")) == 1
    await world.check()


async def test_past_the_horizon_a_person_must_look_and_the_file_can_still_tell(world: World) -> None:
    payment = await world.authorized()
    await captures.capture(world.gw, world.merchant.id, payment.id, NEVER_ANSWERED_AMOUNT)
    await recover(world)
    (item,) = await recovery.review_queue(world.gw)
    assert item.operation.kind is Kind.CAPTURE
    assert (await world.get(payment)).status is S.PROCESSING
    (file,) = await world.settle()
    await settlement.import_settlement(world.gw, file, "today")
    payment = await world.get(payment)
    assert payment.status is S.PARTIALLY_CAPTURED
    assert payment.operation(item.operation.id).state is OperationState.RESOLVED_BY_FILE
    assert await recovery.review_queue(world.gw) == []
    assert "Assets:Receivable:meridian" not in await world.balances()
    await world.check()


async def test_a_refund_can_be_resolved_by_the_file_too(world: World) -> None:
    payment = await world.captured(200_000)
    refund = await refunds.refund(world.gw, world.merchant.id, payment.id, NEVER_ANSWERED_AMOUNT)
    (file,) = await world.settle()
    await settlement.import_settlement(world.gw, file, "today")
    refund = await refunds.get_refund(world.gw, world.merchant.id, refund.id)
    assert refund.status == "succeeded"
    sums = await world.balances()
    assert "Liabilities:InTransit:Refunds:meridian" not in sums
    assert "Assets:Receivable:meridian" not in sums
    await world.check()


async def test_a_refused_file_resolves_nothing(world: World) -> None:
    payment = await world.authorized()
    await captures.capture(world.gw, world.merchant.id, payment.id, NEVER_ANSWERED_AMOUNT)
    (file,) = await world.settle()
    stranger = file.replace(b"66604", b"66614", 1)
    with pytest.raises(SettlementRefused):
        await settlement.import_settlement(world.gw, stranger, "forged")
    assert (await world.get(payment)).status is S.PROCESSING
    assert await world.balances() == {}


async def test_a_capture_the_bank_books_after_the_holds_time_is_booked_too(world: World) -> None:
    payment = await world.authorized()
    await captures.capture(world.gw, world.merchant.id, payment.id, LOST_ANSWER_AMOUNT)
    world.clock.forward(days=8)
    assert await recovery.expire_due(world.gw) == 0
    await recovery.recover_due(world.gw)
    payment = await world.get(payment)
    assert payment.status is S.SUCCEEDED
    assert payment.totals.captured == LOST_ANSWER_AMOUNT
    assert await world.held() == 0
    await world.check()


async def test_a_void_without_an_answer_is_sent_again(world: World) -> None:
    payment = await world.authorized(66_702)  # the reversal of this amount is booked, its answer lost
    payment = await voids.void(world.gw, world.merchant.id, payment.id)
    assert payment.status is S.PROCESSING
    await recover(world)
    assert (await world.get(payment)).status is S.CANCELED
    assert await world.held() == 0
    assert world.acquirer.get("/book")["open"] == []
    await world.check()


async def test_an_automatic_capture_that_could_not_be_sent_is_kept_and_sent(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    payment = await world.new(manual=False)
    real = CardRail.capture

    async def cut(*_: object, **__: object) -> object:
        world.acquirer.kill()
        await asyncio.sleep(0.1)
        return await real(*_, **__)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(CardRail, "capture", cut)
        payment = await payments.confirm(world.gw, world.merchant.id, payment.id, card())
    assert payment.status is S.PROCESSING
    world.acquirer.start()
    await recover(world)
    assert (await world.get(payment)).status is S.SUCCEEDED
    assert await world.balances() == BOOKED
    await world.check()


@pytest.mark.parametrize("message", ["authorize", "capture", "refund", "reverse"])
@pytest.mark.parametrize("sent", [False, True])
async def test_a_process_that_dies_around_the_message_loses_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, message: str, sent: bool
) -> None:
    """Killed after the row says ``sending``: just before the message, and just after the bank's answer."""
    real = getattr(CardRail, message)

    async def dies(*args: object, **facts: object) -> object:
        if sent:
            await real(*args, **facts)
        raise Died

    m = world.merchant.id
    payment = await (world.captured() if message == "refund" else world.new())
    if message in ("capture", "reverse"):
        payment = await payments.confirm(world.gw, m, payment.id, card())
    gw = world.gw
    work = {
        "authorize": lambda: payments.confirm(gw, m, payment.id, card()),
        "capture": lambda: captures.capture(gw, m, payment.id),
        "refund": lambda: refunds.refund(gw, m, payment.id),
        "reverse": lambda: voids.void(gw, m, payment.id),
    }
    with monkeypatch.context() as patch:
        patch.setattr(CardRail, message, dies)
        with pytest.raises(Died):
            await work[message]()
    assert await recovery.recover_due(world.gw) == 0  # the lease is the sender's still
    await recover(world)
    ends = {
        "authorize": S.REQUIRES_PAYMENT_METHOD,
        "capture": S.SUCCEEDED,
        "refund": S.SUCCEEDED,
        "reverse": S.CANCELED,
    }
    payment = await world.get(payment)
    assert payment.status is ends[message]
    assert not payment.unknown
    assert "Liabilities:InTransit:Refunds:meridian" not in await world.balances()
    approved = world.acquirer.entries(kind="capture", code="00")
    booked = (await world.balances()).get("Income:Fees:card", 0)
    assert bool(approved) == bool(booked)
    assert world.acquirer.get("/book")["open"] == []
    await world.check()


async def test_two_workers_do_the_work_once(world: World) -> None:
    made = [await world.authorized(number=LOST_ANSWER) for _ in range(4)]
    world.clock.forward(seconds=60)
    counts = await asyncio.gather(*(recovery.recover_due(world.gw) for _ in range(3)))
    assert sum(counts) == 4
    for payment in made:
        assert (await world.get(payment)).status is S.REQUIRES_PAYMENT_METHOD
    assert len(world.acquirer.entries(kind="reversal")) == 4
    await world.check()


async def test_the_outcome_of_a_frozen_worker_changes_nothing_twice(world: World) -> None:
    """It wakes after its lease, when another has long finished its work."""
    payment = await world.authorized()
    payment = await captures.capture(world.gw, world.merchant.id, payment.id, LOST_ANSWER_AMOUNT)
    op = payment.operations[-1]
    world.clock.forward(seconds=60)
    await asyncio.gather(*(recovery.recover(world.gw, payment.id, op.id) for _ in range(4)))
    assert (await world.balances())["Assets:Receivable:meridian"] == LOST_ANSWER_AMOUNT
    assert len(await world.journals(kind="capture")) == 1
    await world.check()


async def test_a_refund_not_sent_by_a_frozen_process_that_another_has_sent_stays_in_transit(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It wakes after its lease and finds no connection; meanwhile the bank has paid the customer."""
    payment = await world.captured(200_000)
    real = CardRail.refund

    async def frozen(rail: CardRail, ref: BankReference, **facts: Any) -> Outcome:
        with monkeypatch.context() as patch:
            patch.setattr(CardRail, "refund", real)
            world.clock.forward(seconds=60)
            assert await recovery.recover_due(world.gw) == 1
        return NotSent(ref, NotSentReason.DISCONNECTED)

    with monkeypatch.context() as patch:
        patch.setattr(CardRail, "refund", frozen)
        refund = await refunds.refund(world.gw, world.merchant.id, payment.id, LOST_ANSWER_AMOUNT)
    assert (refund.status, refund.outcome) == ("pending", "unknown")
    assert await world.journals(kind="refund_failure") == []
    await recover(world)
    assert (await refunds.get_refund(world.gw, world.merchant.id, refund.id)).status == "succeeded"
    sums = await world.balances()
    assert "Liabilities:InTransit:Refunds:meridian" not in sums
    assert sums["Assets:Receivable:meridian"] == 200_000 - LOST_ANSWER_AMOUNT
    await world.check()


async def test_an_authorization_is_not_sent_once_its_lease_has_passed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that froze before its message: the message would come after its own reversal."""
    payment = await world.new()
    real = Gateway.rail

    def frozen(gw: Gateway, bank: str) -> CardRail:
        # The second look at the rail is the one that sends.
        calls.append(bank)
        if len(calls) == 2:
            world.clock.forward(seconds=60)
        return real(gw, bank)

    calls: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(Gateway, "rail", frozen)
        payment = await payments.confirm(world.gw, world.merchant.id, payment.id, card())
    assert payment.status is S.PROCESSING
    assert world.acquirer.entries(kind="authorization") == []
    await recover(world)
    assert (await world.get(payment)).status is S.REQUIRES_PAYMENT_METHOD
    await world.check()


def test_the_backoff_ends_in_the_review_queue(world: World) -> None:
    policy = world.gw.policy
    assert [policy.pause(n) for n in (1, 2, 3, 4)] == [timedelta(seconds=s) for s in (5, 10, 20, 20)]
    assert not policy.exhausted(3)
    assert policy.exhausted(4)
