"""Voids: giving back what was authorized and not captured, in part or whole; or calling off an unpaid payment.

At the bank a void is a reversal of the authorization (0420), for a part with the amount that stays (DE 95).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from banks.outcomes import Approved, Outcome
from gateway import doors, entries, exchange, store
from gateway.core import Gateway
from gateway.doors import Step
from gateway.errors import AmountExceeded, AuthorizationExpired, Invalid, OutcomeUnknown, StateConflict
from gateway.idempotency import Idem
from gateway.model import Ended, Kind, Operation, Payment
from gateway.states import AttemptState, PaymentStatus

_UNPAID = (PaymentStatus.REQUIRES_PAYMENT_METHOD, PaymentStatus.REQUIRES_ACTION)


async def void(
    gw: Gateway, merchant_id: UUID, payment_id: UUID, amount: int | None = None, idem: Idem | None = None
) -> Payment:
    """Void ``amount`` (None: all that is left) of the authorization; a payment nobody has paid is canceled.

    A decline or an unknown outcome is part of the payment returned. Raises ``PaymentNotFound``,
    ``AuthorizationExpired``, ``OutcomeUnknown``, ``StateConflict``, ``AmountExceeded``.
    """
    async with gw.engine.begin() as conn:
        before = await store.load(conn, payment_id, merchant_id, lock=True)
        claimed = doors.claim(gw, idem, merchant_id, "payment", payment_id)
        if before.status in _UNPAID and amount is None:
            step = Step(replace(before, ended=Ended.CANCELED))
            return (await doors.write(gw, conn, before, step, idem=idem, claimed=claimed)).payment
        amount = require_voidable(before, amount, gw.clock())
        authorized, attempt = before.authorization, before.current
        assert authorized is not None
        assert attempt is not None
        gw.rail(attempt.bank)
        ref = await exchange.reference(conn, attempt.bank, now=gw.clock())
        op = exchange.sending(gw, Kind.VOID, attempt.id, ref, amount, target=authorized.id)
        step = Step(before.with_operation(op), last=False)
        step = await doors.write(gw, conn, before, step, idem=idem, claimed=claimed)
    return await send(gw, step.payment, op, idem)


def require_voidable(payment: Payment, amount: int | None, now: datetime) -> int:
    """The amount to void; raises unless that much may be voided now."""
    if payment.unknown:
        raise OutcomeUnknown(payment.public_id, payment.unknown_since, payment.next_check_at)
    # A capture on its way may need what a void would free.
    if payment.attempt_state is not AttemptState.AUTHORIZED:
        raise StateConflict(payment.public_id, payment.status, "void")
    expires_at = payment.current and payment.current.hold_expires_at
    if expires_at and expires_at <= now:
        raise AuthorizationExpired(payment.public_id, expires_at)
    remaining = payment.totals.remaining
    wanted = remaining if amount is None else amount
    if wanted <= 0:
        raise Invalid("amount", "at least 1")
    if wanted > remaining:
        raise AmountExceeded(wanted, remaining, payment.currency)
    return wanted


async def send(
    gw: Gateway, payment: Payment, op: Operation, idem: Idem | None = None, *, repeat: bool = False
) -> Payment:
    """Send the void (``repeat``: again, under its own reference) and write what comes of it."""
    authorized = payment.operation(op.target_id) if op.target_id else None
    assert authorized is not None
    attempt = next(a for a in payment.attempts if a.id == op.attempt_id)
    stays = authorized.amount - payment.totals.voided - op.amount
    outcome = await gw.rail(attempt.bank).reverse(
        op.reference,
        original=authorized.reference,
        original_mti="0100",
        amount=authorized.amount,
        currency=payment.currency,
        replacement=stays or None,
        repeat=repeat,
    )
    return await answered(gw, payment, op.id, outcome, idem)


async def answered(
    gw: Gateway, payment: Payment, op_id: UUID, outcome: Outcome, idem: Idem | None = None
) -> Payment:
    """Write the outcome: the hold released if approved, else only the operation's state."""
    if isinstance(outcome, Approved):
        step = await doors.book(gw, payment, lambda p: _approved(gw, p, op_id, outcome), idem=idem)
        return step.payment if step else await doors.conclude(gw, payment.id, idem)
    return await doors.change(gw, payment.id, lambda p: _not_approved(gw, p, op_id, outcome), idem=idem)


def _not_approved(gw: Gateway, payment: Payment, op_id: UUID, outcome: Outcome) -> tuple[Step, ...]:
    op = payment.operation(op_id)
    if not op.open:
        return ()
    after = exchange.answered(op, outcome, now=gw.clock(), policy=gw.policy)
    return (Step(payment.with_operation(after)),)


def _approved(gw: Gateway, payment: Payment, op_id: UUID, outcome: Approved) -> Sequence[Step]:
    """The ways to book it: out of its hold; or the hold's time passed meanwhile, and all of it is free."""
    op, attempt = payment.operation(op_id), payment.current
    if not op.open or attempt is None:
        return ()
    # The bank repeats what the reversed message asked for; this operation's amount is the part given back.
    op = exchange.answered(op, outcome, now=gw.clock(), policy=gw.policy)
    after = payment.with_operation(op)
    timed_out = after.with_attempt(replace(attempt, expired_at=gw.clock()))
    id = gw.ids()
    return (
        Step(after, entries.voided(id, after, op)),
        Step(timed_out, entries.voided_late(id, after, op)),
    )
