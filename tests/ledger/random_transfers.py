"""Transfers between a random book and its mate, both ways: completed, returned, received but not ended, on the way."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from itertools import product
from random import Random
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection

from ledger import model as m
from ledger import transfers
from ledger.books import create_book, open_accounts
from ledger.post import post
from ledger.transfers import Side, Transfer
from tests.ledger.words import ESCROW

FATES = ("completed", "returned", "received", "in_flight")


async def exchange(
    conn: AsyncConnection[Any],
    name: str,
    mate: str,
    *,
    now: datetime,
    ids: Callable[[], UUID],
    random: Random,
    currency: str = "INR",
) -> int:
    """Two transfers of each fate and direction between the books of these names; journals posted to the first."""
    books = {book: await create_book(conn, name=book, now=now) for book in (name, mate)}
    for book, other in ((name, mate), (mate, name)):
        accounts = [m.NewAccount(path, currency) for path in (ESCROW, transfers.clearing(other))]
        await open_accounts(conn, books[book], accounts, now=now)
    posted = dict.fromkeys(books.values(), 0)

    async def book(book_id: int, unit: m.Unit) -> int:
        [result] = await post(conn, book_id, [unit], now=now)
        assert isinstance(result, m.Posted), result
        posted[book_id] += 1
        return result.seqs[0]

    for (here, there), fate, _ in product(((name, mate), (mate, name)), FATES, range(2)):
        side = random.choice(list(Side))
        ends = (books[here], books[there], ESCROW, ESCROW)
        t = Transfer(ids(), *ends, random.randrange(1, 9_999), currency, side)
        await book(t.book_id, transfers.sending(t, there, ids(), "between books"))
        if fate in ("completed", "received"):
            seq = await book(t.to_book, transfers.receiving(t, here, ids()))
        if fate == "completed":
            await conn.execute("SELECT ledger.end_transfer(%s, %s, %s, NULL)", [t.book_id, t.id, seq])
        if fate == "returned":
            why = "account_frozen"
            await conn.execute(
                "SELECT ledger.record_arrival(%s, %s, %s, %s)", [t.to_book, t.book_id, t.id, why]
            )
            await book(t.book_id, transfers.returning(t, there, why, ESCROW, ids()))
        await conn.commit()
    return posted[books[name]]
