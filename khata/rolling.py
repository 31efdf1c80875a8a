"""Rollups follow the books: spans of journals that are complete are rolled up (``ledger.rollups``)."""

from __future__ import annotations

from gateway.core import Gateway, driver
from ledger.rollups import books_to_roll_up, roll_up


async def roll_up_books(gw: Gateway, limit: int) -> int:
    """At most ``limit`` spans of each book that has some, in a transaction of its own; how many spans they were."""
    async with gw.engine.begin() as conn:
        books = await books_to_roll_up(await driver(conn))
    done = 0
    for book_id in books:
        async with gw.engine.begin() as conn:
            done += await roll_up(await driver(conn), book_id, most_spans=limit)
    return done
