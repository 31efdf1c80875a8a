"""What a bank is expected to settle, and the import of the files in which it says what it has settled."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import dict_row

from banks.entries import settlement_journal
from banks.errors import SettlementRefused
from banks.settlement_file import LineKind, SettlementFile, SettlementLine, Totals, parse
from ledger.ids import Ids
from ledger.model import Posted, Unit
from ledger.post import post

__all__ = [
    "ExpectedItem",
    "LineKind",
    "SettlementFile",
    "SettlementImport",
    "Whole",
    "expected",
    "import_file",
    "parse",
    "parts",
    "take_turn",
]

_CLAIM = """\
INSERT INTO banks.settlement_file
  (book_id, bank, file_id, sha256, settled_on, currency, captures, refunds, gross_captured, gross_refunded, cost,
   tax, net, books, file_lines, file_net, imported_at)
VALUES (%(book_id)s, %(bank)s, %(file_id)s, %(sha256)s, %(settled_on)s, %(currency)s, %(captures)s, %(refunds)s,
        %(gross_captured)s, %(gross_refunded)s, %(cost)s, %(tax)s, %(net)s, %(books)s, %(file_lines)s, %(file_net)s,
        %(imported_at)s)
ON CONFLICT (book_id, bank, file_id) DO NOTHING"""

_ADD_LINES = """\
INSERT INTO banks.settlement_line
  (book_id, bank, file_id, currency, line, kind, rrn, amount, cost, tax, net, journal_id)
SELECT %(book_id)s, %(bank)s, %(file_id)s, %(currency)s, l.*
FROM unnest(%(line)s::int[], %(kind)s::text[], %(rrn)s::text[], %(amount)s::bigint[], %(cost)s::bigint[],
            %(tax)s::bigint[], %(net)s::bigint[], %(journal_id)s::uuid[]) AS l
ON CONFLICT (book_id, bank, rrn) DO NOTHING
RETURNING rrn"""

_FIND = """\
SELECT bank, file_id, settled_on, currency, sha256, imported_at,
       captures, refunds, gross_captured, gross_refunded, cost, tax, net
FROM banks.settlement_file WHERE book_id = %s AND bank = %s AND file_id = %s"""

# To update a row is to lock it, whether this session inserted it, another did, or it was there.
_TURN = """\
INSERT INTO banks.settlement_turn (bank, file_id) SELECT code, %s FROM banks.bank WHERE code = %s
ON CONFLICT (bank, file_id) DO UPDATE SET file_id = excluded.file_id"""
_OTHER_CONTENT = "SELECT FROM banks.settlement_file WHERE bank = %s AND file_id = %s AND sha256 <> %s LIMIT 1"


@dataclass(frozen=True, slots=True)
class ExpectedItem:
    """A capture or refund the bank has approved and will settle; minor units, before the bank's cost."""

    rrn: str
    kind: LineKind
    amount: int
    currency: str


@dataclass(frozen=True, slots=True)
class Whole:
    """The file that an import is a book's part of: its books, how many lines it has, their net in minor units."""

    books: tuple[int, ...]
    lines: int
    net: int


@dataclass(frozen=True, slots=True)
class SettlementImport:
    """A file, or a book's part of one, that is booked. ``replayed``: it was before this call, which changed nothing."""

    bank: str
    file_id: str
    settled_on: date
    currency: str
    totals: Totals
    sha256: bytes
    imported_at: datetime
    replayed: bool


def parts(file: SettlementFile, homes: Mapping[str, int]) -> dict[int, SettlementFile]:
    """The file's lines by the book each belongs to (``homes``: every reference's book), in order of the books.

    Each line keeps its place in the file; sums are those of the part.
    """
    lines: dict[int, list[SettlementLine]] = {book_id: [] for book_id in sorted(set(homes.values()))}
    for line in file.lines:
        lines[homes[line.rrn]].append(line)
    return {
        book_id: replace(file, lines=tuple(own), totals=Totals.of(own))
        for book_id, own in lines.items()
        if own
    }


