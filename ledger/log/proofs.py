"""Proofs out of the log: that a leaf is in the tree of a size, that a tree begins a later one. O(log n) reads each."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from psycopg import AsyncConnection

from ledger.errors import LedgerError
from ledger.log.leaves import hashes
from ledger.log.merkle import EMPTY_ROOT, consistency_path, inclusion_path
from ledger.log.tiles import subtree_roots

_SIZE = "SELECT max(size) FROM ledger.checkpoint WHERE book_id = %s"
_LEAF = """
SELECT first_index + %(number)s - first_number FROM (
  SELECT first_index, first_number, count FROM ledger.log_run
   WHERE book_id = %(book)s AND source = %(source)s AND first_number <= %(number)s ORDER BY first_number DESC
   LIMIT 1) AS r
 WHERE %(number)s < first_number + count"""
_COVERING = """
SELECT size, root, recorded_through, sealed_at, note FROM ledger.checkpoint
 WHERE book_id = %s AND size >= %s ORDER BY size LIMIT 1"""
_BEFORE = """
SELECT size FROM ledger.day_end WHERE book_id = %s AND covers_before >= %s ORDER BY covers_before LIMIT 1"""


@dataclass(unsafe_hash=True)
class NotInLog(LedgerError):
    """The log has no such leaf, or not so many leaves."""

    code: ClassVar[str] = "not_in_log"
    book_id: int
    size: int
    asked: str

    def __str__(self) -> str:
        return f"the log of book {self.book_id} has {self.size} leaves: {self.asked}"


@dataclass(frozen=True, slots=True)
class CheckpointRow:
    """A kept checkpoint; ``note`` is the signed note, without cosignatures."""

    size: int
    root: bytes
    recorded_through: datetime
    sealed_at: datetime
    note: str


async def log_size(conn: AsyncConnection[Any], book_id: int) -> int:
    """How many leaves the last checkpoint has; 0 without one."""
    row = await (await conn.execute(_SIZE, [book_id])).fetchone()
    return (row and row[0]) or 0


async def checkpoint_covering(conn: AsyncConnection[Any], book_id: int, size: int) -> CheckpointRow | None:
    """The first checkpoint of at least so many leaves."""
    row = await (await conn.execute(_COVERING, [book_id, size])).fetchone()
    return CheckpointRow(*row) if row else None


async def last_checkpoint(conn: AsyncConnection[Any], book_id: int) -> CheckpointRow | None:
    return await checkpoint_covering(conn, book_id, await log_size(conn, book_id))


async def cosigned(conn: AsyncConnection[Any], book_id: int, checkpoint: CheckpointRow) -> str:
    """The signed note with the lines of the witnesses that there are."""
    cursor = await conn.execute(
        "SELECT line FROM ledger.cosignature WHERE book_id = %s AND size = %s ORDER BY witness",
        [book_id, checkpoint.size],
    )
    return checkpoint.note + "".join(f"{line}\n" for (line,) in await cursor.fetchall())


async def leaf_index(conn: AsyncConnection[Any], book_id: int, source: str, number: int) -> int | None:
    """Where in the log an entry is; None: it is not sealed yet."""
    given = {"book": book_id, "source": source, "number": number}
    row = await (await conn.execute(_LEAF, given)).fetchone()
    return row[0] if row else None


async def size_before(conn: AsyncConnection[Any], book_id: int, midnight: datetime) -> int | None:
    """How many leaves were recorded before a midnight (UTC); None: no leaf is known that was recorded after it."""
    row = await (await conn.execute(_BEFORE, [book_id, midnight])).fetchone()
    return row[0] if row else None


async def inclusion(conn: AsyncConnection[Any], book_id: int, index: int, size: int) -> list[bytes]:
    """The inclusion proof (RFC 9162 section 2.1.3) of a leaf in the tree of ``size``. Raises ``NotInLog``."""
    sealed = await log_size(conn, book_id)
    if not 0 <= index < size <= sealed:
        raise NotInLog(book_id, sealed, f"no leaf {index} in the first {size}")
    return await subtree_roots(conn, book_id, sealed, inclusion_path(index, size))


async def consistency(conn: AsyncConnection[Any], book_id: int, first: int, second: int) -> list[bytes]:
    """The consistency proof (RFC 9162 section 2.1.4) from one size to another; empty from 0. Raises ``NotInLog``."""
    sealed = await log_size(conn, book_id)
    if not 0 <= first <= second <= sealed:
        raise NotInLog(book_id, sealed, f"no way from {first} to {second}")
    return await subtree_roots(conn, book_id, sealed, consistency_path(first, second) if first else [])


async def journal_index(conn: AsyncConnection[Any], book_id: int, journal_id: UUID) -> int | None:
    """Where a journal is in the log; None: it is not sealed yet, or there is none of that id."""
    cursor = await conn.execute(
        "SELECT seq FROM ledger.journal WHERE book_id = %s AND id = %s", [book_id, journal_id]
    )
    row = await cursor.fetchone()
    return await leaf_index(conn, book_id, "journal", row[0]) if row else None


async def leaf(conn: AsyncConnection[Any], book_id: int, index: int) -> bytes:
    """The hash of a leaf that is in the log."""
    return await hashes(conn, book_id, index, index + 1)


async def root_at(conn: AsyncConnection[Any], book_id: int, size: int) -> bytes:
    """The root of the first so many leaves, whether or not a checkpoint says it. Raises ``NotInLog``."""
    sealed = await log_size(conn, book_id)
    if not 0 <= size <= sealed:
        raise NotInLog(book_id, sealed, f"not {size}")
    if size == 0:
        return EMPTY_ROOT
    [found] = await subtree_roots(conn, book_id, sealed, [(0, size)])
    return found
