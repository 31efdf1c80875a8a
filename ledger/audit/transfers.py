"""Transfers between books, proved from the journals of both: sent and received, or sent and returned, or in flight.

A book is looked at as the one that sends and as the one that receives; what another book must have, is said of this
book's rows only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, LiteralString, NamedTuple

from psycopg import AsyncConnection
from psycopg.rows import class_row

from ledger.audit import lines
from ledger.audit.report import Key, Tally

CLEARING = "Assets:Clearing:Book:"
KINDS = {"sent": "transfer_sent", "received": "transfer_received", "returned": "transfer_returned"}

# Journals by their source keys: only the first of each, another check names a second.
_TRANSFERS: LiteralString = """
SELECT t.book_id, t.transfer_id::text, t.to_book, t.side, t.account, t.to_account, t.amount, t.currency, t.sent_seq,
       t.state, t.end_seq, t.reason, a.book_id IS NOT NULL AS answered, a.received_seq, a.reason AS refused_for,
       sent.seq AS sent, sent.line AS sent_line, received.seq AS received, received.line AS received_line,
       returned.seq AS returned, returned.line AS returned_line
  FROM ledger.transfer t
  LEFT JOIN LATERAL (
    SELECT * FROM ledger.arrival a
     WHERE a.book_id = t.to_book AND a.from_book = t.book_id AND a.transfer_id = t.transfer_id LIMIT 1) a ON true
  LEFT JOIN LATERAL (
    SELECT j.seq, convert_to(j.canonical, 'UTF8') AS line FROM ledger.journal j
     WHERE j.book_id = t.book_id AND j.source_id = t.book_id || '/' || t.transfer_id AND j.source_type = 'transfer'
       AND j.source_event = 'sent' ORDER BY j.seq LIMIT 1) sent ON true
  LEFT JOIN LATERAL (
    SELECT j.seq, convert_to(j.canonical, 'UTF8') AS line FROM ledger.journal j
     WHERE j.book_id = t.to_book AND j.source_id = t.book_id || '/' || t.transfer_id AND j.source_type = 'transfer'
       AND j.source_event = 'received' ORDER BY j.seq LIMIT 1) received ON true
  LEFT JOIN LATERAL (
    SELECT j.seq, convert_to(j.canonical, 'UTF8') AS line FROM ledger.journal j
     WHERE j.book_id = t.book_id AND j.source_id = t.book_id || '/' || t.transfer_id AND j.source_type = 'transfer'
       AND j.source_event = 'returned' ORDER BY j.seq LIMIT 1) returned ON true
 WHERE t.book_id = %(book)s"""
_TWICE: Mapping[str, LiteralString] = {
    "transfer": "SELECT transfer_id::text, NULL, count(*) FROM ledger.transfer WHERE book_id = %(book)s"
    " GROUP BY transfer_id HAVING count(*) > 1",
    "arrival": "SELECT transfer_id::text, from_book, count(*) FROM ledger.arrival WHERE book_id = %(book)s"
    " GROUP BY from_book, transfer_id HAVING count(*) > 1",
}
_STRAY_ARRIVALS: LiteralString = """
SELECT a.from_book, a.transfer_id::text FROM ledger.arrival a
 WHERE a.book_id = %(book)s AND NOT EXISTS (
   SELECT FROM ledger.transfer t
    WHERE t.book_id = a.from_book AND t.transfer_id = a.transfer_id AND t.to_book = a.book_id)"""
_JOURNALS: LiteralString = """
SELECT j.seq, j.kind, j.source_event, split_part(j.source_id, '/', 1), split_part(j.source_id, '/', 2),
       j.source_type = 'transfer' AND j.kind = 'transfer_' || j.source_event,
       EXISTS (SELECT FROM ledger.transfer t
                WHERE t.book_id = j.book_id AND t.book_id || '/' || t.transfer_id = j.source_id
                  AND t.transfer_id::text = split_part(j.source_id, '/', 2)),
       EXISTS (SELECT FROM ledger.arrival a
                WHERE a.book_id = j.book_id AND a.from_book || '/' || a.transfer_id = j.source_id)
  FROM ledger.journal j
 WHERE j.book_id = %(book)s AND j.kind IN ('transfer_sent', 'transfer_received', 'transfer_returned') ORDER BY j.seq"""
_CLEARING_LINES: LiteralString = """
SELECT l.journal_seq, l.line, a.path, j.kind
  FROM ledger.account a
  JOIN ledger.line l ON l.book_id = a.book_id AND l.account_id = a.account_id
  LEFT JOIN ledger.journal j ON j.book_id = a.book_id AND j.seq = l.journal_seq
 WHERE a.book_id = %(book)s AND a.path LIKE 'Assets:Clearing:Book:%%' ORDER BY l.journal_seq, l.line"""


@dataclass(frozen=True, slots=True)
class TransferRow:
    """A row of ``ledger.transfer`` with its answer (``received_seq`` or ``refused_for``, if ``answered``) and the
    numbers and canonical lines of its journals, as far as there are any.
    """

    book_id: int
    transfer_id: str
    to_book: int
    side: str
    account: str
    to_account: str
    amount: int
    currency: str
    sent_seq: int
    state: str
    end_seq: int | None
    reason: str | None
    answered: bool
    received_seq: int | None
    refused_for: str | None
    sent: int | None
    sent_line: bytes | None
    received: int | None
    received_line: bytes | None
    returned: int | None
    returned_line: bytes | None

    @property
    def key(self) -> Key:
        return {"book_id": self.book_id, "transfer_id": self.transfer_id}

    @property
    def arrival_key(self) -> Key:
        return {"book_id": self.to_book, "from_book": self.book_id, "transfer_id": self.transfer_id}


class Moved(NamedTuple):
    """What a transfer's journal says. ``side``: of ``account``, the other one is a clearing account for ``book``."""

    side: str
    account: str
    amount: int
    currency: str
    book: str
    metadata: Mapping[str, str]


