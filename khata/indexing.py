"""The search index follows the books: journals without terms get theirs (``ledger.search``)."""

from __future__ import annotations

from gateway.core import Gateway, driver
from ledger.search import books_to_index, index_journals


async def index_new_journals(gw: Gateway) -> int:
    """A batch of each book that has some, in a transaction of its own; how many journals they were."""
    async with gw.engine.begin() as conn:
        books = await books_to_index(await driver(conn))
    done = 0
    for book_id in books:
        async with gw.engine.begin() as conn:
            done += await index_journals(await driver(conn), book_id)
    return done
