"""camt.053 for many accounts at once: one valid file each, of one state of knowledge."""

from __future__ import annotations

from datetime import date

import pytest
from psycopg import AsyncConnection

from khata.database import Database
from ledger.export import Selection
from ledger.reports.account_statements import account_statements, file_name
from tests.ledger.random_books import random_book
from tests.ledger.words import NOW
from tests.reports.readers import read_camt

FIRST, LAST = date(2026, 9, 1), date(2026, 11, 30)


@pytest.mark.parametrize(
    ("selection", "count"),
    [
        (Selection(owner="c1"), 3),
        (Selection(account="Income:Fees:card", currency="JPY"), 1),
        (Selection(), 33),
    ],
)
async def test_each_account_asked_about_has_a_statement_that_adds_up(
    database: Database, selection: Selection, count: int
) -> None:
    async with await AsyncConnection.connect(database.app_dsn) as conn:
        book = await random_book(conn, 3, batches=3)
        found = account_statements(conn, book.book_id, selection, first=FIRST, last=LAST, made_at=NOW)
        statements = [(s, b"".join([chunk async for chunk in s.chunks(conn)])) async for s in found]
    assert len({statement.name for statement, _ in statements}) == len(statements) == count
    assert {statement.head.known for statement, _ in statements} == {book.posted}
    for statement, file in statements:
        read = read_camt(file, statement.head.currency)
        assert (read.opening, read.closing) == (statement.head.opening, statement.head.closing)
        assert read.opening + sum(read.amounts) == read.closing
    assert any(statement.head.raised for statement, _ in statements)


def test_each_account_has_a_file_of_its_own_that_a_file_system_takes() -> None:
    long = "Assets:" + ":".join(["w" * 64] * 7)
    names = {file_name(path, "INR") for path in (long, long[:-1], "Assets:Bank:Escrow")}
    assert "Assets.Bank.Escrow.INR.xml" in names
    assert len(names) == 3
    assert max(map(len, names)) <= 255
