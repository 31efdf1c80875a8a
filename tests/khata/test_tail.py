"""Following a book: nothing missed, nothing twice, whatever happens to the connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import pytest
from psycopg import AsyncConnection

from api.secrets import ApiSecrets
from khata.database import Database
from khata.sealing import Sealer
from khata.tail import PAGE, follow, journals_from, leaves_from
from ledger import model as m
from ledger.books import create_book, open_accounts
from ledger.ids import Ids
from ledger.log.merkle import leaf_hash
from ledger.post import post
from tests.ledger.proxy import Proxy

NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)
new_id = Ids(lambda: datetime.now(UTC))


class Shop:
    """A book that sells."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.book_id = 0
        self.sold = 0

    async def open(self) -> None:
        async with await AsyncConnection.connect(self.database.app_dsn) as conn:
            self.book_id = await create_book(conn, name="main", now=NOW)
            accounts = [m.NewAccount("Assets:Cash", "INR"), m.NewAccount("Income:Sales", "INR")]
            await open_accounts(conn, self.book_id, accounts, now=NOW)

    async def sell(self, count: int) -> None:
        units: list[m.Unit] = []
        for _ in range(count):
            self.sold += 1
            source = m.Source("test", str(self.sold), "done")
            postings = (m.Posting("Assets:Cash", "Income:Sales", self.sold, "INR"),)
            units.append(m.Unit((m.Journal(new_id(), "sale", source, postings),)))
        async with await AsyncConnection.connect(self.database.app_dsn) as conn:
            results = await post(conn, self.book_id, units, now=NOW)
        assert all(isinstance(result, m.Posted) for result in results)

    async def seal(self) -> None:
        sealer = Sealer("khata.test", ApiSecrets.derive(b"x" * 32))
        async with await AsyncConnection.connect(self.database.app_dsn) as conn:
            await sealer.seal(conn, self.book_id, now=NOW)


@pytest.fixture
async def shop(database: Database) -> Shop:
    shop = Shop(database)
    await shop.open()
    return shop


async def take(found: AsyncGenerator[Any], count: int) -> list[Any]:
    return [await asyncio.wait_for(anext(found), 20) for _ in range(count)]


def following(shop: Shop, first: int, page: Any = journals_from) -> AsyncGenerator[Any]:
    async def connect() -> AsyncConnection[Any]:
        return await AsyncConnection.connect(shop.database.audit_dsn, autocommit=True)

    lost = list[Exception]()
    return follow(connect, shop.book_id, first, page, lost=lost.append, poll_s=0.02)


async def test_what_stands_and_what_comes_is_told_once_in_order(shop: Shop) -> None:
    await shop.sell(PAGE + 20)
    async with aclosing(following(shop, 11)) as found:
        numbers = [journal.seq for journal in await take(found, PAGE + 10)]
        waiting = asyncio.create_task(take(found, 5))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        await shop.sell(5)
        numbers += [journal.seq for journal in await waiting]
    assert numbers == list(range(11, PAGE + 26))


async def test_a_lost_connection_loses_and_repeats_nothing(shop: Shop) -> None:
    proxy, lost = Proxy(shop.database.audit_dsn), list[Exception]()
    await proxy.up()

    async def connect() -> AsyncConnection[Any]:
        conn = await proxy.connect()
        await conn.set_autocommit(True)
        return conn

    numbers: list[int] = []
    told = follow(connect, shop.book_id, 1, journals_from, lost=lost.append, poll_s=0.02)
    async with aclosing(told) as found:
        for _ in range(3):
            await shop.sell(5)
            numbers += [journal.seq for journal in await take(found, 5)]
            later = asyncio.create_task(take(found, 5))
            await proxy.down()
            await shop.sell(5)
            await asyncio.sleep(0.1)  # long enough for tries in vain
            await proxy.up()
            numbers += [journal.seq for journal in await later]
    await proxy.down()
    assert numbers == list(range(1, 31))
    assert len(lost) >= 3


async def test_the_log_is_followed_as_it_is_sealed_and_each_line_is_its_leaf(shop: Shop) -> None:
    await shop.sell(3)
    async with aclosing(following(shop, 0, leaves_from)) as found:
        waiting = asyncio.create_task(take(found, 5))
        await asyncio.sleep(0.1)
        assert not waiting.done()  # recorded, but not sealed
        await shop.seal()
        leaves = await waiting
        await shop.sell(2)
        await shop.seal()
        leaves += await take(found, 2)
    assert [leaf.index for leaf in leaves] == list(range(7))
    assert [(leaf.source, leaf.number) for leaf in leaves] == [
        *(("account", 1), ("account", 2)),
        *(("journal", number) for number in range(1, 6)),
    ]
    assert all(leaf_hash(leaf.line) == leaf.hash for leaf in leaves)
