"""Expiry of holds that were placed on ledger accounts through the API (a payment's own holds are the gateway's)."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import text

from gateway.core import Gateway
from ledger.model import Expire, Journal, Posted, Source, Unit

_DUE = text("""
SELECT h.book_id, h.hold_id FROM ledger.hold h
 WHERE h.expires_at <= :now AND h.consumed + h.released + h.expired < h.held
   AND NOT EXISTS (SELECT FROM gateway.attempt a WHERE a.id = h.hold_id)
 ORDER BY h.expires_at LIMIT :limit""")


async def expire_ledger_holds(gw: Gateway, limit: int = 100) -> int:
    """Give back what is left of holds whose time has passed; how many were. The source key makes it idempotent."""
    async with gw.engine.connect() as conn:
        due = (await conn.execute(_DUE, {"now": gw.clock(), "limit": limit})).all()
    results = [await gw.writers(book_id).submit(_expiry(gw, hold_id)) for book_id, hold_id in due]
    return sum(isinstance(result, Posted) for result in results)


def _expiry(gw: Gateway, hold_id: UUID) -> Unit:
    journal = Journal(
        id=gw.ids(), kind="hold_expiry", source=Source("hold", str(hold_id), "expired"), hold=Expire(hold_id)
    )
    return Unit((journal,))
