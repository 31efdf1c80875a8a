"""Refunds: captured money going back to the customer, out of the merchant's funds.

The money is in transit from before the message is sent until the bank has answered, however long that takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from sqlalchemy import select

from banks.outcomes import Approved, Outcome
from banks.settlement import expected
from gateway import doors, entries, exchange, funds, idempotency, store, tables
from gateway.core import Gateway, driver
from gateway.doors import Step
from gateway.entries import Split
from gateway.errors import AmountExceeded, Invalid, OutcomeUnknown, StateConflict
from gateway.fees import FREE, Charge, give_back
from gateway.idempotency import Idem
from gateway.model import Kind, Operation, Payment, Refund
from ledger.read import balance


async def refund(
    gw: Gateway,
    merchant_id: UUID,
    payment_id: UUID,
    amount: int | None = None,
    reason: str = "",
    idem: Idem | None = None,
) -> Refund:
    """Refund ``amount`` (None: all that is left) to the card that paid.

    The refund returned is succeeded, failed, or pending while the outcome is unknown. Raises
    ``PaymentNotFound``, ``OutcomeUnknown``, ``StateConflict``, ``AmountExceeded``.
    """
    if len(reason) > 200 or not reason.isprintable():
        raise Invalid("reason", "at most 200 printable characters")
    async with gw.engine.begin() as conn:
        payment = await store.load(conn, payment_id, merchant_id)
        wanted = require_refundable(payment, amount)
        assert payment.current is not None
        gw.rail(payment.current.bank)
        ref = await exchange.reference(conn, payment.current.bank, now=gw.clock())
        path = entries.available(payment.owner)
        funds_now = await balance(await driver(conn), payment.book_id, path, payment.currency)
    op = exchange.sending(gw, Kind.REFUND, payment.current.id, ref, wanted)
    known = funds_now.available if funds_now else 0
    start = _Start(gw.ids(), op, reason, max(0, known), all_left=amount is None)
    claimed = doors.claim(gw, idem, merchant_id, "refund", start.id)
    step = await doors.book(gw, payment, lambda p: _started(gw, p, start), idem=idem, claimed=claimed)
    assert step is not None
    assert step.refund is not None
    return await send(gw, step.payment, step.refund, idem)


@dataclass(frozen=True, slots=True)
class _Start:
    """A refund about to begin. ``available``: what the merchant had payable when last seen."""

    id: UUID
    op: Operation
    reason: str
    available: int
    all_left: bool


def require_refundable(payment: Payment, amount: int | None) -> int:
    """The amount to refund; raises unless that much may be refunded now."""
    if payment.unknown:
        raise OutcomeUnknown(payment.public_id, payment.unknown_since, payment.next_check_at)
    refundable = payment.totals.refundable
    wanted = refundable if amount is None else amount
    if payment.totals.captured == 0 or (refundable == 0 and amount is None):
        raise StateConflict(payment.public_id, payment.status, "refund")
    if wanted <= 0:
        raise Invalid("amount", "at least 1")
    if wanted > refundable:
        raise AmountExceeded(wanted, refundable, payment.currency)
    return wanted


def capture_to_refund(payment: Payment, amount: int) -> Operation | None:
    """A capture of which that much was not refunded yet; None if it takes several, then the card is named."""
    captured = [op for op in payment.operations if op.kind is Kind.CAPTURE and op.done]
    for capture in captured:
        used = sum(
            op.amount
            for op in payment.operations
            if op.kind is Kind.REFUND and op.target_id == capture.id and (op.open or op.done)
        )
        if capture.amount - used >= amount:
            return capture
    return None


def _started(gw: Gateway, payment: Payment, start: _Start) -> Sequence[Step]:
    """The ways to take the money: from this payment's funds not yet payable, then from what is payable, then
    as the merchant's debt. The second and third way are for a merchant with less payable than it takes.
    """
    require_refundable(payment, None if start.all_left else start.op.amount)
    if start.op.amount > payment.totals.refundable:
        raise AmountExceeded(start.op.amount, payment.totals.refundable, payment.currency)
    taken = funds.take(payment.funds, start.op.amount)
    # Of the payment as it is now: another refund may have used up the capture meanwhile.
    capture = capture_to_refund(payment, start.op.amount)
    op = replace(start.op, target_id=capture.id if capture else None)
    after = payment.with_operation(op)
    rest = start.op.amount - taken.amount
    steps: list[Step] = []
    for from_available in dict.fromkeys((rest, min(rest, start.available), 0)):
        split = Split(taken.amount, from_available, rest - from_available)
        refund = Refund(
            id=start.id,
            payment_id=payment.id,
            merchant_id=payment.merchant_id,
            currency=payment.currency,
            operation=op,
            reason=start.reason,
            from_pending=split.pending,
            from_available=split.available,
            from_debt=split.debt,
            created_at=op.created_at,
        )
        extra = (*taken.statements, store.refund_insertion(refund))
        journal = entries.refund_sent(gw.ids(), after, op, split)
        steps.append(Step(replace(after, funds=taken.after), journal, {}, extra, refund, last=False))
    return steps


async def send(gw: Gateway, payment: Payment, refund: Refund, idem: Idem | None = None) -> Refund:
    """Send the refund, or send it again: the bank knows it by its reference. Writes what comes of it."""
    op = refund.operation
    attempt = next(a for a in payment.attempts if a.id == op.attempt_id)
    pan, expiry = None, None
    if op.target_id is None:
        async with gw.engine.connect() as conn:
            card = await gw.vault.reveal(conn, payment.merchant_id, attempt.token)
        pan, expiry = card.pan.reveal(), card.expiry
    outcome = await gw.rail(attempt.bank).refund(
        op.reference,
        amount=op.amount,
        currency=payment.currency,
        original=payment.operation(op.target_id).reference if op.target_id else None,
        pan=pan,
        expiry=expiry,
    )
    return await answered(gw, payment, refund, outcome, idem)


async def answered(
    gw: Gateway, payment: Payment, refund: Refund, outcome: Outcome, idem: Idem | None = None
) -> Refund:
    """Write the outcome: money arrived, money back to the merchant, or still in transit."""
    op = refund.operation
    if exchange.answered(op, outcome, now=gw.clock(), policy=gw.policy).open:
        known = await doors.change_refund(
            gw, payment.id, lambda p: _unanswered(gw, p, refund, outcome), idem=idem
        )
    else:
        step = await doors.book(gw, payment, lambda p: _ended(gw, p, refund, outcome), idem=idem)
        known = step.refund if step else None
    return known or await _conclude(gw, refund, idem)


async def _conclude(gw: Gateway, refund: Refund, idem: Idem | None) -> Refund:
    """Someone else has written the outcome already: answer the request with the refund as it is."""
    async with gw.engine.begin() as conn:
        now = await store.load_refund(conn, refund.id, refund.merchant_id)
        await idempotency.store_answer(conn, idem, refund.merchant_id, now)
    return now


def _ended(gw: Gateway, payment: Payment, refund: Refund, outcome: Outcome) -> Sequence[Step]:
    op = payment.operation(refund.operation.id)
    op = exchange.answered(op, outcome, now=gw.clock(), policy=gw.policy)
    if op.open:  # not sent by us, but another process has tried since: only the bank knows
        return ()
    decide = completed if isinstance(outcome, Approved) else failed
    return decide(gw, payment, refund, op)


def _unanswered(gw: Gateway, payment: Payment, refund: Refund, outcome: Outcome) -> tuple[Step, ...]:
    op = payment.operation(refund.operation.id)
    if not op.open:
        return ()
    after = exchange.answered(op, outcome, now=gw.clock(), policy=gw.policy)
    return (Step(payment.with_operation(after), refund=replace(refund, operation=after)),)


def completed(gw: Gateway, payment: Payment, refund: Refund, op: Operation) -> Sequence[Step]:
    """The bank has paid the customer. ``op`` is in its new state."""
    if not payment.operation(op.id).open:
        return ()
    assert payment.current is not None
    returned = charge_returned(payment, op.amount)
    op = replace(op, charge=returned)
    after = payment.with_operation(op)
    item = expected(
        bank=payment.current.bank,
        book_id=payment.book_id,
        rrn=op.reference.rrn,
        kind="refund",
        amount=op.amount,
        currency=payment.currency,
        merchant_id=payment.owner,
        operation_id=op.id,
        booked_on=gw.clock().date(),
    )
    paid, id = replace(refund, operation=op), gw.ids()
    # What this refund made the merchant owe us, unless it has been paid back meanwhile.
    owed = min(refund.from_debt, returned.total)
    return tuple(
        Step(
            after,
            entries.refund_completed(id, after, op, returned, debt_repaid=repaid),
            {"expected": (item,)},
            refund=paid,
        )
        for repaid in dict.fromkeys((owed, 0))
    )


def charge_returned(payment: Payment, amount: int) -> Charge:
    """The fee and GST handed back with ``amount``, if that is what was agreed."""
    if not payment.fee_returned:
        return FREE
    sums = payment.totals
    return give_back(sums.charge, sums.captured, sums.refunded + amount, sums.charge_returned)


def failed(gw: Gateway, payment: Payment, refund: Refund, op: Operation) -> Sequence[Step]:
    """The bank has not paid the customer: the money goes back where it came from. ``op`` is in its new state."""
    if not payment.operation(op.id).open:
        return ()
    given = funds.give_back(payment.funds, refund.from_pending)
    after = replace(payment.with_operation(op), funds=given.after)
    payable = refund.from_available + refund.from_pending - given.amount
    unpaid, id = replace(refund, operation=op), gw.ids()
    splits = (
        Split(given.amount, payable, refund.from_debt),
        # The debt was paid out of later funds meanwhile: then this money is theirs.
        Split(given.amount, payable + refund.from_debt, 0),
    )
    return tuple(
        Step(after, entries.refund_failed(id, after, op, split), {}, given.statements, unpaid)
        for split in dict.fromkeys(splits)
    )


async def get_refund(gw: Gateway, merchant_id: UUID | None, refund_id: UUID) -> Refund:
    """``merchant_id`` None: whosever it is. Raises ``RefundNotFound``."""
    async with gw.engine.connect() as conn:
        return await store.load_refund(conn, refund_id, merchant_id)


async def list_refunds(gw: Gateway, merchant_id: UUID, payment_id: UUID) -> list[Refund]:
    """A payment's refunds, oldest first."""
    r = tables.refund
    query = select(r).where(r.c.payment_id == payment_id, r.c.merchant_id == merchant_id).order_by(r.c.id)
    async with gw.engine.connect() as conn:
        return await store.refunds(conn, query)
