"""What no one waits for any more: outcomes that are unknown, messages to send again, time that has run out.

Work is claimed in batches, each claim for a lease; every step is guarded by the state it leaves, so a worker may
die anywhere, and two may do the same work, and the outcome is the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

import structlog
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from banks.outcomes import Approved, Declined, Outcome
from gateway import captures, doors, entries, exchange, refunds, store, tables, voids
from gateway.core import Gateway
from gateway.doors import Step
from gateway.errors import GatewayError
from gateway.model import Attempt, Ended, Kind, Operation, Payment
from gateway.states import AttemptState, OperationState, PaymentStatus
from ledger.errors import LedgerError
from ledger.points import RECOVERY_CLAIMED, reach

log = structlog.get_logger(__name__)

# ISO 8583 response code 25: the bank has no such message, so there is nothing to reverse.
_ORIGINAL_NOT_FOUND = "25"
_AT_ONCE = 16

_CLAIM = text("""
UPDATE gateway.operation SET next_check_at = :until
 WHERE id IN (SELECT id FROM gateway.operation
               WHERE next_check_at <= :now AND kind = ANY (CAST(:kinds AS text[]))
               ORDER BY next_check_at LIMIT :limit FOR UPDATE SKIP LOCKED)
RETURNING id, payment_id""")


@dataclass(frozen=True, slots=True)
class ReviewItem:
    """An operation whose outcome a person must find out."""

    payment_id: UUID
    operation: Operation


async def recover_due(gw: Gateway, limit: int = 100) -> int:
    """Look after operations that are due; how many. Authorizations are reversed, everything else is sent again."""
    return await _recover(gw, list(Kind), limit)


async def send_reversals_due(gw: Gateway, limit: int = 100) -> int:
    """As ``recover_due``, for queued reversals alone: they keep a customer from trying again."""
    return await _recover(gw, [Kind.REVERSAL], limit)


async def _recover(gw: Gateway, kinds: Iterable[Kind], limit: int) -> int:
    now = gw.clock()
    params = {
        "now": now,
        "until": now + gw.policy.lease,
        "kinds": [kind.value for kind in kinds],
        "limit": limit,
    }
    async with gw.engine.begin() as conn:
        claimed = (await conn.execute(_CLAIM, params)).all()
    if claimed:
        reach(RECOVERY_CLAIMED)
    # Side by side: a bank that is silent must not keep one waiting for the other until the claims run out.
    turns = asyncio.Semaphore(_AT_ONCE)
    tries = (_try(gw, payment_id, op_id, turns) for op_id, payment_id in claimed)
    for result in await asyncio.gather(*tries, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
    return len(claimed)


async def _try(gw: Gateway, payment_id: UUID, op_id: UUID, turns: asyncio.Semaphore) -> None:
    """One operation; what goes wrong with it must not keep the others waiting, its lease brings it back."""
    try:
        async with turns:
            await recover(gw, payment_id, op_id)
    except (GatewayError, LedgerError) as error:
        log.warning("recovery_failed", operation=str(op_id), code=error.code, error=str(error))


async def recover(gw: Gateway, payment_id: UUID, op_id: UUID) -> None:
    """Take the next step to the outcome of one operation."""
    async with gw.engine.connect() as conn:
        payment = await store.load(conn, payment_id)
    op = payment.operation(op_id)
    if not op.open:
        return
    if op.state is OperationState.SENDING and op.kind is not Kind.REVERSAL:
        # Whoever sent it is gone, or never had it sent: nobody knows, so it is unknown.
        payment = await doors.change(gw, payment_id, lambda p: _abandoned(gw, p, op_id))
    payment = await doors.change(gw, payment_id, lambda p: _another_try(p, op_id))
    op = payment.operation(op_id)
    if not op.open:
        return
    match op.kind:
        case Kind.AUTHORIZE:
            await _reverse(gw, payment, op)
        case Kind.REVERSAL:
            await _send_reversal(gw, payment, op)
        case Kind.CAPTURE:
            await captures.send(gw, payment, op, repeat=True)
        case Kind.VOID:
            await voids.send(gw, payment, op, repeat=True)
        case Kind.REFUND:
            await _send_refund(gw, payment, op)
        case Kind.SALE | Kind.INCREMENT | Kind.ENQUIRY:
            log.error("recovery_unsupported", operation=op.public_id, kind=op.kind)


def _abandoned(gw: Gateway, payment: Payment, op_id: UUID) -> tuple[Step, ...]:
    op = payment.operation(op_id)
    if op.state is not OperationState.SENDING:
        return ()
    after = exchange.unanswered(op, "the sender was gone", now=gw.clock(), policy=gw.policy)
    # Due at once: the claim's lease goes on.
    return (Step(payment.with_operation(replace(after, next_check_at=op.next_check_at))),)


def _another_try(payment: Payment, op_id: UUID) -> tuple[Step, ...]:
    op = payment.operation(op_id)
    return (Step(payment.with_operation(replace(op, tries=op.tries + 1))),) if op.open else ()


async def _reverse(gw: Gateway, payment: Payment, authorized: Operation) -> None:
    """Queue the reversal durably, then send it. From here on a late approval does not revive the attempt."""
    async with gw.engine.begin() as conn:
        before = await store.load(conn, payment.id, lock=True)
        reversal = _reversal_of(before, authorized.id)
        if reversal is None:
            attempt = next(a for a in before.attempts if a.id == authorized.attempt_id)
            ref = await exchange.reference(conn, attempt.bank, now=gw.clock())
            reversal = exchange.sending(
                gw, Kind.REVERSAL, attempt.id, ref, authorized.amount, target=authorized.id
            )
            # The reversal is what is due now.
            waiting = replace(before.operation(authorized.id), next_check_at=None)
            step = Step(before.with_operation(waiting).with_operation(reversal))
            before = (await doors.write(gw, conn, before, step)).payment
    await _send_reversal(gw, before, reversal)


def _reversal_of(payment: Payment, op_id: UUID) -> Operation | None:
    return next((o for o in payment.operations if o.kind is Kind.REVERSAL and o.target_id == op_id), None)


async def _send_reversal(gw: Gateway, payment: Payment, reversal: Operation) -> None:
    if reversal.target_id is None or not reversal.open:
        return
    authorized = payment.operation(reversal.target_id)
    attempt = next(a for a in payment.attempts if a.id == reversal.attempt_id)
    outcome = await gw.rail(attempt.bank).reverse(
        reversal.reference,
        original=authorized.reference,
        original_mti="0100",
        amount=authorized.amount,
        currency=payment.currency,
        repeat=reversal.tries > 1,
    )
    await doors.change(gw, payment.id, lambda p: _reversal_answered(gw, p, reversal.id, outcome))


def _reversal_answered(gw: Gateway, payment: Payment, op_id: UUID, outcome: Outcome) -> tuple[Step, ...]:
    """Reversed, or the bank never had it: the attempt is over. Any other refusal needs a person."""
    op, now = payment.operation(op_id), gw.clock()
    if not op.open or op.target_id is None:
        return ()
    authorized = payment.operation(op.target_id)
    if isinstance(outcome, Declined) and outcome.response_code != _ORIGINAL_NOT_FOUND:
        waiting = exchange.unanswered(op, outcome.reason, now=now, policy=gw.policy)
        refused = replace(waiting, response_code=outcome.response_code, review=True)
        return (Step(payment.with_operation(refused)),)
    after = payment.with_operation(exchange.answered(op, outcome, now=now, policy=gw.policy, forwarded=True))
    if isinstance(outcome, Approved | Declined):
        state = OperationState.REVERSED if isinstance(outcome, Approved) else OperationState.NOT_FOUND
        after = after.with_operation(exchange.ended(authorized, state, now))
    return (Step(after),)


async def _send_refund(gw: Gateway, payment: Payment, op: Operation) -> None:
    r = tables.refund
    async with gw.engine.connect() as conn:
        (refund,) = await store.refunds(conn, select(r).where(r.c.operation_id == op.id))
    await refunds.send(gw, payment, refund)


async def expire_due(gw: Gateway, limit: int = 100) -> int:
    """Book what time has ended: payments nobody has paid, holds past their own time. How many."""
    return await _expire_unpaid(gw, limit) + await _expire_holds(gw, limit)


async def _expire_unpaid(gw: Gateway, limit: int) -> int:
    p, now = tables.payment, gw.clock()
    waiting = (PaymentStatus.REQUIRES_PAYMENT_METHOD, PaymentStatus.REQUIRES_ACTION)
    query = (
        select(p)
        .where(p.c.expires_at <= now, p.c.status.in_(waiting))
        .order_by(p.c.expires_at)
        .limit(limit)
        .with_for_update(skip_locked=True, key_share=True)
    )
    async with gw.engine.begin() as conn:
        due = await store.payments(conn, query)
        for payment in due:
            await doors.write(gw, conn, payment, Step(replace(payment, ended=Ended.EXPIRED)))
    return len(due)


async def _expire_holds(gw: Gateway, limit: int) -> int:
    async with gw.engine.connect() as conn:
        due = await _holds_due(conn, gw.clock(), limit)
    return sum([await _expire_hold(gw, payment) for payment in due])


async def _expire_hold(gw: Gateway, payment: Payment) -> bool:
    try:
        return await doors.book(gw, payment, lambda p: _hold_expired(gw, p)) is not None
    except (GatewayError, LedgerError) as error:
        log.warning("expiry_failed", payment=payment.public_id, code=error.code, error=str(error))
        return False


async def _holds_due(conn: AsyncConnection, now: datetime, limit: int) -> list[Payment]:
    a, p = tables.attempt, tables.payment
    due = (
        select(a.c.payment_id)
        .where(a.c.hold_expires_at <= now, a.c.state == AttemptState.AUTHORIZED)
        .order_by(a.c.hold_expires_at)
        .limit(limit)
    )
    return await store.payments(conn, select(p).where(p.c.id.in_(due)))


def _hold_expired(gw: Gateway, payment: Payment) -> tuple[Step, ...]:
    attempt = payment.current
    if attempt is None or not _due(attempt, payment, gw.clock()):
        return ()
    after = payment.with_attempt(replace(attempt, expired_at=gw.clock()))
    return (Step(after, entries.expired(gw.ids(), after, attempt)),)


def _due(attempt: Attempt, payment: Payment, now: datetime) -> bool:
    # Captures and voids on their way are waited for: they end the hold themselves if the bank does them.
    ends = attempt.hold_expires_at
    return payment.attempt_state is AttemptState.AUTHORIZED and ends is not None and ends <= now


async def review_queue(gw: Gateway, limit: int = 100) -> list[ReviewItem]:
    """Operations past the horizon of automatic checks, oldest first."""
    o = tables.operation
    query = select(o).where(o.c.review).order_by(o.c.created_at).limit(limit)
    async with gw.engine.connect() as conn:
        rows = (await conn.execute(query)).mappings().all()
    return [ReviewItem(row["payment_id"], store.read_operation(row)) for row in rows]
