"""``khata export --format camt.053``: a directory with a statement of each account."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

from psycopg import AsyncConnection

from khata.cli.common import reading
from khata.clock import utc_now
from khata.database import Database
from khata.whole import whole_directory
from ledger.export import Selection
from ledger.reports.account_statements import account_statements

FORMAT = "camt.053"
_DAY = timedelta(days=1)


async def write_statements(
    database: Database,
    book: str | None,
    out: Path,
    selection: Selection,
    first: date | None,
    until: date | None,
) -> int:
    """Of days of effect, ``first`` (None: the book's) ≤ day < ``until`` (None: through today). Bytes written."""
    now, total = utc_now(), 0
    last = now.date() if until is None else until - _DAY
    with whole_directory(out) as folder:
        async with reading(database, book) as (conn, book_id):
            first = first or min(last, await _first_day(conn, book_id) or last)
            found = account_statements(conn, book_id, selection, first=first, last=last, made_at=now)
            async for statement in found:
                with (folder / statement.name).open("xb") as file:
                    async for chunk in statement.chunks(conn):
                        total += file.write(chunk)
    return total


async def _first_day(conn: AsyncConnection[Any], book_id: int) -> date | None:
    query = "SELECT min(ledger.day_of(effective_at)) FROM ledger.journal WHERE book_id = %s"
    row = await (await conn.execute(query, [book_id])).fetchone()
    return row[0] if row else None
