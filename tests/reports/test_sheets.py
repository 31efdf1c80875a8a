"""Balance sheet, income statement and ageing: sums that must hold, brute force, and hledger's own reports as judge."""

from __future__ import annotations

import asyncio
import csv
import os
import random
import shutil
import subprocess
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from khata.database import Database
from ledger.as_of import AsOf, BalanceAsOf
from ledger.export import export_journal, minor_units
from ledger.read import TrialBalanceRow
from ledger.reports import load, tables
from ledger.reports.ageing import BUCKETS, Ageing, ageing, boundaries, clears
from ledger.reports.balance_sheet import Section, balance_sheets
from ledger.reports.errors import PeriodInvalid, ReportBroken
from ledger.reports.income_statement import income_statements
from ledger.reports.statement import written
from ledger.reports.statement_csv import StatementCsv
from tests.ledger.random_books import random_book
from tests.reports import readers

Conn = psycopg.AsyncConnection[Any]
ON = date(2026, 11, 22)
# Amounts by account; debit positive.
ROOTS = ("Assets:A", "Assets:B", "Liabilities:A", "Equity:A", "Income:A", "Expenses:A")
NETS = st.lists(st.tuples(st.sampled_from(ROOTS), st.integers(-(10**9), 10**9)), max_size=8)


def trial(nets: dict[str, int], currency: str = "INR") -> list[TrialBalanceRow]:
    return [TrialBalanceRow(path, currency, max(net, 0), max(-net, 0)) for path, net in nets.items()]


@given(NETS, NETS)
@settings(deadline=None)
def test_a_sheet_of_balanced_books_balances_and_its_result_is_income_less_expenses(
    drawn: list[tuple[str, int]], later: list[tuple[str, int]]
) -> None:
    before, after = balanced(dict(drawn)), balanced(dict(drawn) | dict(later))
    [sheet] = balance_sheets(trial(after))
    assert sheet.assets.total == sheet.liabilities.total + sheet.equity.total + sheet.result
    assert sheet.result == -after.get("Income:A", 0) - after.get("Expenses:A", 0)
    earned = income_statements(trial(before), trial(after))
    gained = -sum(after.get(p, 0) - before.get(p, 0) for p in ("Income:A", "Expenses:A"))
    assert sum(statement.result for statement in earned) == gained


def balanced(nets: dict[str, int]) -> dict[str, int]:
    return nets | {"Equity:Rest": -sum(nets.values())}


def test_books_that_do_not_balance_have_no_sheet() -> None:
    with pytest.raises(ReportBroken, match="balance sheet in INR: 5 is not 4"):
        balance_sheets(trial({"Assets:A": 5, "Equity:A": -4}))


# ---------------------------------------------------------------- ageing


