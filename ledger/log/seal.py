"""Sealing: the next entries of a book become leaves, and a signed checkpoint says so (docs/log.md).

Takes no lock of the book: what its row counts is committed and never changes. One batch a call, so memory stays flat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg import AsyncConnection

from ledger.log import leaves
from ledger.log.checkpoint import Checkpoint
from ledger.log.merkle import root
from ledger.log.note import Signer
from ledger.log.proofs import last_checkpoint
from ledger.log.tiles import TILE_BYTES, read_edge, root_of_edge

MOST_LEAVES = 1 << 16

# And whatever is read then is read by key: a plan made while the book was young would walk all of it later.
_TAKE_TURN = """
SELECT pg_try_advisory_xact_lock(hashtext('ledger.seal'), %s), set_config('enable_seqscan', 'off', true)"""
_UNSEALED = """
SELECT name, sealed.account, accounts, sealed.act, acts, sealed.journal, head, recorded_at,
       least(ledger.entry_at(book_id, 'account', sealed.account + 1), ledger.entry_at(book_id, 'act', sealed.act + 1),
             ledger.entry_at(book_id, 'journal', sealed.journal + 1))
  FROM ledger.book, LATERAL (SELECT ledger.sealed(book_id, 'account') AS account, ledger.sealed(book_id, 'act') AS act,
                                    ledger.sealed(book_id, 'journal') AS journal) AS sealed
 WHERE book_id = %s"""
_SEAL = "SELECT ledger.seal(%s, %s, %s::integer, %s, %s, %b, %b, %b, %b, %s, %s)"


@dataclass(frozen=True, slots=True)
class Sealed:
    """What a call took into the log. ``more``: whether there was more to take, so that the caller calls again."""

    checkpoint: Checkpoint
    leaves: int
    more: bool


async def books_to_seal(conn: AsyncConnection[Any]) -> list[int]:
    """The books that have entries which are not in their logs."""
    cursor = await conn.execute(
        "SELECT book_id FROM ledger.book WHERE accounts > ledger.sealed(book_id, 'account')"
        " OR acts > ledger.sealed(book_id, 'act') OR head > ledger.sealed(book_id, 'journal') ORDER BY book_id"
    )
    return [book_id for (book_id,) in await cursor.fetchall()]


async def seal(
    conn: AsyncConnection[Any],
    book_id: int,
    signers: Sequence[Signer],
    now: datetime,
    *,
    most: int = MOST_LEAVES,
) -> Sealed | None:
    """Take the next entries, at most so many, of one UTC day, and keep a checkpoint signed by all ``signers``.

    None: nothing is unsealed, or another sealer is at it. Never commits. The signers bear the log's origin as their
    name, all the same one. Raises ``psycopg.Error`` (KH038…) if the log is not as its tables say.
    """
    locked = await (await conn.execute(_TAKE_TURN, [book_id])).fetchone()
    if locked is None or not locked[0]:
        return None
    batch = await _next_batch(conn, book_id, most)
    if batch is None:
        return None
    last = await last_checkpoint(conn, book_id)
    size, sealed_at = (last.size, last.sealed_at) if last else (0, now)
    account_leaves, new_leaves = await _new_leaves(conn, book_id, batch)
    edge = await read_edge(conn, book_id, size)
    tiles, roots = fill(edge, new_leaves)
    checkpoint = Checkpoint(signers[0].name, size + len(new_leaves) // 32, root_of_edge(edge))
    counts = [batch.count(source) for source in leaves.SOURCES]
    given = [book_id, size, *counts, account_leaves, b"".join(tiles), b"".join(roots), checkpoint.root]
    await conn.execute(_SEAL, [*given, checkpoint.signed(signers), max(now, sealed_at)])
    return Sealed(checkpoint, len(new_leaves) // 32, batch.more)


@dataclass(frozen=True, slots=True)
class _Batch:
    """The numbers first..last of each source; more: whether anything is left after them."""

    book: str
    numbers: dict[str, tuple[int, int]]
    more: bool

    def count(self, source: str) -> int:
        first, last = self.numbers[source]
        return last - first + 1


async def _next_batch(conn: AsyncConnection[Any], book_id: int, most: int) -> _Batch | None:
    """The next entries: of one UTC day, accounts first, then acts, then journals."""
    row = await (await conn.execute(_UNSEALED, [book_id])).fetchone()
    if row is None or row[8] is None:
        return None
    name, *numbers, clock, oldest = row
    midnight = oldest.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    taken: dict[str, tuple[int, int]] = {}
    left, more = most, False
    for source, done, held in zip(leaves.SOURCES, numbers[0::2], numbers[1::2], strict=True):
        last = min(held, done + left)
        if clock >= midnight:  # the day is over in this book: what came after it waits
            last = await _last_before(conn, book_id, source, done, last, midnight)
        left -= last - done
        more = more or last < held
        taken[source] = (done + 1, last)
    return _Batch(name, taken, more)


async def _last_before(
    conn: AsyncConnection[Any], book_id: int, source: str, low: int, high: int, midnight: datetime
) -> int:
    """The last of the entries low + 1..high recorded before midnight, ``low`` if none was: found by halving, since the
    book's clock never goes back."""
    while low < high:
        middle = (low + high + 1) // 2
        cursor = await conn.execute("SELECT ledger.entry_at(%s, %s, %s)", [book_id, source, middle])
        row = await cursor.fetchone()
        assert row is not None
        if row[0] < midnight:
            low = middle
        else:
            high = middle - 1
    return low


async def _new_leaves(conn: AsyncConnection[Any], book_id: int, batch: _Batch) -> tuple[bytes, bytes]:
    """The hashes of the batch's accounts, and of all its entries."""
    accounts = (
        await leaves.read_entries(conn, book_id, batch.book, "account", *batch.numbers["account"])
        if batch.count("account")
        else []
    )
    account_leaves = b"".join(leaf for _, leaf in accounts)
    others = [
        await leaves.stored_hashes(conn, book_id, source, *batch.numbers[source])
        for source in leaves.SOURCES[1:]
        if batch.count(source)
    ]
    return account_leaves, b"".join([account_leaves, *others])


def fill(edge: list[bytes], row: bytes) -> tuple[list[bytes], list[bytes]]:
    """Append a row of leaf hashes to the partial tiles at the log's right edge: those that it fills, from level 0 up,
    and their roots. ``edge`` is that of the longer log afterwards."""
    tiles: list[bytes] = []
    roots: list[bytes] = []
    for level, part in enumerate(edge):
        row = part + row
        full = len(row) - len(row) % TILE_BYTES
        tiles += (filled := [row[at : at + TILE_BYTES] for at in range(0, full, TILE_BYTES)])
        edge[level] = row[full:]
        row = b"".join(new := [root(tile) for tile in filled])
        roots += new
    return tiles, roots
