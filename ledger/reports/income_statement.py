"""The income statement: what was earned and spent between two days, both inclusive, by time of effect.

It is the difference of two trial balances: as of the last day, and as of the day before the first, both as known at
one moment. An account appears if its balance differs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ledger.model import AccountType
from ledger.read import TrialBalanceRow
from ledger.reports.balance_sheet import Section, by_currency, section


@dataclass(frozen=True, slots=True)
class IncomeStatement:
    """One currency's. ``result``: income less expenses; below zero a loss."""

    currency: str
    income: Section
    expenses: Section

    @property
    def result(self) -> int:
        return self.income.total - self.expenses.total


def income_statements(
    before: Iterable[TrialBalanceRow], after: Iterable[TrialBalanceRow]
) -> list[IncomeStatement]:
    """A statement for each currency in which something was earned or spent."""
    found: list[IncomeStatement] = []
    for currency, rows in by_currency(_moved(before, after)).items():
        income, expenses = section(rows, AccountType.INCOME), section(rows, AccountType.EXPENSE)
        if income.lines or expenses.lines:
            found.append(IncomeStatement(currency, income, expenses))
    return found


def _moved(before: Iterable[TrialBalanceRow], after: Iterable[TrialBalanceRow]) -> list[TrialBalanceRow]:
    net = {(row.path, row.currency): row.debit - row.credit for row in after}
    for row in before:
        key = (row.path, row.currency)
        net[key] = net.get(key, 0) - (row.debit - row.credit)
    return [TrialBalanceRow(*key, max(moved, 0), max(-moved, 0)) for key, moved in net.items() if moved]
