"""What a bank's outcome makes of the operation it belongs to: pure, the same for every kind of message."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from banks.outcomes import Approved, Declined, NotSent, Outcome, Unknown
from banks.references import BankReference, new_reference
from gateway.core import Gateway, Policy, driver
from gateway.model import Kind, Operation
from gateway.states import OperationState

_DRAW = text("SELECT nextval('banks.reference') FROM generate_series(1, :count)")


async def reference(conn: AsyncConnection, bank: str, *, now: datetime) -> BankReference:
    """A new reference at this bank; committed with its operation before anything is sent."""
    return await new_reference(await driver(conn), bank, now=now)


async def next_reference(gw: Gateway, *, now: datetime) -> BankReference:
    """As ``reference``, for where no transaction is open: its number was drawn ahead."""

    async def draw(count: int) -> list[int]:
        async with gw.engine.begin() as conn:
            return list((await conn.execute(_DRAW, {"count": count})).scalars())

    return await gw.numbers.reference(draw, now=now)


def sending(
    gw: Gateway,
    kind: Kind,
    attempt_id: UUID,
    ref: BankReference,
    amount: int,
    *,
    target: UUID | None = None,
    final: bool = False,
) -> Operation:
    """An operation about to be sent. It belongs to its sender for the lease, then recovery takes over."""
    now = gw.clock()
    return Operation(
        id=gw.ids(),
        attempt_id=attempt_id,
        kind=kind,
        reference=ref,
        amount=amount,
        state=OperationState.SENDING,
        created_at=now,
        target_id=target,
        final=final,
        next_check_at=now + gw.policy.lease,
    )


def lease_passed(op: Operation, now: datetime) -> bool:
    """Whoever was to send ``op`` has let its time run out; recovery may be at it."""
    return op.next_check_at is not None and op.next_check_at <= now


def answered(
    op: Operation, outcome: Outcome, *, now: datetime, policy: Policy, forwarded: bool = False
) -> Operation:
    """``op`` after ``outcome``. ``forwarded``: it must arrive in the end, so one not sent is kept to be sent."""
    match outcome:
        case Approved():
            return ended(
                op,
                OperationState.APPROVED,
                now,
                authorization_code=outcome.authorization_code,
                response_code=outcome.response_code,
                reason=None,
            )
        case Declined():
            return ended(
                op,
                OperationState.DECLINED,
                now,
                response_code=outcome.response_code,
                reason=outcome.reason,
                retryable=outcome.retryable,
            )
        case NotSent() if op.state is OperationState.SENDING and op.tries == 1 and not forwarded:
            return ended(op, OperationState.NOT_SENT, now, reason=outcome.reason)
        case NotSent() if op.state is OperationState.SENDING and forwarded:
            return checked(replace(op, reason=outcome.reason), now=now, policy=policy)
        case NotSent() | Unknown():
            return unanswered(op, outcome.reason, now=now, policy=policy, conflicted=_conflicted(outcome))


def _conflicted(outcome: NotSent | Unknown) -> bool:
    return isinstance(outcome, Unknown) and outcome.conflicted


def ended(op: Operation, state: OperationState, now: datetime, **facts: Any) -> Operation:
    """``op`` with its outcome known; ``facts``: what else is known of it now."""
    return replace(op, state=state, ended_at=now, next_check_at=None, review=False, **facts)


def unanswered(
    op: Operation, reason: str, *, now: datetime, policy: Policy, conflicted: bool = False
) -> Operation:
    """A byte may have been written and nothing certain came back."""
    return checked(
        replace(
            op,
            state=OperationState.UNKNOWN,
            unknown_since=op.unknown_since or now,
            reason=reason,
            conflicted=op.conflicted or conflicted,
        ),
        now=now,
        policy=policy,
    )


def checked(op: Operation, *, now: datetime, policy: Policy) -> Operation:
    """When to look again. Past the horizon a person must look; a reversal goes on being sent all the same."""
    if not policy.exhausted(op.tries):
        return replace(op, next_check_at=now + policy.pause(op.tries))
    again = now + policy.pause(op.tries) if op.kind is Kind.REVERSAL else None
    return replace(op, next_check_at=again, review=True)
