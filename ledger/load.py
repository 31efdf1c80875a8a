"""Takes a book's lock and loads what a batch touches, in one round trip."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, LiteralString
from uuid import UUID

from psycopg import AsyncConnection, AsyncCursor

from ledger.errors import BookUnknown
from ledger.model import Capture, Journal, Place, Source, Unit
from ledger.state import Account, Hold, State, Stored

# Never SELECT … FOR UPDATE as the mutex: on a distributed PostgreSQL that lock can sit on a shard's old placement.
_LOCK = """
UPDATE ledger.book SET recorded_at = greatest(recorded_at, %(now)s) WHERE book_id = %(book)s
RETURNING name, head, recorded_at, closed_through"""

_ACCOUNTS = """
SELECT a.account_id, a.path, a.currency, a.debit_normal, b.status, b.floor, b.seq,
       b.posted_debits, b.posted_credits, b.pending_debits, b.pending_credits
  FROM ledger.account a JOIN ledger.balance b USING (book_id, account_id)
 WHERE a.book_id = %(book)s AND a.path = ANY(%(paths)s)"""

_ACCOUNTS_BEHIND = """
SELECT a.account_id, a.path, a.currency, a.debit_normal, b.status, b.floor, b.seq,
       b.posted_debits, b.posted_credits, b.pending_debits, b.pending_credits
  FROM ledger.account a JOIN ledger.balance b USING (book_id, account_id)
 WHERE a.book_id = %(book)s AND a.account_id = ANY(ARRAY(
       SELECT unnest(ARRAY[debit_account, credit_account]) FROM ledger.hold
        WHERE book_id = %(book)s AND hold_id = ANY(%(holds)s)
       UNION
       SELECT unnest(ARRAY[debit_account, credit_account]) FROM ledger.posting
        WHERE book_id = %(book)s AND journal_seq = ANY(%(reversed)s)))"""

_SOURCES = """
SELECT j.source_type, j.source_id, j.source_event, j.seq, j.id, j.canonical
  FROM unnest(%(types)s::text[], %(ids)s::text[], %(events)s::text[]) AS s(type, id, event)
  JOIN ledger.journal j ON j.book_id = %(book)s
   AND j.source_id = s.id AND j.source_type = s.type AND j.source_event = s.event"""

_HOLDS = """
SELECT h.hold_id, d.path, c.path, d.currency, h.tolerance_bps, h.expires_at,
       h.held, h.consumed, h.captured, h.released, h.expired
  FROM ledger.hold h
  JOIN ledger.account d ON d.book_id = h.book_id AND d.account_id = h.debit_account
  JOIN ledger.account c ON c.book_id = h.book_id AND c.account_id = h.credit_account
 WHERE h.book_id = %(book)s AND h.hold_id = ANY(%(holds)s)"""

_REVERSED = """
SELECT j.seq, j.id, j.canonical,
       EXISTS (SELECT FROM ledger.journal r WHERE r.book_id = j.book_id AND r.reverses = j.seq)
  FROM ledger.journal j WHERE j.book_id = %(book)s AND j.seq = ANY(%(reversed)s)"""


async def load(conn: AsyncConnection[Any], book_id: int, units: Sequence[Unit], *, now: datetime) -> State:
    """Lock the book with a write, then read sources, accounts, holds and journals to reverse.

    Raises ``BookUnknown``. The lock is held until the caller's transaction ends.
    """
    journals = [journal for unit in units for journal in unit.journals]
    holds = [j.hold.hold_id for j in journals if j.hold]
    reverses = [j.reverses for j in journals if j.reverses is not None]
    given = {
        "book": book_id,
        "now": now,
        "holds": holds,
        "reversed": reverses,
        "paths": list(_paths(journals)),
    }
    given |= _source_columns(journals)
    wanted: dict[str, LiteralString] = {"lock": _LOCK, "sources": _SOURCES, "accounts": _ACCOUNTS}
    if holds or reverses:
        wanted |= {"behind": _ACCOUNTS_BEHIND, "holds": _HOLDS, "reversed": _REVERSED}
    cursors: dict[str, AsyncCursor[Any]] = {}
    async with conn.pipeline():
        for name, sql in wanted.items():
            # Planned anew each time: a plan kept from the book's first minutes, when its tables were empty and
            # every index looked alike, walks the whole book for each batch until the next ANALYZE.
            cursors[name] = await conn.cursor(binary=True).execute(sql, given, prepare=name == "lock")
    rows = {name: await cursor.fetchall() for name, cursor in cursors.items()}
    if not rows["lock"]:
        raise BookUnknown(book_id)
    return _state(book_id, rows)


def _paths(journals: Iterable[Journal]) -> set[str]:
    paths: set[str] = set()
    for journal in journals:
        for posting in journal.postings:
            paths.add(posting.debit)
            paths.add(posting.credit)
        if isinstance(journal.hold, Place | Capture) and journal.hold.debit and journal.hold.credit:
            paths |= {journal.hold.debit, journal.hold.credit}
    return paths


def _source_columns(journals: Iterable[Journal]) -> dict[str, list[str]]:
    sources = [journal.source for journal in journals]
    return {
        "types": [s.type for s in sources],
        "ids": [s.id for s in sources],
        "events": [s.event for s in sources],
    }


def _state(book_id: int, rows: dict[str, list[Any]]) -> State:
    name, head, recorded_at, closed_through = rows["lock"][0]
    accounts = [_account(row) for row in [*rows["accounts"], *rows.get("behind", ())]]
    reversals: list[tuple[int, UUID, str, bool]] = rows.get("reversed", [])
    return State(
        book_id=book_id,
        book=name,
        head=head,
        recorded_at=recorded_at.astimezone(UTC),  # it comes in the session's zone
        closed_through=closed_through,
        accounts={(account.path, account.currency): account for account in accounts},
        holds={row[0]: _hold(row) for row in rows.get("holds", ())},
        sources={Source(*row[:3]): Stored(row[3], row[4], row[5].encode()) for row in rows["sources"]},
        journals={seq: Stored(seq, id_, text.encode()) for seq, id_, text, _ in reversals},
        reversed={seq for seq, _, _, done in reversals if done},
    )


def _hold(row: tuple[Any, ...]) -> Hold:
    id_, debit, credit, currency, tolerance_bps, expires_at, *sums = row
    expires_at = expires_at.astimezone(UTC) if expires_at else None
    return Hold(id_, debit, credit, currency, tolerance_bps, expires_at, *sums)


def _account(row: tuple[Any, ...]) -> Account:
    (
        id_,
        path,
        currency,
        debit_normal,
        status,
        floor,
        seq,
        debits,
        credits,
        pending_debits,
        pending_credits,
    ) = row
    if debit_normal:
        posted, outgoing, incoming = debits - credits, pending_credits, pending_debits
    else:
        posted, outgoing, incoming = credits - debits, pending_debits, pending_credits
    return Account(
        id_, path, currency, debit_normal, status, floor, seq, debits, credits, posted, outgoing, incoming
    )
