"""The balance sheet: what the book owns, what it owes and what is left, as of one moment.

Income and expenses are never closed into equity by a journal here: what they come to up to that moment stands as one
computed line beside the equity accounts, the result. Per currency assets = liabilities + equity + result, checked.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ledger.model import TYPE_BY_ROOT, AccountType
from ledger.read import TrialBalanceRow
from ledger.reports.errors import ReportBroken


@dataclass(frozen=True, slots=True)
class SheetLine:
    """``amount``: minor units, signed by the account's normal side."""

    path: str
    amount: int


@dataclass(frozen=True, slots=True)
class Section:
    """The accounts of one type by path, and their sum."""

    lines: tuple[SheetLine, ...]
    total: int


@dataclass(frozen=True, slots=True)
class BalanceSheet:
    """One currency's. ``result``: income less expenses, ever since the book began."""

    currency: str
    assets: Section
    liabilities: Section
    equity: Section
    result: int


def section(rows: Iterable[TrialBalanceRow], type: AccountType) -> Section:
    """The accounts of ``type`` among ``rows``, which are of one currency."""
    sign = 1 if type.debit_normal else -1
    lines = tuple(
        SheetLine(row.path, sign * (row.debit - row.credit))
        for row in sorted(rows, key=lambda row: row.path)
        if TYPE_BY_ROOT[row.path.split(":", 1)[0]] is type
    )
    return Section(lines, sum(line.amount for line in lines))


def by_currency(rows: Iterable[TrialBalanceRow]) -> dict[str, list[TrialBalanceRow]]:
    """``rows`` by their currency's code, in its order."""
    found: dict[str, list[TrialBalanceRow]] = {}
    for row in rows:
        found.setdefault(row.currency, []).append(row)
    return dict(sorted(found.items()))


def balance_sheets(rows: Iterable[TrialBalanceRow]) -> list[BalanceSheet]:
    """A sheet a currency, out of a trial balance. Raises ``ReportBroken`` if one does not balance."""
    return [_sheet(currency, own) for currency, own in by_currency(rows).items()]


def _sheet(currency: str, rows: list[TrialBalanceRow]) -> BalanceSheet:
    assets, liabilities, equity, income, expenses = (section(rows, type) for type in AccountType)
    result = income.total - expenses.total
    owed = liabilities.total + equity.total + result
    if assets.total != owed:
        raise ReportBroken("balance sheet", currency, assets.total, owed)
    return BalanceSheet(currency, assets, liabilities, equity, result)
