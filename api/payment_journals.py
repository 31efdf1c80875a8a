"""Which journals were booked for a payment."""

from __future__ import annotations

from typing import Any

from psycopg import AsyncConnection

from gateway.model import Payment
from ledger import read
from ledger.search import Query, search


async def journals_of(
    conn: AsyncConnection[Any], payment: Payment, *, owner: str | None = None
) -> list[read.JournalView]:
    """Journals name what caused them: an operation with the bank, or an attempt whose time ran out. Oldest first.

    ``owner``: only those that touch an account of his.
    """
    sources = [("operation", op.id) for op in payment.operations]
    sources += [("attempt", attempt.id) for attempt in payment.attempts]
    found: dict[int, read.JournalView] = {}
    for kind, id in sources:
        query = Query(source_type=kind, source_id=str(id))
        page_of_source = await search(conn, payment.book_id, query, owner=owner)
        found |= {journal.seq: journal for journal in page_of_source.journals}
    return [found[seq] for seq in sorted(found)]
