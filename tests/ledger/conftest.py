"""A book with a few accounts, and the short words the ledger's tests speak."""

from __future__ import annotations

from collections.abc import AsyncIterator

import psycopg
import pytest

from khata.database import Database
from ledger import model as m
from ledger.books import create_book, open_accounts
from tests.ledger.words import NOW, Book

ACCOUNTS = [
    m.NewAccount("Assets:Bank:Meridian:Escrow", "INR"),
    m.NewAccount("Liabilities:Merchant:a:Pending", "INR", floor=0, owner="a"),
    m.NewAccount("Liabilities:Merchant:b:Pending", "INR", floor=0, owner="b"),
    m.NewAccount("Liabilities:Customer:c:Wallet", "INR", floor=0, owner="a"),
    m.NewAccount("Liabilities:Customer:d:Wallet", "INR", floor=-500),
    m.NewAccount("Income:Fees:card", "INR"),
    m.NewAccount("Equity:Memo:Authorizations", "INR"),
    m.NewAccount("Equity:Memo:Issuers", "INR"),
    m.NewAccount("Assets:Bank:Meridian:Escrow", "JPY"),
    m.NewAccount("Liabilities:Customer:c:Wallet", "JPY", floor=0),
]


@pytest.fixture
async def book(database: Database) -> AsyncIterator[Book]:
    async with await psycopg.AsyncConnection.connect(database.app_dsn) as conn:
        book_id = await create_book(conn, name="main", now=NOW)
        await open_accounts(conn, book_id, ACCOUNTS, now=NOW)
        await conn.commit()
        yield Book(conn, book_id, database)
