"""Reading what the reports are made of: the only module of them that asks the database.

Everything is as of a day of effect and a state of knowledge (``ledger.as_of``); raises ``NotRecorded`` where that is
still to come.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import date, datetime, timedelta
from typing import Any

from psycopg import AsyncConnection

from ledger import as_of
from ledger.as_of import AsOf, BalanceAsOf, EffectiveLine
from ledger.reports.ageing import CLEARING_PREFIXES, Ageing, ageing, boundaries, clears
from ledger.reports.balance_sheet import BalanceSheet, balance_sheets
from ledger.reports.errors import PeriodInvalid, ReportBroken
from ledger.reports.income_statement import IncomeStatement, income_statements
from ledger.reports.statement import StatementEntry, StatementHead

PAGE = 1000
_DAY = timedelta(days=1)


async def open_statement(
    conn: AsyncConnection[Any],
    book_id: int,
    path: str,
    currency: str,
    *,
    first: date,
    last: date,
    made_at: datetime,
    known: int | datetime | None = None,
    owner: str | None = None,
) -> StatementHead | None:
    """What a statement begins with; None when there is no such account, or it is not ``owner``'s.

    Raises ``PeriodInvalid`` when the days are no period, ``ReportBroken`` when the balances contradict each other.
    """
    check_period(first, last)
    seq = await as_of.known_seq(conn, book_id, known)
    before = await as_of.balance(conn, book_id, path, currency, AsOf(first - _DAY, seq), owner=owner)
    after = await as_of.balance(conn, book_id, path, currency, AsOf(last, seq), owner=owner)
    book = await (await conn.execute("SELECT name FROM ledger.book WHERE book_id = %s", [book_id])).fetchone()
    if before is None or after is None or book is None:
        return None
    raised, lowered = _moved(before, after)
    _must_equal("statement", currency, before.posted + raised - lowered, after.posted)
    return StatementHead(
        book_id, book[0], path, currency, first, last, seq,
        before.posted, after.posted, after.available, raised, lowered, made_at,
    )  # fmt: skip


def check_period(first: date, last: date) -> None:
    """Raises ``PeriodInvalid``."""
    if first > last:
        raise PeriodInvalid(f"{first} is after {last}")
    check_day(first)
    check_day(last)


def check_day(day: date) -> None:
    """Raises ``PeriodInvalid`` for a day that no journal can count from."""
    if not 1901 <= day.year <= 8999:
        raise PeriodInvalid("days are between the years 1901 and 8999")


def _moved(before: BalanceAsOf, after: BalanceAsOf) -> tuple[int, int]:
    debits = after.posted_debits - before.posted_debits
    credits = after.posted_credits - before.posted_credits
    return (debits, credits) if after.type.debit_normal else (credits, debits)


def _must_equal(report: str, currency: str, left: int, right: int) -> None:
    if left != right:
        raise ReportBroken(report, currency, left, right)


async def statement_pages(
    conn: AsyncConnection[Any], head: StatementHead, *, limit: int = PAGE
) -> AsyncGenerator[list[StatementEntry]]:
    """The posted lines of ``head``, by day of effect and then as recorded, in pages. Memory is one page.

    Raises ``ReportBroken`` after the last one if the lines do not lead from opening to closing.
    """
    reached, after, more = head.opening, None, True
    while more:
        found = await as_of.statement(
            *(conn, head.book_id, head.path, head.currency),
            first=head.first,
            last=head.last,
            known=head.known,
            after=after,
            limit=limit,
        )
        assert found is not None, "accounts are never deleted"
        _must_equal("statement", head.currency, reached, found.opening)
        page = [_entry(line) for line in found.lines if line.layer == "posted"]
        if page:
            yield page
        reached, after, more = found.closing, found.next, found.next is not None
    _must_equal("statement", head.currency, reached, head.closing)


def _entry(line: EffectiveLine) -> StatementEntry:
    return StatementEntry(
        *(line.seq, line.journal_id, line.journal_seq, line.kind, line.description, line.counter_account),
        *(line.effective_at, line.recorded_at, line.amount, line.posted),
    )


async def load_balance_sheets(conn: AsyncConnection[Any], book_id: int, at: AsOf) -> list[BalanceSheet]:
    return balance_sheets(await as_of.trial_balance(conn, book_id, at))


async def load_income_statements(
    conn: AsyncConnection[Any],
    book_id: int,
    *,
    first: date,
    last: date,
    known: int | datetime | None = None,
) -> list[IncomeStatement]:
    """Raises ``PeriodInvalid`` when the days are no period."""
    check_period(first, last)
    seq = await as_of.known_seq(conn, book_id, known)
    before = await as_of.trial_balance(conn, book_id, AsOf(first - _DAY, seq))
    return income_statements(before, await as_of.trial_balance(conn, book_id, AsOf(last, seq)))


async def load_ageing(
    conn: AsyncConnection[Any], book_id: int, *, on: date, known: int | datetime | None = None
) -> list[Ageing]:
    """Every clearing account with something open at the end of ``on``, by path and currency."""
    check_day(on)
    seq = await as_of.known_seq(conn, book_id, known)
    found: dict[tuple[str, str], list[BalanceAsOf]] = {}
    for day in boundaries(on):
        for prefix in CLEARING_PREFIXES:
            for balance in await as_of.balances(conn, book_id, AsOf(day, seq), prefix=prefix):
                if clears(balance.path):
                    found.setdefault((balance.path, balance.currency), []).append(balance)
    aged = (ageing(balances) for _, balances in sorted(found.items()))
    return [one for one in aged if one is not None]
