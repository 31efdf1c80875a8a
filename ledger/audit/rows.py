"""The rows an audit reads, streamed in order from the database; memory stays flat whatever the book's size.

Times come as RFC 3339 text to the microsecond, as the canonical lines have them: equal-length texts, so that
comparing the texts compares the times.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any, LiteralString, NamedTuple

from psycopg import AsyncConnection

BATCH = 4000


class PostingRow(NamedTuple):
    """A row of ``ledger.posting``; ``hold_id`` as text."""

    journal_seq: int
    line: int
    layer: int
    amount: int
    currency: str
    debit_account: int
    credit_account: int
    debit: tuple[int, int, int, int]
    credit: tuple[int, int, int, int]
    hold_action: int | None
    hold_id: str | None


class JournalRow(NamedTuple):
    """A row of ``ledger.journal``; ``id`` and times as text, ``canonical`` as the bytes that were hashed."""

    seq: int
    id: str
    effective_at: str
    recorded_at: str
    reverses: int | None
    lines: int
    kind: str
    source_type: str
    source_id: str
    source_event: str
    leaf_hash: bytes
    canonical: bytes


class HoldLine(NamedTuple):
    """A posting of a hold; ``recorded_at`` is its journal's; ``canonical`` only where the hold is placed."""

    hold_id: str
    journal_seq: int
    line: int
    layer: int
    action: int | None
    amount: int
    debit_account: int
    credit_account: int
    recorded_at: str | None
    canonical: bytes | None


class HoldRow(NamedTuple):
    """A row of ``ledger.hold``, ids and times as text."""

    hold_id: str
    debit_account: int
    credit_account: int
    tolerance_bps: int
    expires_at: str | None
    held: int
    consumed: int
    captured: int
    released: int
    expired: int


JOURNALS = """
SELECT seq, id::text, ledger_at.effective, ledger_at.recorded, reverses, lines, kind, source_type, source_id,
       source_event, leaf_hash, convert_to(canonical, 'UTF8')
  FROM ledger.journal,
       LATERAL (SELECT to_char(effective_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS effective,
                       to_char(recorded_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS recorded) ledger_at
 WHERE book_id = %(book)s ORDER BY seq"""

POSTINGS = """
SELECT journal_seq, line, layer, amount, currency, debit_account, credit_account,
       debit_seq, debit_posted, debit_available, debit_incoming,
       credit_seq, credit_posted, credit_available, credit_incoming, hold_action, hold_id::text
  FROM ledger.posting WHERE book_id = %(book)s ORDER BY journal_seq, line"""

HOLD_LINES = """
SELECT p.hold_id::text, p.journal_seq, p.line, p.layer, p.hold_action, p.amount, p.debit_account, p.credit_account,
       to_char(j.recorded_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
       CASE WHEN p.hold_action = 0 THEN convert_to(j.canonical, 'UTF8') END
  FROM ledger.posting p LEFT JOIN ledger.journal j ON j.book_id = p.book_id AND j.seq = p.journal_seq
 WHERE p.book_id = %(book)s AND p.hold_id IS NOT NULL ORDER BY p.hold_id, p.journal_seq, p.line"""

HOLDS = """
SELECT hold_id::text, debit_account, credit_account, tolerance_bps,
       to_char(expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
       held, consumed, captured, released, expired
  FROM ledger.hold WHERE book_id = %(book)s ORDER BY hold_id"""


def posting_row(r: Sequence[Any]) -> PostingRow:
    return PostingRow(
        r[0],
        r[1],
        r[2],
        r[3],
        r[4],
        r[5],
        r[6],
        (r[7], r[8], r[9], r[10]),
        (r[11], r[12], r[13], r[14]),
        r[15],
        r[16],
    )


async def batches(
    conn: AsyncConnection[Any], name: str, sql: LiteralString, book_id: int
) -> AsyncGenerator[list[Any], None]:
    """The rows of a query in batches. The server prepares the next batch while the caller is busy with this one."""
    async with conn.cursor(name=f"audit_{name}") as cursor:
        await cursor.execute(sql, {"book": book_id}, binary=True)
        ahead = asyncio.ensure_future(cursor.fetchmany(BATCH))
        try:
            while rows := await ahead:
                ahead = asyncio.ensure_future(cursor.fetchmany(BATCH))
                await asyncio.sleep(0)  # lets the request go out before the caller keeps this thread busy
                yield rows
        finally:
            ahead.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ahead


class _Feed:
    """The batches of one query, to be taken by the value of their first column, by which they are sorted."""

    def __init__(self, source: AsyncIterator[list[Any]]) -> None:
        self._source = source
        self._rows: list[Any] = []
        self._at = 0

    @property
    def drained(self) -> bool:
        """Whether the next row, if there is one, has yet to be fetched."""
        return self._at == len(self._rows)

    async def fetch(self) -> bool:
        """Fetch the next batch if ``drained``; whether there is a next row."""
        while self._at == len(self._rows):
            rows = await anext(self._source, None)
            if rows is None:
                return False
            self._rows, self._at = rows, 0
        return True

    def key(self) -> Any:
        """That of the next row, which is there."""
        return self._rows[self._at][0]

    def take(self, key: Any) -> list[Any]:
        """The next rows of this batch that have ``key``."""
        start = at = self._at
        rows, end = self._rows, len(self._rows)
        while at < end and rows[at][0] == key:
            at += 1
        self._at = at
        return rows[start:at]

    async def take_on(self, key: Any) -> list[Any]:
        """Those of the batches to come; only when ``drained``."""
        taken: list[Any] = []
        while self.drained and await self.fetch():
            taken += self.take(key)
        return taken


async def merged(
    heads: AsyncIterator[list[Any]], members: AsyncIterator[list[Any]]
) -> AsyncIterator[tuple[Any, list[Any], list[Any]]]:
    """Full outer join of two streams on their first columns, both sorted by it: (key, heads, members)."""
    left, right = _Feed(heads), _Feed(members)
    while True:
        has_left = not left.drained or await left.fetch()
        has_right = not right.drained or await right.fetch()
        if has_left:
            key = min(left.key(), right.key()) if has_right else left.key()
        elif has_right:
            key = right.key()
        else:
            return
        # Awaiting for every row would cost more than judging it.
        mine = left.take(key)
        if left.drained:
            mine += await left.take_on(key)
        theirs = right.take(key)
        if right.drained:
            theirs += await right.take_on(key)
        yield key, mine, theirs
