"""Which leaves of the log a pack covers, and which entries of each source those are."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from psycopg import AsyncConnection

from ledger.errors import BookUnknown, InvalidEntry
from ledger.export.pack.errors import NothingSealed
from ledger.log.leaves import SOURCES


@dataclass(frozen=True, slots=True)
class Counts:
    """How many entries of each source are among the first leaves."""

    account: int
    act: int
    journal: int


@dataclass(frozen=True, slots=True)
class Scope:
    """The leaves ``from_index`` ≤ i < ``to_index`` of a book's log: entries ``before`` to ``after`` of each source.

    ``head``: the book's last journal in the snapshot that the pack is made in.
    """

    book_id: int
    book: str
    head: int
    first_day: date | None
    until_day: date | None
    from_index: int
    to_index: int
    before: Counts
    after: Counts


async def find_scope(
    conn: AsyncConnection[Any], book_id: int, first: date | None, until: date | None, *, now: datetime
) -> Scope:
    """The leaves recorded on UTC days ``first`` ≤ day < ``until``; None: from the beginning, up to the last checkpoint.

    Raises ``BookUnknown``, ``NothingSealed``, and ``InvalidEntry`` for days that are no period or are not over.
    """
    if first is not None and until is not None and first >= until:
        raise InvalidEntry("to", f"{until} is not after {first}")
    latest = max((day for day in (first, until) if day is not None), default=None)
    if latest is not None and latest > now.astimezone(UTC).date():
        raise InvalidEntry("to", f"the days before {latest} are not over")
    row = await (await conn.execute(_BOOK, [book_id])).fetchone()
    if row is None:
        raise BookUnknown(book_id)
    name, head, size = row
    if size is None:
        raise NothingSealed(name)
    from_index = 0 if first is None else await _size_before(conn, book_id, first, size)
    to_index = size if until is None else await _size_before(conn, book_id, until, size)
    if to_index == 0:
        raise NothingSealed(name)
    before = await counts_at(conn, book_id, from_index)
    after = await counts_at(conn, book_id, to_index)
    return Scope(book_id, name, head, first, until, from_index, to_index, before, after)


_BOOK = """
SELECT b.name, b.head, (SELECT c.size FROM ledger.checkpoint c WHERE c.book_id = b.book_id ORDER BY c.size DESC LIMIT 1)
  FROM ledger.book b WHERE b.book_id = %s"""
_DAY_END = """
SELECT min(size) FROM ledger.day_end WHERE book_id = %s AND covers_before >= %s"""


async def _size_before(conn: AsyncConnection[Any], book_id: int, day: date, size: int) -> int:
    """How many leaves were recorded before the day; ``size``: of the whole log, if no entry is of that day or later."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    row = await (await conn.execute(_DAY_END, [book_id, midnight])).fetchone()
    return size if row is None or row[0] is None else row[0]


# The last run of the source that begins before the index: by the index on its numbers, from the end.
_LAST_RUN = """
SELECT first_number + least(count, %(index)s - first_index) - 1 FROM ledger.log_run
 WHERE book_id = %(book)s AND source = %(source)s AND first_index < %(index)s ORDER BY first_number DESC LIMIT 1"""


async def counts_at(conn: AsyncConnection[Any], book_id: int, index: int) -> Counts:
    numbers: list[int] = []
    for source in SOURCES:
        given = {"book": book_id, "source": source, "index": index}
        row = await (await conn.execute(_LAST_RUN, given)).fetchone()
        numbers.append(0 if row is None else row[0])
    return Counts(*numbers)
