"""Two books and what carries transfers between them: the short words of those tests."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection

from khata.database import Database
from ledger import model as m
from ledger.books import change_account, create_book, open_accounts
from ledger.read import balance
from ledger.transfers import Side, Transfer, Transfers, TransferView
from ledger.writer import Writer
from tests.ledger.words import ESCROW, NOW, WALLET, fund, new_id, unit

HERE, THERE = "here", "there"
ACCOUNTS = [
    m.NewAccount(ESCROW, "INR"),
    m.NewAccount(WALLET, "INR", floor=0),
    m.NewAccount("Liabilities:Customer:d:Wallet", "INR", floor=0),
]


@dataclass
class TwoBooks:
    """``here`` and ``there`` are their numbers, ``names`` their names; ``money`` is in each wallet at the beginning."""

    database: Database
    here: int
    there: int
    names: tuple[str, str] = (HERE, THERE)
    clock_at: datetime = NOW
    writers: dict[int, Writer] = field(default_factory=dict[int, Writer])

    def clock(self) -> datetime:
        self.clock_at += timedelta(milliseconds=1)
        return self.clock_at

    def writer(self, book_id: int) -> Writer:
        if book_id not in self.writers:
            self.writers[book_id] = Writer(self.open, book_id, clock=self.clock)
            self.writers[book_id].start()
        return self.writers[book_id]

    async def open(self) -> AsyncConnection[Any]:
        return await AsyncConnection.connect(self.database.app_dsn)

    async def open_as_superuser(self) -> AsyncConnection[Any]:
        return await AsyncConnection.connect(self.database.admin_dsn)

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncGenerator[AsyncConnection[Any]]:
        async with await self.open() as conn:
            yield conn

    @property
    def transfers(self) -> Transfers:
        return Transfers(self.writer, self.connect, new_id, self.clock)

    def transfer(self, amount: int = 100, **other: Any) -> Transfer:
        terms: dict[str, Any] = {
            "id": new_id(), "book_id": self.here, "to_book": self.there, "account": WALLET, "to_account": WALLET,
            "amount": amount, "currency": "INR", "side": Side.DEBIT,
        }  # fmt: skip
        return Transfer(**(terms | other))

    async def send(self, t: Transfer) -> TransferView:
        found = await self.transfers.send(t)
        assert isinstance(found, TransferView), found
        return found

    async def only_send(self, t: Transfer) -> None:
        """As a process that dies when its first step is committed."""
        result = await self.writer(t.book_id).submit(await self.transfers.prepare(t))
        assert isinstance(result, m.Posted), result

    async def posted(self, book_id: int, path: str = WALLET) -> int:
        async with self.connect() as conn:
            found = await balance(conn, book_id, path, "INR")
        return found.posted if found else 0

    async def change(self, book_id: int, path: str, **fact: Any) -> None:
        async with self.connect() as conn:
            await change_account(
                conn, book_id, path, "INR", now=self.clock(), reason="test", person="tester", **fact
            )

    async def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        async with self.connect() as conn:
            return await (await conn.execute(query.encode(), values)).fetchall()

    async def events(self, id_: UUID) -> list[tuple[int, str]]:
        """(book, event) of each journal of a transfer."""
        return await self.rows(
            "SELECT book_id, source_event FROM ledger.journal WHERE source_type = 'transfer'"
            " AND source_id LIKE '%%/' || %s::text ORDER BY book_id, seq",
            id_,
        )


@contextlib.asynccontextmanager
async def two_books(
    database: Database, *, money: int = 1000, names: tuple[str, str] = (HERE, THERE)
) -> AsyncGenerator[TwoBooks]:
    async with await AsyncConnection.connect(database.app_dsn) as conn:
        ids = [await create_book(conn, name=name, now=NOW) for name in names]
        for book_id in ids:
            await open_accounts(conn, book_id, ACCOUNTS, now=NOW)
    here, there = ids
    books = TwoBooks(database, here, there, names)
    for book_id in ids:
        await books.writer(book_id).submit(unit(fund(WALLET, money)))
    yield books
    for writer in books.writers.values():
        await writer.close()
