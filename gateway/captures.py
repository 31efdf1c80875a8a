"""Captures: taking what was authorized, in part or whole, once or several times, finally or not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from banks.outcomes import Approved, Outcome
from banks.settlement import expected
from gateway import doors, entries, exchange, store
from gateway.core import Gateway
from gateway.doors import Step
from gateway.errors import AmountExceeded, AuthorizationExpired, Invalid, OutcomeUnknown, StateConflict
from gateway.fees import Charge, charge_more
from gateway.idempotency import Idem
from gateway.model import CaptureMethod, Kind, Operation, Payment
from gateway.states import AttemptState
from gateway.store import Rows


async def capture(
    gw: Gateway,
    merchant_id: UUID,
    payment_id: UUID,
    amount: int | None = None,
    final: bool = False,
    idem: Idem | None = None,
) -> Payment:
    """Capture ``amount`` (None: all that is left); ``final`` frees the rest.

    A decline or an unknown outcome is part of the payment returned. Raises ``PaymentNotFound``,
    ``AuthorizationExpired``, ``OutcomeUnknown``, ``StateConflict``, ``AmountExceeded``.
    """
    async with gw.engine.begin() as conn:
        before = await store.load(conn, payment_id, merchant_id, lock=True)
        amount = require_capturable(before, amount, gw.clock())
        authorized, attempt = before.authorization, before.current
        assert authorized is not None
        assert attempt is not None
        gw.rail(attempt.bank)
        ref = await exchange.reference(conn, attempt.bank, now=gw.clock())
        op = exchange.sending(gw, Kind.CAPTURE, attempt.id, ref, amount, target=authorized.id, final=final)
        claimed = doors.claim(gw, idem, merchant_id, "payment", payment_id)
        step = Step(before.with_operation(op), last=False)
        step = await doors.write(gw, conn, before, step, idem=idem, claimed=claimed)
    return await send(gw, step.payment, op, idem)


def require_capturable(payment: Payment, amount: int | None, now: datetime) -> int:
    """The amount to capture; raises unless that much may be captured now."""
    if payment.unknown:
        raise OutcomeUnknown(payment.public_id, payment.unknown_since, payment.next_check_at)
    if payment.attempt_state not in (AttemptState.AUTHORIZED, AttemptState.CAPTURING):
        raise StateConflict(payment.public_id, payment.status, "capture")
    expires_at = payment.current and payment.current.hold_expires_at
    if expires_at and expires_at <= now:
        raise AuthorizationExpired(payment.public_id, expires_at)
    allowed = payment.totals.capturable(payment.tolerance_bps)
    wanted = payment.totals.remaining if amount is None else amount
    if allowed == 0:
        raise StateConflict(payment.public_id, payment.status, "capture")
    if wanted <= 0:
        raise Invalid("amount", "at least 1")
    if wanted > allowed:
        raise AmountExceeded(wanted, allowed, payment.currency)
    return wanted


async def send(
    gw: Gateway, payment: Payment, op: Operation, idem: Idem | None = None, *, repeat: bool = False
) -> Payment:
    """Send the capture (``repeat``: again, under its own reference) and write what comes of it."""
    authorized = payment.operation(op.target_id) if op.target_id else None
    assert authorized is not None
    attempt = next(a for a in payment.attempts if a.id == op.attempt_id)
    outcome = await gw.rail(attempt.bank).capture(
        op.reference,
        amount=op.amount,
        currency=payment.currency,
        original=authorized.reference,
        authorization_code=authorized.authorization_code,
        final=op.final,
        repeat=repeat,
    )
    return await answered(gw, payment, op.id, outcome, idem)


async def answered(
    gw: Gateway, payment: Payment, op_id: UUID, outcome: Outcome, idem: Idem | None = None
) -> Payment:
    """Write the outcome: booked if approved, else only the operation's state."""
    if isinstance(outcome, Approved):
        step = await doors.book(gw, payment, lambda p: approved(gw, p, op_id, outcome), idem=idem)
        return step.payment if step else await doors.conclude(gw, payment.id, idem)
    return await doors.change(gw, payment.id, lambda p: _not_approved(gw, p, op_id, outcome), idem=idem)


def _not_approved(gw: Gateway, payment: Payment, op_id: UUID, outcome: Outcome) -> tuple[Step, ...]:
    op = payment.operation(op_id)
    if not op.open:
        return ()
    # Nobody asks for an automatic capture again, so one that was not sent must be kept.
    forwarded = payment.capture_method is CaptureMethod.AUTOMATIC
    after = exchange.answered(op, outcome, now=gw.clock(), policy=gw.policy, forwarded=forwarded)
    return (Step(payment.with_operation(after)),)


def approved(gw: Gateway, payment: Payment, op_id: UUID, outcome: Approved) -> Iterable[Step]:
    op = payment.operation(op_id)
    if not op.open:
        return ()
    return booked(gw, payment, exchange.answered(op, outcome, now=gw.clock(), policy=gw.policy))


def booked(gw: Gateway, payment: Payment, op: Operation) -> Iterator[Step]:
    """The ways to book a capture the bank has done: out of its hold; the hold's time passed; the hold gone.

    ``op`` is already in its new state; the fee depends on what this payment has captured before.
    """
    charge = charge_more(payment.plan, payment.totals.captured, op.amount)
    op = replace(op, charge=charge)
    after = payment.with_operation(op)
    attempt = payment.current
    assert attempt is not None
    adds = _fund_and_item(gw, payment, op, charge)
    id = gw.ids()
    yield Step(after, entries.captured(id, after, op, charge), adds)
    timed_out = after.with_attempt(replace(attempt, expired_at=attempt.expired_at or gw.clock()))
    yield Step(timed_out, entries.captured_late(id, after, op, charge, held=True), adds)
    yield Step(after, entries.captured_late(id, after, op, charge, held=False), adds)


def _fund_and_item(gw: Gateway, payment: Payment, op: Operation, charge: Charge) -> Rows:
    """What the capture leaves to the merchant, and what the bank shall settle."""
    assert payment.current is not None
    now = gw.clock()
    fund = {
        "operation_id": op.id,
        "payment_id": payment.id,
        "merchant_id": payment.merchant_id,
        "book_id": payment.book_id,
        "currency": payment.currency,
        "net": entries.net(op.amount, charge),
        "taken": 0,
        "release_id": None,
        "created_at": now,
    }
    item = expected(
        bank=payment.current.bank,
        book_id=payment.book_id,
        rrn=op.reference.rrn,
        kind="capture",
        amount=op.amount,
        currency=payment.currency,
        merchant_id=payment.owner,
        operation_id=op.id,
        booked_on=now.date(),
    )
    return {"fund": (fund,), "expected": (item,)}
