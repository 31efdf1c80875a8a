"""Follows a book as it grows: its journals as they are recorded, or the leaves of its log as they are sealed.

Numbers have no gaps and are committed in order, so asking for what comes after the last one misses nothing and repeats
nothing, however often the connection is lost in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncConnection

from ledger import read
from ledger.log import leaves, proofs

PAGE = 500
POLL_S = 0.5
LONGEST_WAIT_S = 5.0

Conn = AsyncConnection[Any]
Connect = Callable[[], Awaitable[Conn]]
T = TypeVar("T")
Page = Callable[[Conn, int, int], Awaitable[Sequence[T]]]  # connection, book, the number to begin at


@dataclass(frozen=True, slots=True)
class Leaf:
    """``line``: what the hash at ``index`` (from 0) covers; ``number``: of the entry within its source."""

    index: int
    source: str
    number: int
    line: bytes
    hash: bytes


async def journals_from(conn: Conn, book_id: int, first: int) -> list[read.JournalView]:
    cursor = await conn.execute(
        read.JOURNAL + " AND j.seq >= %(first)s ORDER BY j.seq LIMIT %(page)s",
        {"book": book_id, "first": first, "page": PAGE},
    )
    return [read.journal_view(row) for row in await cursor.fetchall()]


async def leaves_from(conn: Conn, book_id: int, first: int) -> list[Leaf]:
    size = await proofs.log_size(conn, book_id)
    return [
        Leaf(run.first_index + n, run.source, run.first_number + n, line, hash_)
        async for run, lines, hashes in leaves.chunks(conn, book_id, first, min(size, first + PAGE))
        for n, (line, hash_) in enumerate(zip(lines, hashes, strict=True))
    ]


async def next_journal(conn: Conn, book_id: int) -> int:
    """The number that the next journal will have."""
    cursor = await conn.execute("SELECT head + 1 FROM ledger.book WHERE book_id = %s", [book_id])
    row = await cursor.fetchone()
    return row[0] if row else 1


async def follow(
    connect: Connect,
    book_id: int,
    first: int,
    page: Page[T],
    *,
    lost: Callable[[Exception], None],
    poll_s: float = POLL_S,
) -> AsyncGenerator[T]:
    """What ``page`` finds from number ``first`` on, for ever. ``connect`` gives a connection in autocommit mode.

    A connection that is lost is told to ``lost`` and made anew, after a wait that grows while that is in vain.
    """
    wait_s = poll_s
    while True:
        try:
            async with await connect() as conn:
                while True:
                    found = await page(conn, book_id, first)
                    wait_s = poll_s
                    for one in found:
                        first += 1
                        yield one
                    if not found:
                        await asyncio.sleep(poll_s)
        except (psycopg.OperationalError, psycopg.InterfaceError, OSError) as error:
            lost(error)
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)