def expected(
    *,
    bank: str,
    book_id: int,
    rrn: str,
    kind: str,
    amount: int,
    currency: str,
    merchant_id: str,
    operation_id: UUID,
    booked_on: date,
) -> dict[str, object]:
    """The row of ``banks.expected_item``: ``bank`` shall settle this capture or refund; goes with what books it."""
    return {
        "book_id": book_id,
        "bank": bank,
        "rrn": rrn,
        "kind": LineKind(kind).value,
        "amount": amount,
        "currency": currency,
        "merchant_id": merchant_id,
        "operation_id": operation_id,
        "booked_on": booked_on,
    }


async def take_turn(conn: AsyncConnection[Any], file: SettlementFile) -> None:
    """Wait for every other import of a file of this id, of whatever book, to end; until the transaction does.

    Parts of one file come one after the other, so that each sees what the ones before said the file is. Before any
    book's lock: who waits here with one stops a book for as long as the other import takes.
    """
    await conn.execute(_TURN, [file.file_id, file.bank])


async def import_file(
    conn: AsyncConnection[Any],
    book_id: int,
    file: SettlementFile,
    *,
    now: datetime,
    random: Callable[[int], bytes] = os.urandom,
    whole: Whole | None = None,
) -> SettlementImport:
    """Match every line of ``file`` to what is expected, and book it; in the caller's transaction, not committed.

    ``whole``: what ``file`` is this book's part of; None if it is all of it. All or nothing: raises
    ``SettlementRefused`` (with line and field) and leaves the transaction as it was. The same file again changes
    nothing and gives the first result. The settlement takes effect at the end of the file's day, or now if that day
    is not over. A caller that holds the book's lock has called ``take_turn`` before it took that.
    """
    await _check_header(conn, file, now)
    async with conn.transaction():
        await take_turn(conn, file)
        all_of_it = Whole((book_id,), len(file.lines), file.totals.net)
        first = await _claim(conn, book_id, file, whole or all_of_it, now)
        if first is not None:
            return first
        _match(file, await load_expected(conn, book_id, file.bank, [line.rrn for line in file.lines]))
        ids = Ids(lambda: now, random)
        journal_ids = [ids() for _ in file.lines]
        await _add_lines(conn, book_id, file, journal_ids)
        await _post(conn, book_id, file, journal_ids, now)
    return SettlementImport(
        file.bank, file.file_id, file.settled_on, file.currency, file.totals, file.sha256, now, replayed=False
    )


async def load_expected(
    conn: AsyncConnection[Any], book_id: int, bank: str, rrns: Sequence[str] | None = None
) -> dict[str, ExpectedItem]:
    """What is or was expected of ``bank``, by reference; all of it when ``rrns`` is None."""
    async with conn.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(
            "SELECT rrn, kind, amount, currency FROM banks.expected_item"
            " WHERE book_id = %s AND bank = %s AND (%s::text[] IS NULL OR rrn = ANY (%s::text[]))",
            (book_id, bank, rrns, rrns),
        )
        rows = await cursor.fetchall()
    items = (ExpectedItem(r["rrn"], LineKind(r["kind"]), r["amount"], r["currency"]) for r in rows)
    return {item.rrn: item for item in items}


async def _check_header(conn: AsyncConnection[Any], file: SettlementFile, now: datetime) -> None:
    cursor = await conn.execute("SELECT FROM banks.bank WHERE code = %s", (file.bank,))
    if cursor.rowcount == 0:
        raise SettlementRefused(1, "bank", "is not a bank of ours")
    if file.settled_on > now.astimezone(UTC).date():
        raise SettlementRefused(1, "date", "lies in the future")


