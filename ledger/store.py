"""Writes a batch's rows with binary COPY: a fixed number of statements whatever its size.

Postings go first, journals last: the insert of the journals is what moves the book's head, its balances and its
holds (migrations, ``ledger.journal_appended``).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg import AsyncConnection

from ledger.canonical import leaf_hash
from ledger.decide import Decisions, JournalRow, PostingRow

_HEADER = b"PGCOPY\n\xff\r\n\x00" + struct.pack(">ii", 0, 0)
_TRAILER = struct.pack(">h", -1)
_NULL = struct.pack(">i", -1)
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_COPY_POSTINGS = """COPY ledger.posting (
  journal_seq, amount, debit_seq, debit_posted, debit_available, debit_incoming, credit_seq, credit_posted,
  credit_available, credit_incoming, book_id, debit_account, credit_account, line, layer, currency, hold_action, hold_id
) FROM STDIN (FORMAT BINARY)"""
_COPY_JOURNALS = """COPY ledger.journal (
  book_id, seq, id, effective_at, recorded_at, lines, reverses, kind, source_type, source_id, source_event,
  canonical, leaf_hash
) FROM STDIN (FORMAT BINARY)"""
_PLACE_HOLDS = """
INSERT INTO ledger.hold (book_id, hold_id, debit_account, credit_account, tolerance_bps, expires_at)
SELECT %(book)s, h.*
  FROM unnest(%(ids)s::uuid[], %(debits)s::int[], %(credits)s::int[], %(tolerances)s::int[],
              %(expiries)s::timestamptz[]) AS h"""

# 18 fields; each is its length as int32, then its bytes. The last two differ with and without a hold.
_POSTING = struct.Struct(">h" + "iq" * 10 + "ii" * 3 + "ih" * 2 + "i3s")
_POSTING_HOLD = struct.Struct(">ihi16s")
_NO_HOLD = _NULL + _NULL
_JOURNAL = struct.Struct(">hiiiqi16siqiqih")
_BIGINT = struct.Struct(">iq")


async def store(
    conn: AsyncConnection[Any], book_id: int, decisions: Decisions, recorded_at: datetime
) -> None:
    """Write the rows of the units that stand. The database's guards may refuse (``psycopg.Error``, class KH)."""
    if not decisions.journals:
        return
    if decisions.holds:
        await _place_holds(conn, book_id, decisions)
    cursor = conn.cursor()
    async with cursor.copy(_COPY_POSTINGS) as copy:
        await copy.write(encode_postings(book_id, decisions.postings))
        # While the server takes the postings in.
        journals = encode_journals(book_id, decisions.journals, recorded_at)
    async with cursor.copy(_COPY_JOURNALS) as copy:
        await copy.write(journals)


async def _place_holds(conn: AsyncConnection[Any], book_id: int, decisions: Decisions) -> None:
    pairs = {p.hold_id: (p.debit_account, p.credit_account) for p in decisions.postings if p.action == 0}
    holds = decisions.holds
    await conn.execute(
        _PLACE_HOLDS,
        {
            "book": book_id,
            "ids": _array(h.id for h in holds),
            "debits": _array(pairs[h.id][0] for h in holds),
            "credits": _array(pairs[h.id][1] for h in holds),
            "tolerances": _array(h.tolerance_bps for h in holds),
            "expiries": _array(h.expires_at and h.expires_at.isoformat() for h in holds),
        },
    )


def encode_postings(book_id: int, rows: Iterable[PostingRow]) -> bytes:
    """The rows in PostgreSQL's binary COPY format."""
    pack, pack_hold = _POSTING.pack, _POSTING_HOLD.pack
    parts = [_HEADER]
    for r in rows:
        parts.append(
            pack(
                *(18, 8, r.journal_seq, 8, r.amount),
                *(8, r.debit_seq, 8, r.debit_posted, 8, r.debit_available, 8, r.debit_incoming),
                *(8, r.credit_seq, 8, r.credit_posted, 8, r.credit_available, 8, r.credit_incoming),
                *(4, book_id, 4, r.debit_account, 4, r.credit_account, 2, r.line, 2, r.layer),
                *(3, r.currency.encode()),
            )
        )
        if r.hold_id is None or r.action is None:
            parts.append(_NO_HOLD)
        else:
            parts.append(pack_hold(2, r.action, 16, r.hold_id.bytes))
    parts.append(_TRAILER)
    return b"".join(parts)


class _Words(dict[str, bytes]):
    """Words as COPY fields (length, then bytes): kinds and events are few and come again and again."""

    def __missing__(self, word: str) -> bytes:
        field = self[word] = _field(word.encode())
        return field


def encode_journals(book_id: int, rows: Iterable[JournalRow], recorded_at: datetime) -> bytes:
    """The rows in PostgreSQL's binary COPY format, each with its leaf hash."""
    pack, words = _JOURNAL.pack, _Words()
    recorded = _micros(recorded_at)
    parts = [_HEADER]
    for journal, seq, effective_at, lines, canonical in rows:
        effective = recorded if journal.effective_at is None else _micros(effective_at)
        source = journal.source
        parts += (
            pack(13, 4, book_id, 8, seq, 16, journal.id.bytes, 8, effective, 8, recorded, 2, lines),
            _NULL if journal.reverses is None else _BIGINT.pack(8, journal.reverses),
            words[journal.kind],
            words[source.type],
            _field(source.id.encode()),
            words[source.event],
            _field(canonical),
            _field(leaf_hash(canonical)),
        )
    parts.append(_TRAILER)
    return b"".join(parts)


def _field(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value


def _array(values: Iterable[object]) -> str:
    """An array literal of values that need no quotes: a fraction of the cost of adapting a list."""
    return "{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}"


def _micros(at: datetime) -> int:
    """Microseconds since 2000-01-01, PostgreSQL's binary timestamptz."""
    return (at - _EPOCH) // _MICROSECOND
