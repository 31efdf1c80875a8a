"""Rollups follow the books: spans of journals that are complete are rolled up (``ledger.rollups``)."""

from __future__ import annotations

from functools import partial

from gateway.core import Gateway
from khata.each_book import each_book
from ledger.rollups import books_to_roll_up, roll_up


async def roll_up_books(gw: Gateway, limit: int) -> int:
    """At most ``limit`` spans of each book that has some, in a transaction of its own; how many spans they were."""
    return await each_book(gw, "roll_up", books_to_roll_up, partial(roll_up, most_spans=limit))
