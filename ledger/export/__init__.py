"""Taking the journal away: the canonical lines themselves, or the same in forms that other programs read.

Every format is made from the canonical lines and nothing else, so what another program adds up is what was hashed.
See docs/audit.md.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from psycopg import AsyncConnection

from ledger.errors import BookUnknown, InvalidEntry
from ledger.export.money import decimal_text, exponent, minor_units
from ledger.export.plaintext import Dialect, declarations, transactions
from ledger.export.tables import csv_header, csv_rows

__all__ = ["FORMATS", "decimal_text", "exponent", "export_journal", "minor_units"]

FORMATS = ("jsonl", "csv", "hledger", "ledger")
PAGE = 1000

_LINES = """
SELECT seq, convert_to(canonical, 'UTF8') FROM ledger.journal
 WHERE book_id = %s AND seq > %s AND seq <= %s ORDER BY seq LIMIT %s"""


async def export_journal(
    conn: AsyncConnection[Any],
    book_id: int,
    format: str,
    *,
    after_seq: int = 0,
    through_seq: int | None = None,
) -> AsyncIterator[bytes]:
    """Journals ``after_seq`` < seq ≤ ``through_seq`` (None: the head as of now), in order, in chunks of UTF-8.

    ``format``: one of ``FORMATS``. ``jsonl``: the canonical lines, byte for byte what the leaf hashes cover, each
    ended by a newline. ``csv``: RFC 4180, one row a line (``tables``). ``hledger``, ``ledger``: plain-text accounting
    (``plaintext``); balances in them are those of the exported journals alone.

    Pages are read by key: memory is flat, no transaction is needed (journals never change), and the connection is
    free between chunks. Raises ``BookUnknown``, and ``InvalidEntry`` for another format, before the first chunk.
    """
    if format not in FORMATS:
        raise InvalidEntry("format", f"{format!r} is none of {', '.join(FORMATS)}")
    cursor = await conn.execute("SELECT name, head FROM ledger.book WHERE book_id = %s", [book_id])
    row = await cursor.fetchone()
    if row is None:
        raise BookUnknown(book_id)
    name, head = row
    last = head if through_seq is None else min(through_seq, head)
    pages = _pages(conn, book_id, after_seq, last)
    if format == "jsonl":
        async for page in pages:
            yield b"".join(line + b"\n" for line in page)
    elif format == "csv":
        yield csv_header()
        async for page in pages:
            yield csv_rows(page)
    else:
        dialect = Dialect(format)
        yield await declarations(conn, book_id, dialect, f"book {name}, journals {after_seq + 1} to {last}")
        async for page in pages:
            yield transactions(page)


async def _pages(
    conn: AsyncConnection[Any], book_id: int, after_seq: int, last: int
) -> AsyncGenerator[list[bytes], None]:
    while after_seq < last:
        cursor = await conn.cursor(binary=True).execute(_LINES, [book_id, after_seq, last, PAGE])
        rows = await cursor.fetchall()
        if not rows:
            return
        yield [line for _, line in rows]
        after_seq = rows[-1][0]