async def _claim(
    conn: AsyncConnection[Any], book_id: int, file: SettlementFile, whole: Whole, now: datetime
) -> SettlementImport | None:
    """Enter the file; None if it is ours to book. In its turn."""
    header = _header(book_id, file)
    totals = {name: getattr(file.totals, name) for name in Totals.__dataclass_fields__}
    if (await conn.execute(_OTHER_CONTENT, [file.bank, file.file_id, file.sha256])).rowcount:
        raise SettlementRefused(1, "file_id", "was imported before with other content")
    of = {"books": list(whole.books), "file_lines": whole.lines, "file_net": whole.net, "imported_at": now}
    cursor = await conn.execute(_CLAIM, header | totals | of)
    if cursor.rowcount == 1:
        return None
    return await find_import(conn, book_id, file.bank, file.file_id)


async def find_import(
    conn: AsyncConnection[Any], book_id: int, bank: str, file_id: str
) -> SettlementImport | None:
    """The import of a file, if it has been imported; as a replay gives it."""
    async with conn.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_FIND, (book_id, bank, file_id))
        row = await cursor.fetchone()
    if row is None:
        return None
    totals = Totals(**{name: row.pop(name) for name in Totals.__dataclass_fields__})
    return SettlementImport(**row, totals=totals, replayed=True)


def _match(file: SettlementFile, expected: Mapping[str, ExpectedItem]) -> None:
    """Each line against its item; the first that disagrees refuses the file."""
    for line in file.lines:
        item = expected.get(line.rrn)
        if item is None:
            raise SettlementRefused(line.line, "rrn", "is not a reference of ours at this bank")
        if line.kind is not item.kind:
            raise SettlementRefused(line.line, "record", f"the item is a {item.kind}")
        if file.currency != item.currency:
            raise SettlementRefused(line.line, "currency", f"is {file.currency}, expected {item.currency}")
        if line.amount != item.amount:
            raise SettlementRefused(line.line, "amount", f"is {line.amount}, expected {item.amount}")


async def _add_lines(
    conn: AsyncConnection[Any], book_id: int, file: SettlementFile, journal_ids: Sequence[UUID]
) -> None:
    # In order of reference: two files with an item in common must not deadlock, the second is to be refused.
    order = sorted(zip(file.lines, journal_ids, strict=True), key=lambda pair: pair[0].rrn)
    names = ("line", "kind", "rrn", "amount", "cost", "tax", "net")
    columns: dict[str, Any] = {name: [getattr(line, name) for line, _ in order] for name in names}
    columns["journal_id"] = [journal_id for _, journal_id in order]
    cursor = await conn.execute(_ADD_LINES, _header(book_id, file) | columns)
    added = {row[0] for row in await cursor.fetchall()}
    for line in file.lines:
        if line.rrn not in added:
            raise SettlementRefused(line.line, "rrn", "was settled by another file")


async def _post(
    conn: AsyncConnection[Any],
    book_id: int,
    file: SettlementFile,
    journal_ids: Sequence[UUID],
    now: datetime,
) -> None:
    end_of_day = datetime.combine(file.settled_on, time.max, UTC)
    units = [
        Unit((settlement_journal(file, line, journal_id=journal_id, effective_at=min(end_of_day, now)),))
        for line, journal_id in zip(file.lines, journal_ids, strict=True)
    ]
    for line, result in zip(file.lines, await post(conn, book_id, units, now=now), strict=True):
        _check_posted(line, result)


def _check_posted(line: SettlementLine, result: object) -> None:
    if not isinstance(result, Posted):
        raise SettlementRefused(line.line, "posting", str(result))
    if result.replayed:
        raise SettlementRefused(line.line, "rrn", "is in the journal already")


def _header(book_id: int, file: SettlementFile) -> dict[str, Any]:
    return {
        "book_id": book_id,
        "bank": file.bank,
        "file_id": file.file_id,
        "sha256": file.sha256,
        "settled_on": file.settled_on,
        "currency": file.currency,
    }
