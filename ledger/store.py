"""Writes a batch's rows with one statement, ``ledger.append`` (migrations, 0011), whatever its size.

Postings travel as one binary array of the table's row type, journals as one array a column; what is the same for all
of a batch travels once. The statement moves the book's head, its balances and its holds with the rows.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncConnection
from psycopg.adapt import Dumper
from psycopg.pq import Format

from ledger.canonical import leaf_hash, version_after
from ledger.decide import Decisions, PostingRow
from ledger.state import State
from ledger.wire import Call, named

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_BYTEA, _INT8, _INT2, _INT4, _TEXT, _TIME, _UUID = 17, 20, 21, 23, 25, 1184, 2950
_INFERRED = 0
# The parameters of ledger.append; arrays by the oids of their elements.
_SCALARS = (_INT4, _INT8, _INT8, _INT8, _TIME)
_ARRAY_OF = {_UUID: 2951, _TIME: 1185, _INT8: 1016, _INT2: 1005, _INT4: 1007, _TEXT: 1009, _BYTEA: 1001}
_COLUMNS = (
    _UUID,
    _TIME,
    _INT8,
    _INT2,
    _TEXT,
    _TEXT,
    _TEXT,
    _TEXT,
    _BYTEA,
    _TEXT,
    _UUID,
    _INT4,
    _INT4,
    _INT4,
    _TIME,
)
_TYPES = (*_SCALARS, _INFERRED, *(_ARRAY_OF[column] for column in _COLUMNS))
_SQL = f"SELECT ledger.append({', '.join(f'${n}' for n in range(1, len(_TYPES) + 2))})".encode()
_CALL = f"SELECT ledger.append({', '.join(['%b'] * len(_TYPES))})".encode()

# A row is its number of columns, then each column's type, length (-1: null) and bytes; columns as in the table.
_POSTING = struct.Struct(">ii" + "IIq" * 10 + "IIi" * 3 + "IIh" * 2)
_NO_HOLD = struct.Struct(">IiII3sIi")
_HOLD = struct.Struct(">IIhII3sII16s")
_INT8_OF, _INT4_OF, _INT2_OF = struct.Struct(">q").pack, struct.Struct(">i").pack, struct.Struct(">h").pack

T = TypeVar("T")


class _Binary(bytes):
    """A parameter in PostgreSQL's binary format; the function says of which type."""

    __slots__ = ()


class _BinaryDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: _Binary) -> _Binary:
        return obj


psycopg.adapters.register_dumper(_Binary, _BinaryDumper)


async def store(conn: AsyncConnection[Any], state: State, decisions: Decisions) -> None:
    """Write what stands in the caller's transaction; ``state`` is that of the book after it.

    The database's guards may refuse (``psycopg.Error``, class KH).
    """
    if decisions.journals:
        params = encode(state, decisions)
        await conn.execute(_CALL, [_Binary(param) for param in params], prepare=True)


async def prepare_append(conn: AsyncConnection[Any]) -> None:
    """Prepare what ``append`` calls."""
    await named(conn, _SQL, (*_TYPES, _INT8))


def append(params: Sequence[bytes], *, follows: int | None) -> Call:
    """The same by the short way, for a connection of the writer's own.

    ``follows``: the version that the batch before this one, perhaps still under way, was sent to. KH036, 55P03: the
    book is not as it was expected.
    """
    return Call(_SQL, (*_TYPES, _INT8), [*params, None if follows is None else _INT8_OF(follows)])


def encode(state: State, decisions: Decisions) -> list[bytes]:
    """The parameters of ``ledger.append`` for what stands. ``state`` is that of the book after it."""
    leaves = [leaf_hash(row.canonical) for row in decisions.journals]
    expected, state.version = state.version, version_after(state.version, leaves)
    journals = [row.journal for row in decisions.journals]
    sources = [journal.source for journal in journals]
    effective = [row.effective_at for row in decisions.journals]
    same_time = all(at == state.recorded_at for at in effective)
    reverses = any(journal.reverses is not None for journal in journals)
    one_line = all(row.lines == 1 for row in decisions.journals)
    pairs = {p.hold_id: p for p in decisions.postings if p.action == 0}
    holds = decisions.holds
    return [
        _INT4_OF(state.book_id),
        _INT8_OF(expected),
        _INT8_OF(state.version),
        _INT8_OF(decisions.journals[0].seq),
        _micros(state.recorded_at),
        encode_postings(state.book_id, decisions.postings, state.posting_type),
        _array(_UUID, [journal.id.bytes for journal in journals]),
        _array(_TIME, [] if same_time else [_micros(at) for at in effective]),
        _array(_INT8, [_optional(_INT8_OF, journal.reverses) for journal in journals] if reverses else []),
        _array(_INT2, [] if one_line else [_INT2_OF(row.lines) for row in decisions.journals]),
        _words([journal.kind for journal in journals]),
        _words([source.type for source in sources]),
        _array(_TEXT, [source.id.encode() for source in sources]),
        _words([source.event for source in sources]),
        _array(_BYTEA, leaves),
        _array(_TEXT, [row.canonical for row in decisions.journals]),
        _array(_UUID, [hold.id.bytes for hold in holds]),
        _array(_INT4, [_INT4_OF(pairs[hold.id].debit_account) for hold in holds]),
        _array(_INT4, [_INT4_OF(pairs[hold.id].credit_account) for hold in holds]),
        _array(_INT4, [_INT4_OF(hold.tolerance_bps) for hold in holds]),
        _array(_TIME, [_optional(_micros, hold.expires_at) for hold in holds]),
    ]


def encode_postings(book_id: int, rows: Sequence[PostingRow], row_type: int) -> bytes:
    """The rows as a binary array; ``row_type``: the oid of ``ledger.posting``."""
    pack, pack_hold, pack_no_hold = _POSTING.pack, _HOLD.pack, _NO_HOLD.pack
    parts = [_array_header(row_type, len(rows))]
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
    return b"".join(parts)


def _words(values: Sequence[str]) -> bytes:
    """Kinds and parts of source keys: mostly the same for a whole batch, then sent once."""
    same = len(set(values)) == 1
    return _array(_TEXT, [value.encode() for value in (values[:1] if same else values)])


def _array(element: int, values: Sequence[bytes | None]) -> bytes:
    """A binary array of values that are in binary form already."""
    parts = [_array_header(element, len(values), nulls=None in values)]
    for value in values:
        parts += (b"\xff\xff\xff\xff",) if value is None else (len(value).to_bytes(4, "big"), value)
    return b"".join(parts)


def _array_header(element: int, length: int, *, nulls: bool = False) -> bytes:
    """One dimension, counted from 1; none if it is empty."""
    if length == 0:
        return struct.pack(">iiI", 0, 0, element)
    return struct.pack(">iiIii", 1, nulls, element, length, 1)


def _optional(encode: Callable[[T], bytes], value: T | None) -> bytes | None:
    return None if value is None else encode(value)


def _micros(at: datetime) -> bytes:
    """Microseconds since 2000-01-01, PostgreSQL's binary timestamptz."""
    return _INT8_OF((at - _EPOCH) // _MICROSECOND)