async def check_transfers(conn: AsyncConnection[Any], book_id: int, tally: Tally) -> None:
    """Every transfer the book has sent or answered is what its journals say, and each of those has its transfer."""
    cursor = await conn.execute("SELECT book_id, name FROM ledger.book")
    names: dict[int, str] = dict(await cursor.fetchall())
    given = {"book": book_id}
    for table, sql in _TWICE.items():
        for transfer_id, from_book, count in await (await conn.execute(sql, given)).fetchall():
            key: Key = {"book_id": book_id, "transfer_id": transfer_id}
            key |= {"from_book": from_book} if from_book else {}
            tally.find(table, key, "row", f"there {count} times", "there once")
    for from_book in names:
        # What another book has sent is asked of that book: each of these reads is by key.
        sent_here = _TRANSFERS if from_book == book_id else _TRANSFERS + " AND t.to_book = %(to_book)s"
        check = _check_sent if from_book == book_id else _check_arrival
        async with conn.cursor(row_factory=class_row(TransferRow)) as found:
            await found.execute(
                sent_here + " ORDER BY t.transfer_id", {"book": from_book, "to_book": book_id}
            )
            async for row in found:
                tally.rows += 1
                check(row, names, tally)
    for from_book, transfer_id in await (await conn.execute(_STRAY_ARRIVALS, given)).fetchall():
        key = {"book_id": book_id, "from_book": from_book, "transfer_id": transfer_id}
        tally.find("arrival", key, "row", "there", "missing: that book sent no such transfer here")
    await _check_journals(conn, book_id, tally)


async def check_clearing(conn: AsyncConnection[Any], book_id: int, tally: Tally) -> None:
    """Every line of a clearing account is a transfer's; ``check_transfers`` says which."""
    cursor = await conn.execute(_CLEARING_LINES, {"book": book_id})
    async for journal_seq, line, path, kind in cursor:
        tally.rows += 1
        if kind not in KINDS.values():
            key: Key = {"book_id": book_id, "journal_seq": journal_seq, "line": line}
            tally.find("posting", key, "account", path, f"another: {kind} is no transfer", path)