def fifo(lines: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Open parts (age, amount) of lines (age, signed amount), the oldest first, matched line by line."""
    queue: deque[tuple[int, int]] = deque()
    for age, amount in sorted(lines, key=lambda line: -line[0]):
        left = amount
        while left and queue and (queue[0][1] > 0) != (left > 0):
            first, opened = queue.popleft()
            kept = opened + left if abs(opened) > abs(left) else 0
            left = 0 if abs(opened) > abs(left) else left + opened
            if kept:
                queue.appendleft((first, kept))
        if left:
            queue.append((age, left))
    return list(queue)


def as_of_days(lines: list[tuple[int, int]], path: str) -> list[BalanceAsOf]:
    """What the books say as of each boundary, when a line above zero raises the account."""
    found: list[BalanceAsOf] = []
    for day in boundaries(ON):
        known = [amount for age, amount in lines if ON - timedelta(days=age) <= day]
        raised, lowered = sum(a for a in known if a > 0), -sum(a for a in known if a < 0)
        gross = (raised, lowered) if path.startswith("Assets") else (lowered, raised)
        found.append(BalanceAsOf(path, "INR", raised - lowered, 0, 0, gross))
    return found


LINES = st.lists(st.tuples(st.integers(0, 45), st.integers(-40, 40).filter(bool)), max_size=14)


@given(LINES, st.sampled_from(["Assets:Receivable:meridian", "Liabilities:InTransit:Payouts:meridian"]))
@settings(max_examples=300, deadline=None)
def test_ageing_is_first_in_first_out_matched_line_by_line(lines: list[tuple[int, int]], path: str) -> None:
    opened = fifo(lines)
    expected = tuple(
        sum(amount for age, amount in opened if youngest <= age and (oldest is None or age <= oldest))
        for youngest, oldest in BUCKETS
    )
    found = ageing(as_of_days(lines, path))
    total = sum(amount for _, amount in lines)
    assert found == (Ageing(path, "INR", total, expected) if total else None)


@pytest.mark.parametrize(
    ("path", "cleared"),
    [
        ("Assets:Receivable:meridian", True),
        ("Assets:Receivable:Merchant:m1", False),
        ("Assets:Receivable:Disputes:meridian", False),
        ("Assets:Suspense:Reconciliation", True),
        ("Liabilities:Suspense:Unidentified", True),
        ("Liabilities:InTransit:Refunds:meridian", True),
        ("Assets:SuspenseNot:x", False),
        ("Liabilities:Merchant:m1:Pending", False),
    ],
)
def test_what_must_return_to_zero_is_aged_and_nothing_else(path: str, cleared: bool) -> None:
    assert clears(path) is cleared


# ---------------------------------------------------------------- random books


@dataclass(frozen=True)
class Grown:
    """A random book as the tests of this module find it."""

    book_id: int
    posted: int
    last: date
    made_at: datetime


@pytest.fixture(scope="module")
def grown(shared_database: Database) -> Grown:
    async def grow() -> Grown:
        async with await psycopg.AsyncConnection.connect(shared_database.app_dsn) as conn:
            book = await random_book(conn, 11, batches=6)
            return Grown(book.book_id, book.posted, book.now.date(), book.now)

    return asyncio.run(grow())


@pytest.fixture
async def conn(shared_database: Database) -> AsyncIterator[Conn]:
    async with await psycopg.AsyncConnection.connect(shared_database.audit_dsn) as conn:
        yield conn


def moments(book: Grown) -> list[tuple[date, int]]:
    """Some days and states of knowledge, the end of the book among them."""
    chosen = random.Random(5)
    days = [book.last - timedelta(days=chosen.randrange(45)) for _ in range(4)]
    return [(book.last, book.posted), *((day, chosen.randrange(1, book.posted + 1)) for day in days)]


async def test_the_balance_sheet_of_a_random_book_balances_at_any_day_and_state_of_knowledge(
    conn: Conn, grown: Grown
) -> None:
    for day, known in moments(grown):
        sheets = await load.load_balance_sheets(conn, grown.book_id, AsOf(day, known))
        for sheet in sheets:
            assert sheet.assets.total == sheet.liabilities.total + sheet.equity.total + sheet.result


async def test_statements_of_a_random_book_come_to_the_balances_and_leave_out_what_is_pending(
    conn: Conn, grown: Grown
) -> None:
    chosen = random.Random(6)
    for day, known in moments(grown)[:3]:
        first = day - timedelta(days=chosen.randrange(50))
        for path in ("Assets:Bank:Meridian:Escrow", "Liabilities:Customer:c0:Wallet"):
            for currency in ("INR", "KWD"):
                head = await load.open_statement(
                    *(conn, grown.book_id, path, currency),
                    first=first,
                    last=day,
                    known=known,
                    made_at=grown.made_at,
                )
                assert head is not None
                pages = load.statement_pages(conn, head, limit=7)
                file = b"".join([chunk async for chunk in written(StatementCsv(head), pages)])
                found = readers.read_csv(file, currency)
                assert found.opening + sum(found.amounts) == found.closing == head.closing
                assert sum(a for a in found.amounts if a > 0) == head.raised


async def test_days_that_are_no_period_are_refused(conn: Conn, grown: Grown) -> None:
    for first, last in ((ON, ON - timedelta(days=1)), (date.min, ON), (ON, date.max)):
        with pytest.raises(PeriodInvalid):
            await load.load_income_statements(conn, grown.book_id, first=first, last=last)


# ---------------------------------------------------------------- hledger


def hledger(file: Path, *command: str) -> dict[tuple[str, str], int]:
    """The accounts of one of hledger's reports by day of effect (the secondary date), in minor units as it signs
    them; the totals left out."""
    done = subprocess.run(
        [
            "hledger",
            "-f",
            file,
            *command,
            "--date2",
            "--flat",
            "--layout=bare",
            "--no-total",
            "--output-format=csv",
        ],
        capture_output=True,
        check=True,
        env=os.environ | {"LC_ALL": "C.UTF-8"},
    )
    rows = csv.reader(done.stdout.decode().splitlines())
    return {
        (row[0], row[1]): minor_units(row[2], row[1])
        for row in rows
        if ":" in row[0] and row[1] and len(row) == 3
    }


def accounts(currency: str, *sections: Section) -> dict[tuple[str, str], int]:
    return {(x.path, currency): x.amount for section in sections for x in section.lines if x.amount}


@pytest.mark.skipif(shutil.which("hledger") is None, reason="hledger is not installed")
async def test_hledger_has_the_same_balance_sheet_and_income_statement_account_by_account(
    conn: Conn, grown: Grown, tmp_path: Path
) -> None:
    for day, known in moments(grown)[:3]:
        file = tmp_path / f"{known}.journal"
        chunks = export_journal(conn, grown.book_id, "hledger", through_seq=known)
        file.write_bytes(b"".join([chunk async for chunk in chunks]))
        first, after = day - timedelta(days=20), day + timedelta(days=1)
        ours: dict[tuple[str, str], int] = {}
        for sheet in await load.load_balance_sheets(conn, grown.book_id, AsOf(day, known)):
            ours |= accounts(sheet.currency, sheet.assets, sheet.liabilities, sheet.equity)
        assert ours or day < grown.last
        assert hledger(file, "balancesheetequity", "--end", str(after)) == ours
        ours = {}
        for earned in await load.load_income_statements(
            conn, grown.book_id, first=first, last=day, known=known
        ):
            ours |= accounts(earned.currency, earned.income, earned.expenses)
        assert hledger(file, "incomestatement", "--begin", str(first), "--end", str(after)) == ours


def test_a_table_shows_every_line_and_its_sums_in_major_and_minor_units() -> None:
    rows = trial({"Assets:A": 12_345, "Income:A": -12_345}, "KWD")
    sheet = tables.balance_sheet_table(balance_sheets(rows)).csv().decode().splitlines()
    assert sheet[0] == '"row","section","account","currency","amount","amount_minor"'
    assert '"line","assets","Assets:A","KWD","12.345",12345' in sheet
    assert '"line","result","result of the period","KWD","12.345",12345' in sheet
    assert '"total","result","liabilities, equity and result","KWD","12.345",12345' in sheet
