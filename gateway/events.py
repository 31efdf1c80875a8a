"""What merchants are told: one row for each change, written in the change's own transaction (the outbox).

The payload is the object as it was. Delivery is another's work; here rows are only written and listed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import ids, tables
from gateway.model import Payment, Refund
from gateway.states import PaymentStatus
from gateway.store import Row


@dataclass(frozen=True, slots=True)
class Event:
    """``type`` such as ``payment.succeeded`` or ``refund.failed``; ``object_id`` is the object's public id."""

    id: UUID
    merchant_id: UUID
    type: str
    object_id: str
    payload: dict[str, Any]
    created_at: datetime

    @property
    def public_id(self) -> str:
        return ids.public(ids.EVENT, self.id)


def payment_event(before: Payment | None, after: Payment) -> str | None:
    """``payment.created``, ``payment.unknown`` when a bank does not answer, or ``payment.`` and the new status."""
    if before is None:
        return "payment.created"
    if after.status is PaymentStatus.PROCESSING:
        # A message on its way is no news; that nobody knows its outcome is.
        return "payment.unknown" if after.unknown and not before.unknown else None
    return f"payment.{after.status}" if after.status is not before.status else None


def of_payment(
    before: Payment | None, after: Payment, *, id: Callable[[], UUID], now: datetime
) -> tuple[Row, ...]:
    """The row of this change's event, if it is one to tell."""
    type = payment_event(before, after)
    if type is None:
        return ()
    return (_row(id(), after.merchant_id, type, after.public_id, describe(after, now), now),)


def of_refund(
    before: Payment | None, refund: Refund | None, *, id: Callable[[], UUID], now: datetime
) -> tuple[Row, ...]:
    """``refund.created``, ``refund.succeeded`` or ``refund.failed``; nothing while its outcome is unknown."""
    if refund is None:
        return ()
    known = before is not None and any(op.id == refund.operation.id for op in before.operations)
    if known and refund.status == "pending":
        return ()
    type = f"refund.{refund.status}" if known else "refund.created"
    return (_row(id(), refund.merchant_id, type, refund.public_id, describe_refund(refund), now),)


def _row(
    id: UUID, merchant_id: UUID, type: str, object_id: str, payload: dict[str, Any], now: datetime
) -> Row:
    return {
        "id": id,
        "merchant_id": merchant_id,
        "type": type,
        "object_id": object_id,
        "payload": payload,
        "created_at": now,
    }


def describe(payment: Payment, now: datetime) -> dict[str, Any]:
    """A payment as merchants read it at ``now``: JSON types only, amounts in minor units."""
    sums, card, refusal = payment.totals, payment.current, payment.last_refusal
    return {
        "object": "payment",
        "id": payment.public_id,
        "merchant_id": payment.owner,
        "status": payment.status_at(now).value,
        "outcome": payment.outcome,
        "unknown_since": _time(payment.unknown_since),
        "next_check_at": _time(payment.next_check_at),
        "amount": payment.amount,
        "currency": payment.currency,
        "capture_method": payment.capture_method.value,
        "authorized": sums.authorized,
        "captured": sums.captured,
        "voided": sums.voided,
        "refunded": sums.refunded,
        "disputed": 0,
        "method": {"type": "card", "brand": card.brand, "last4": card.last4} if card else None,
        "last_refusal": {"code": refusal.response_code, "reason": refusal.reason} if refusal else None,
        "reference": payment.reference,
        "description": payment.description,
        "metadata": dict(payment.metadata),
        "created_at": _time(payment.created_at),
        "expires_at": _time(payment.expires_at),
    }


def describe_refund(refund: Refund) -> dict[str, Any]:
    """A refund as merchants read it."""
    op = refund.operation
    refused = {"code": op.response_code, "reason": op.reason} if refund.status == "failed" else None
    return {
        "object": "refund",
        "id": refund.public_id,
        "payment_id": ids.public(ids.PAYMENT, refund.payment_id),
        "merchant_id": ids.public(ids.MERCHANT, refund.merchant_id),
        "status": refund.status,
        "outcome": refund.outcome,
        "amount": refund.amount,
        "currency": refund.currency,
        "reason": refund.reason,
        "last_refusal": refused,
        "created_at": _time(refund.created_at),
    }


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="microseconds").replace("+00:00", "Z")


async def events(
    conn: AsyncConnection, merchant_id: UUID, *, before: UUID | None = None, limit: int = 50
) -> list[Event]:
    """A merchant's events, newest first; ``before``: the id of the last one of the page before."""
    e = tables.event
    query = select(e).where(e.c.merchant_id == merchant_id).order_by(e.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(e.c.id < before)
    return [Event(**row) for row in (await conn.execute(query)).mappings()]
