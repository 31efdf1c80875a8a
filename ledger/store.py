"""Writes a batch's rows: one statement a table whatever its size, all in one round trip.

Rows travel as one binary array of the table's row type: as cheap to the server as COPY, without COPY's two round
trips each. Postings go first, journals last: the insert of the journals is what moves the book's head, its
balances and its holds (migrations, ``ledger.journal_appended``).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.adapt import Dumper
from psycopg.pq import Format

from ledger.canonical import leaf_hash
from ledger.decide import Decisions, JournalRow, PostingRow
from ledger.state import State

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_PLACE_HOLDS = """
INSERT INTO ledger.hold (book_id, hold_id, debit_account, credit_account, tolerance_bps, expires_at)
SELECT %(book)s, h.*
  FROM unnest(%(ids)s::uuid[], %(debits)s::int[], %(credits)s::int[], %(tolerances)s::int[],
              %(expiries)s::timestamptz[]) AS h"""
_INSERT_POSTINGS = "INSERT INTO ledger.posting SELECT * FROM unnest(%(rows)b::ledger.posting[])"
_INSERT_JOURNALS = "INSERT INTO ledger.journal SELECT * FROM unnest(%(rows)b::ledger.journal[])"

# A row is its number of columns, then each column's type, length (-1: null) and bytes; columns as in the table.
_BYTEA, _INT8, _INT2, _INT4, _TEXT, _TIME, _UUID = 17, 20, 21, 23, 25, 1184, 2950
_POSTING = struct.Struct(">ii" + "IIq" * 10 + "IIi" * 3 + "IIh" * 2)
_NO_HOLD = struct.Struct(">IiII3sIi")
_HOLD = struct.Struct(">IIhII3sII16s")
_JOURNAL = struct.Struct(">iIIiIIqII16sIIqIIq")
_NO_REVERSAL = struct.Struct(">IiIIh")
_REVERSAL = struct.Struct(">IIqIIh")


class _Rows(bytes):
    """An array of rows in PostgreSQL's binary format; the statement says of which table."""

    __slots__ = ()


class _RowsDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: _Rows) -> _Rows:
        return obj


psycopg.adapters.register_dumper(_Rows, _RowsDumper)


async def store(conn: AsyncConnection[Any], state: State, decisions: Decisions) -> None:
    """Write the rows of the units that stand. The database's guards may refuse (``psycopg.Error``, class KH)."""
    if not decisions.journals:
        return
    types = state.row_types
    async with conn.pipeline():
        if decisions.holds:
            await conn.execute(_PLACE_HOLDS, _hold_columns(state.book_id, decisions), prepare=True)
        postings = encode_postings(state.book_id, decisions.postings, types.posting)
        await conn.execute(_INSERT_POSTINGS, {"rows": postings}, prepare=True)
        # Made while the server takes the postings in.
        journals = encode_journals(state.book_id, decisions.journals, types.journal, state.recorded_at)
        await conn.execute(_INSERT_JOURNALS, {"rows": journals}, prepare=True)


def _hold_columns(book_id: int, decisions: Decisions) -> dict[str, Any]:
    pairs = {p.hold_id: (p.debit_account, p.credit_account) for p in decisions.postings if p.action == 0}
    holds = decisions.holds
    return {
        "book": book_id,
        "ids": _array(h.id for h in holds),
        "debits": _array(pairs[h.id][0] for h in holds),
        "credits": _array(pairs[h.id][1] for h in holds),
        "tolerances": _array(h.tolerance_bps for h in holds),
        "expiries": _array(h.expires_at and h.expires_at.isoformat() for h in holds),
    }


def _array(values: Iterable[object]) -> str:
    """An array literal of values that need no quotes: a fraction of the cost of adapting a list."""
    return "{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}"


def encode_postings(book_id: int, rows: Sequence[PostingRow], row_type: int) -> bytes:
    """The rows as a binary array; ``row_type``: the oid of ``ledger.posting``."""
    pack, pack_hold, pack_no_hold = _POSTING.pack, _HOLD.pack, _NO_HOLD.pack
    parts = [_array_header(len(rows), row_type)]
    for r in rows:
        if r.hold_id is None or r.action is None:
            tail = pack_no_hold(_INT2, -1, _TEXT, 3, r.currency.encode(), _UUID, -1)
        else:
            tail = pack_hold(*(_INT2, 2, r.action, _TEXT, 3, r.currency.encode(), _UUID, 16, r.hold_id.bytes))
        parts += (
            pack(
                *(_POSTING.size - 4 + len(tail), 18, _INT8, 8, r.journal_seq, _INT8, 8, r.amount),
                *(_INT8, 8, r.debit_seq, _INT8, 8, r.debit_posted),
                *(_INT8, 8, r.debit_available, _INT8, 8, r.debit_incoming),
                *(_INT8, 8, r.credit_seq, _INT8, 8, r.credit_posted),
                *(_INT8, 8, r.credit_available, _INT8, 8, r.credit_incoming),
                *(_INT4, 4, book_id, _INT4, 4, r.debit_account, _INT4, 4, r.credit_account),
                *(_INT2, 2, r.line, _INT2, 2, r.layer),
            ),
            tail,
        )
    return _Rows(b"".join(parts))


class _Words(dict[str, bytes]):
    """Words as columns: kinds and events are few and come again and again."""

    def __missing__(self, word: str) -> bytes:
        column = self[word] = _column(_TEXT, word.encode())
        return column


def encode_journals(book_id: int, rows: Sequence[JournalRow], row_type: int, recorded_at: datetime) -> bytes:
    """The rows, each with its leaf hash, as a binary array; ``row_type``: the oid of ``ledger.journal``."""
    words = _Words()
    recorded = _micros(recorded_at)
    parts = [_array_header(len(rows), row_type)]
    for journal, seq, effective_at, lines, canonical in rows:
        effective = recorded if journal.effective_at is None else _micros(effective_at)
        source = journal.source
        row = b"".join(
            (
                _JOURNAL.pack(
                    *(13, _INT4, 4, book_id, _INT8, 8, seq, _UUID, 16, journal.id.bytes),
                    *(_TIME, 8, effective, _TIME, 8, recorded),
                ),
                _NO_REVERSAL.pack(_INT8, -1, _INT2, 2, lines)
                if journal.reverses is None
                else _REVERSAL.pack(_INT8, 8, journal.reverses, _INT2, 2, lines),
                words[journal.kind],
                words[source.type],
                _column(_TEXT, source.id.encode()),
                words[source.event],
                _column(_BYTEA, leaf_hash(canonical)),
                _column(_TEXT, canonical),
            )
        )
        parts += (len(row).to_bytes(4, "big"), row)
    return _Rows(b"".join(parts))


def _array_header(length: int, row_type: int) -> bytes:
    """One dimension, no null rows, counted from 1."""
    return struct.pack(">iiIii", 1, 0, row_type, length, 1)


def _column(oid: int, value: bytes) -> bytes:
    return struct.pack(">II", oid, len(value)) + value


def _micros(at: datetime) -> int:
    """Microseconds since 2000-01-01, PostgreSQL's binary timestamptz."""
    return (at - _EPOCH) // _MICROSECOND
