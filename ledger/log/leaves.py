"""A book's leaves in the log's order: their lines and hashes, streamed by number, so that memory stays flat.

What is sealed never changes, so reading it takes neither a snapshot nor a cursor: each window is read by its numbers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC
from itertools import groupby, islice
from typing import Any, LiteralString, NamedTuple

import orjson
from psycopg import AsyncConnection

from ledger.canonical import rfc3339
from ledger.errors import BookUnknown, EntryMissing
from ledger.log.merkle import leaf_hash

SOURCES = ("account", "act", "journal")  # in the order of a pass
WINDOW = 4096  # leaves in memory at a time
_PAGE = 1000  # runs read at a time

_RUNS = """
SELECT first_index, source, first_number, count FROM ledger.log_run
 WHERE book_id = %(book)s AND first_index < %(end)s
   AND first_index >= (SELECT max(first_index) FROM ledger.log_run
                        WHERE book_id = %(book)s AND first_index <= %(first)s)
 ORDER BY first_index LIMIT %(page)s"""
_JOURNALS = """
SELECT convert_to(canonical, 'UTF8'), leaf_hash FROM ledger.journal
 WHERE book_id = %(book)s AND seq BETWEEN %(first)s AND %(last)s ORDER BY seq"""
_ACTS = """
SELECT act, recorded_at, person, action, subject, reason, detail, leaf_hash FROM ledger.act
 WHERE book_id = %(book)s AND act BETWEEN %(first)s AND %(last)s ORDER BY act"""
_ACCOUNTS = """
SELECT a.account_id, a.path, a.currency, a.owner, a.opened_at,
       (SELECT f.floor FROM ledger.account_fact f
         WHERE f.book_id = a.book_id AND f.account_id = a.account_id AND f.fact = 1)
  FROM ledger.account a
 WHERE a.book_id = %(book)s AND a.account_id BETWEEN %(first)s AND %(last)s ORDER BY a.account_id"""
# One value for many rows: a row of its own for each hash would take longer than all that is made of it.
_HASHES: dict[str, LiteralString] = {
    "account": "SELECT string_agg(leaf_hash, ''::bytea ORDER BY account_id) FROM ledger.account_leaf"
    " WHERE book_id = %(book)s AND account_id BETWEEN %(first)s AND %(last)s",
    "act": "SELECT string_agg(leaf_hash, ''::bytea ORDER BY act) FROM ledger.act"
    " WHERE book_id = %(book)s AND act BETWEEN %(first)s AND %(last)s",
    "journal": "SELECT string_agg(leaf_hash, ''::bytea ORDER BY seq) FROM ledger.journal"
    " WHERE book_id = %(book)s AND seq BETWEEN %(first)s AND %(last)s",
}

Entry = tuple[bytes, bytes]  # line, stored leaf hash


@dataclass(frozen=True, slots=True)
class Run:
    """Leaf ``first_index + i`` is entry ``first_number + i`` of the source."""

    first_index: int
    source: str
    first_number: int
    count: int

    def cut(self, begin: int, end: int) -> Run:
        """Its part within the leaves begin..end - 1, of which it has some."""
        first = max(begin, self.first_index)
        last = min(end, self.first_index + self.count)
        return Run(first, self.source, self.first_number + first - self.first_index, last - first)


class Chunk(NamedTuple):
    """The leaves of (a part of) a run, in order; ``hashes`` as stored, not as recomputed."""

    run: Run
    lines: list[bytes]
    hashes: list[bytes]


async def runs(conn: AsyncConnection[Any], book_id: int, begin: int, end: int) -> AsyncIterator[Run]:
    """The runs of the leaves begin..end - 1, the first and the last cut to them."""
    while begin < end:
        given = {"book": book_id, "first": begin, "end": end, "page": _PAGE}
        cursor = await conn.execute(_RUNS, given)
        page = [Run(*row).cut(begin, end) for row in await cursor.fetchall()]
        for run in page:
            yield run
        if len(page) < _PAGE:
            return
        begin = page[-1].first_index + page[-1].count


async def chunks(conn: AsyncConnection[Any], book_id: int, begin: int, end: int) -> AsyncIterator[Chunk]:
    """The leaves begin..end - 1 with their lines, in order. Raises ``BookUnknown`` and ``EntryMissing``.

    However short the runs are, a window of them takes one query a source.
    """
    name = await book_name(conn, book_id)
    async for window in _windows(conn, book_id, begin, end):
        entries = {
            source: iter(await read_entries(conn, book_id, name, source, first, last))
            for source, first, last in _numbers(window)
        }
        for run in window:
            pairs = list(islice(entries[run.source], run.count))
            if len(pairs) < run.count:
                raise EntryMissing(book_id, run.source)
            yield Chunk(run, [line for line, _ in pairs], [leaf for _, leaf in pairs])


async def hashes(conn: AsyncConnection[Any], book_id: int, begin: int, end: int) -> bytes:
    """The stored hashes of the leaves begin..end - 1 as one row of 32 bytes each."""
    parts: list[bytes] = []
    async for window in _windows(conn, book_id, begin, end):
        rows = {
            source: await stored_hashes(conn, book_id, source, first, last)
            for source, first, last in _numbers(window)
        }
        at = dict.fromkeys(rows, 0)
        for run in window:
            stop = at[run.source] + 32 * run.count
            parts.append(rows[run.source][at[run.source] : stop])
            at[run.source] = stop
    return b"".join(parts)


async def _windows(
    conn: AsyncConnection[Any], book_id: int, begin: int, end: int
) -> AsyncIterator[list[Run]]:
    """Runs, cut where a window of leaves is full."""
    window: list[Run] = []
    start = begin
    async for run in runs(conn, book_id, begin, end):
        stop = run.first_index + run.count
        while stop - start >= WINDOW:
            yield [*window, run.cut(start, start + WINDOW)]
            window, start = [], start + WINDOW
        if start < stop:
            window.append(run.cut(start, stop))
    if window:
        yield window


def _numbers(window: list[Run]) -> Iterator[tuple[str, int, int]]:
    """The numbers of each source in a window: those of one source follow one another from run to run."""
    for source, of_source in groupby(sorted(window, key=lambda run: run.source), key=lambda run: run.source):
        found = list(of_source)
        yield source, found[0].first_number, found[-1].first_number + found[-1].count - 1


async def read_entries(
    conn: AsyncConnection[Any], book_id: int, book: str, source: str, first: int, last: int
) -> list[Entry]:
    """The entries first..last of a source, sealed or not; an account's hash is its line's. ``book``: its name."""
    given = {"book": book_id, "first": first, "last": last}
    if source == "journal":
        return await (await conn.execute(_JOURNALS, given, binary=True)).fetchall()
    if source == "act":
        cursor = await conn.execute(_ACTS, given)
        return [(_act_line(book, *row[:-1]), row[-1]) for row in await cursor.fetchall()]
    cursor = await conn.execute(_ACCOUNTS, given)
    lines = [_account_line(book, *row) for row in await cursor.fetchall()]
    return [(line, leaf_hash(line)) for line in lines]


async def stored_hashes(
    conn: AsyncConnection[Any], book_id: int, source: str, first: int, last: int
) -> bytes:
    """The leaf hashes of the entries first..last of a source, as one row; of accounts only what is sealed."""
    given = {"book": book_id, "first": first, "last": last}
    cursor = await conn.execute(_HASHES[source], given, binary=True)
    row = await cursor.fetchone()
    return (row and row[0]) or b""


async def book_name(conn: AsyncConnection[Any], book_id: int) -> str:
    """Raises ``BookUnknown``."""
    cursor = await conn.execute("SELECT name FROM ledger.book WHERE book_id = %s", [book_id])
    row = await cursor.fetchone()
    if row is None:
        raise BookUnknown(book_id)
    return row[0]


def _account_line(
    book: str, account_id: int, path: str, currency: str, owner: str | None, opened_at: Any, floor: int | None
) -> bytes:
    return account_line(book, account_id, path, currency, owner, rfc3339(opened_at.astimezone(UTC)), floor)


def account_line(
    book: str, account_id: int, path: str, currency: str, owner: str | None, opened_at: str, floor: int | None
) -> bytes:
    """The line of an account's opening; ``opened_at`` as ``rfc3339`` writes it."""
    fields = {
        "account": path,
        "account_id": account_id,
        "book": book,
        "currency": currency,
        "floor": None if floor is None else str(floor),
        "opened_at": opened_at,
        "owner": owner,
    }
    return orjson.dumps(fields)


def _act_line(
    book: str, act: int, recorded_at: Any, person: str, action: str, subject: str, reason: str, detail: str
) -> bytes:
    fields = {
        "act": act,
        "action": action,
        "book": book,
        "detail": orjson.loads(detail),
        "person": person,
        "reason": reason,
        "recorded_at": rfc3339(recorded_at.astimezone(UTC)),
        "subject": subject,
    }
    return orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)
