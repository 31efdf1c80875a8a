"""A book with a few accounts, and the short words the ledger's tests speak."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest

from khata.database import Database
from ledger import model as m
from ledger.books import create_book, open_accounts
from tests.ledger.words import NOW, Book

_BOOKS = itertools.count(1)

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
    async with opened_book(database, "main") as opened:
        yield opened


@pytest.fixture
async def book_of_many(shared_database: Database) -> AsyncIterator[Book]:
    """A fresh book in the database that the tests of a module share: made in a tenth of the time of a database."""
    async with opened_book(shared_database, f"book-{next(_BOOKS)}") as opened:
        yield opened


@asynccontextmanager
async def opened_book(database: Database, name: str) -> AsyncGenerator[Book]:
    async with await psycopg.AsyncConnection.connect(database.app_dsn) as conn:
        book_id = await create_book(conn, name=name, now=NOW)
        await open_accounts(conn, book_id, ACCOUNTS, now=NOW)
        await conn.commit()
        yield Book(conn, book_id, database)
