"""The book as Parquet tables: ``journals``, ``lines``, ``accounts``. Needs pyarrow (``pip install 'khata[parquet]'``).

Amounts are minor units in 64-bit integers; ``signed`` and the balances of accounts are debit positive. A posting is
two lines, its debit and its credit. Row groups are written as they fill, so memory is one of them.
"""

from __future__ import annotations

import io
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from datetime import datetime
from typing import Any

import orjson
from psycopg import AsyncConnection

from ledger.canonical import leaf_hash
from ledger.errors import FormatUnavailable
from ledger.export.selection import Chosen, journal_pages
from ledger.export.standing import Standing, accounts_of

ROWS = 16_384  # of a row group
Row = tuple[Any, ...]

# Column, Arrow type as ``_types`` names it, whether it is always there.
JOURNALS = (
    ("seq", "int64", True),
    ("id", "string", True),
    ("kind", "string", True),
    ("source_type", "string", True),
    ("source_id", "string", True),
    ("source_event", "string", True),
    ("effective_at", "instant", True),
    ("recorded_at", "instant", True),
    ("description", "string", True),
    ("metadata", "texts", True),
    ("reverses", "int64", False),
    ("hold_action", "string", False),
    ("hold_id", "string", False),
    ("leaf_hash", "hash", True),
)
LINES = (
    ("seq", "int64", True),
    ("line", "int32", True),
    ("side", "string", True),
    ("account", "string", True),
    ("currency", "string", True),
    ("layer", "string", True),
    ("amount", "int64", True),
    ("signed", "int64", True),
    ("hold", "string", False),
)
ACCOUNTS = (
    ("account_id", "int32", True),
    ("account", "string", True),
    ("currency", "string", True),
    ("type", "string", True),
    ("owner", "string", False),
    ("opened_on", "day", True),
    ("closed_on", "day", False),
    ("chosen", "bool", True),
    ("opening", "int64", True),
    ("opening_pending", "int64", True),
    ("closing", "int64", True),
    ("closing_pending", "int64", True),
)
Columns = tuple[tuple[str, str, bool], ...]


async def journals(conn: AsyncConnection[Any], chosen: Chosen) -> AsyncGenerator[bytes]:
    rows = ([_journal(line) for line in page] async for page in journal_pages(conn, chosen))
    async for chunk in _table(JOURNALS, rows):
        yield chunk


async def lines(conn: AsyncConnection[Any], chosen: Chosen) -> AsyncGenerator[bytes]:
    rows = ([row for line in page for row in _lines(line)] async for page in journal_pages(conn, chosen))
    async for chunk in _table(LINES, rows):
        yield chunk


async def accounts(conn: AsyncConnection[Any], chosen: Chosen) -> AsyncGenerator[bytes]:
    found = await accounts_of(conn, chosen)
    rows = ([_account(standing) for standing in page] async for page in found.pages(conn))
    async for chunk in _table(ACCOUNTS, rows):
        yield chunk


def _journal(line: bytes) -> Row:
    said = orjson.loads(line)
    source, hold = said["source"], said.get("hold") or {}
    return (
        *(said["seq"], said["id"], said["kind"], source["type"], source["id"], source["event"]),
        *(datetime.fromisoformat(said["effective_at"]), datetime.fromisoformat(said["recorded_at"])),
        *(said["description"], list(said["metadata"].items()), said.get("reverses")),
        *(hold.get("action"), hold.get("id"), leaf_hash(line)),
    )


def _lines(line: bytes) -> Iterator[Row]:
    said = orjson.loads(line)
    for number, p in enumerate(said["postings"], start=1):
        amount = int(p["amount"])
        for side, signed in (("debit", amount), ("credit", -amount)):
            yield (
                said["seq"],
                number,
                side,
                p[side],
                p["currency"],
                p["layer"],
                amount,
                signed,
                p.get("hold"),
            )


def _account(s: Standing) -> Row:
    return (
        *(
            s.account_id,
            s.path,
            s.currency,
            s.path.split(":", 1)[0],
            s.owner,
            s.opened_on,
            s.closed_on,
            s.chosen,
        ),
        *(s.opening, s.opening_pending, s.closing, s.closing_pending),
    )


# ---------------------------------------------------------------- writing


class _Sink(io.RawIOBase):
    """What the writer has written since it was last asked."""

    def __init__(self) -> None:
        super().__init__()
        self._chunks: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self._chunks.append(bytes(data))
        return len(data)

    def taken(self) -> bytes:
        taken = b"".join(self._chunks)
        self._chunks.clear()
        return taken


async def _table(columns: Columns, pages: AsyncIterator[list[Row]]) -> AsyncGenerator[bytes]:
    try:
        import pyarrow.parquet as pq
    except ModuleNotFoundError:
        raise FormatUnavailable("parquet", "pyarrow") from None
    schema, sink, rows = _schema(columns), _Sink(), list[Row]()
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        async for page in pages:
            rows += page
            while len(rows) >= ROWS:
                writer.write_batch(_batch(schema, rows[:ROWS]))
                del rows[:ROWS]
                yield sink.taken()
        if rows:
            writer.write_batch(_batch(schema, rows))
    yield sink.taken()


def _schema(columns: Columns) -> Any:
    import pyarrow as pa

    types: dict[str, Any] = {
        "int64": pa.int64(),
        "int32": pa.int32(),
        "string": pa.string(),
        "bool": pa.bool_(),
        "instant": pa.timestamp("us", tz="UTC"),
        "day": pa.date32(),
        "texts": pa.map_(pa.string(), pa.string()),
        "hash": pa.binary(32),
    }
    return pa.schema([pa.field(name, types[type_], nullable=not always) for name, type_, always in columns])


def _batch(schema: Any, rows: Iterable[Row]) -> Any:
    import pyarrow as pa

    arrays = [
        pa.array(list(values), field.type)
        for values, field in zip(zip(*rows, strict=True), schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