def _check_sent(row: TransferRow, names: Mapping[int, str], tally: Tally) -> None:
    if row.sent is None:
        tally.find("transfer", row.key, "row", "there", "missing: no journal sends it")
        return
    said = moved(row.sent_line)
    if said is None:
        tally.find("journal", {"book_id": row.book_id, "seq": row.sent}, "postings", "others", "a transfer's")
        return
    to_books = [book_id for book_id, name in names.items() if name == said.book]
    says = {
        "to_book": to_books[0] if to_books else said.book,
        "side": said.side,
        "account": said.account,
        "to_account": said.metadata.get("to_account"),
        "amount": said.amount,
        "currency": said.currency,
        "sent_seq": row.sent,
    }
    says |= dict(zip(("state", "end_seq", "reason"), _end(row), strict=True))
    for name, value in says.items():
        if getattr(row, name) != value:
            tally.find("transfer", row.key, name, getattr(row, name), value)
    if row.returned is not None:
        _check_moved(row, row.book_id, row.returned, row.returned_line, names.get(row.to_book), None, tally)


def _end(row: TransferRow) -> tuple[str, int | None, str | None]:
    """State, journal and reason. What was received may not be known to the sending book yet."""
    if row.returned is not None:
        said = moved(row.returned_line)
        return "returned", row.returned, said.metadata.get("reason") if said else None
    if row.received_seq is not None and row.state != "in_flight":
        return "completed", row.received_seq, None
    return "in_flight", None, None


def _check_arrival(row: TransferRow, names: Mapping[int, str], tally: Tally) -> None:
    key = row.arrival_key
    if not row.answered:
        if row.received is not None or row.state != "in_flight":
            tally.find("arrival", key, "row", "missing", "there")
        return
    if row.received_seq != row.received:
        tally.find("arrival", key, "received_seq", row.received_seq, row.received)
    if row.received is not None:
        if row.refused_for is not None:
            tally.find("arrival", key, "reason", row.refused_for, "none: it was received")
        account, name = row.to_account, names.get(row.book_id)
        _check_moved(row, row.to_book, row.received, row.received_line, name, account, tally)
    elif row.refused_for is None:
        tally.find("arrival", key, "reason", None, "the code of a refusal")
    elif row.state != "in_flight" and row.refused_for != row.reason:
        tally.find("arrival", key, "reason", row.refused_for, row.reason)


def _check_moved(
    row: TransferRow,
    book_id: int,
    seq: int,
    line: bytes | None,
    other: str | None,
    account: str | None,
    tally: Tally,
) -> None:
    """A journal that receives or returns moves what was sent, the other way; ``account`` None: whichever it was."""
    said = moved(line)
    side = "credit" if row.side == "debit" else "debit"
    booked = said and (said.side, said.account, said.amount, said.currency, said.book)
    must = (side, account or (said.account if said else None), row.amount, row.currency, other)
    if booked != must:
        tally.find("journal", {"book_id": book_id, "seq": seq}, "postings", booked, must)


async def _check_journals(conn: AsyncConnection[Any], book_id: int, tally: Tally) -> None:
    cursor = await conn.execute(_JOURNALS, {"book": book_id})
    async for seq, kind, event, from_book, transfer_id, named, sent, answered in cursor:
        tally.rows += 1
        if not named:
            key: Key = {"book_id": book_id, "seq": seq}
            tally.find("journal", key, "kind", kind, "that of its source, or another than transfers have")
        elif event == "received" and not answered:
            key = {"book_id": book_id, "from_book": from_book, "transfer_id": transfer_id}
            tally.find("arrival", key, "row", "missing", f"there: journal {seq} received it")
        elif event != "received" and not sent:
            key = {"book_id": book_id, "transfer_id": transfer_id}
            tally.find("transfer", key, "row", "missing", f"there: journal {seq} {event} it")


def moved(line: bytes | None) -> Moved | None:
    """None if the line is not one posting with a clearing account on one side (or is no line at all)."""
    said = (lines.parse(line) if line is not None else None) or {}
    postings: Any = said.get("postings")
    if not isinstance(postings, list) or len(postings) != 1 or not isinstance(postings[0], dict):
        return None
    p: dict[str, Any] = postings[0]
    debit, credit = str(p.get("debit")), str(p.get("credit"))
    if credit.startswith(CLEARING) == debit.startswith(CLEARING) or not str(p.get("amount")).isdigit():
        return None
    side, account, against = (
        ("debit", debit, credit) if credit.startswith(CLEARING) else ("credit", credit, debit)
    )
    metadata: Any = said.get("metadata")
    return Moved(
        *(side, account, int(p["amount"]), str(p.get("currency")), against.removeprefix(CLEARING)),
        metadata if isinstance(metadata, dict) else {},
    )
