"""``khata export --format camt.053``: a directory with a statement of each account."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

from khata.cli.common import reading
from khata.clock import utc_now
from khata.database import Database
from khata.whole import whole_directory
from ledger.export import Selection
from ledger.reports.account_statements import account_statements

FORMAT = "camt.053"
_DAY = timedelta(days=1)


async def write_statements(
    database: Database, book: str | None, out: Path, selection: Selection, first: date, until: date | None
) -> int:
    """Of the days of effect ``first`` ≤ day < ``until`` (None: through today). Bytes written."""
    now, total = utc_now(), 0
    last = now.date() if until is None else until - _DAY
    with whole_directory(out) as folder:
        async with reading(database, book) as (conn, book_id):
            found = account_statements(conn, book_id, selection, first=first, last=last, made_at=now)
            async for statement in found:
                with (folder / statement.name).open("xb") as file:
                    async for chunk in statement.chunks(conn):
                        total += file.write(chunk)
    return total
