"""Rollups: what spans of journals add to accounts by effective day (migrations, 0006_rollups.sql).

Made after the fact and never changed; ``ledger.as_of`` is right without them, and fast with them.
"""

from __future__ import annotations

from typing import Any

from psycopg import AsyncConnection


async def roll_up(conn: AsyncConnection[Any], book_id: int, *, most_spans: int = 64) -> int:
    """Roll up at most so many complete spans of journals; how many it was. Never commits, takes no lock of the book.

    0: nothing is complete, or another worker is at it.
    """
    cursor = await conn.execute("SELECT ledger.roll_up(%s, %s)", [book_id, most_spans])
    row = await cursor.fetchone()
    assert row is not None
    return row[0]


async def books_to_roll_up(conn: AsyncConnection[Any]) -> list[int]:
    """The books that have complete spans of journals that are not rolled up."""
    cursor = await conn.execute(
        "SELECT book_id FROM ledger.book"
        " WHERE head / ledger.span_journals() > ledger.spans_rolled_up(book_id) ORDER BY book_id"
    )
    return [book_id for (book_id,) in await cursor.fetchall()]
