"""The search index follows the books: journals without terms get theirs (``ledger.search``)."""

from __future__ import annotations

from gateway.core import Gateway
from khata.each_book import each_book
from ledger.search import books_to_index, index_journals


async def index_new_journals(gw: Gateway) -> int:
    """A batch of each book that has some, in a transaction of its own; how many journals they were."""
    return await each_book(gw, "index_journals", books_to_index, index_journals)
