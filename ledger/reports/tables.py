"""The reports as tables, for CSV and for a terminal: words, a currency, figures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ledger.export.money import decimal_text
from ledger.export.tables import csv_text
from ledger.read import TrialBalanceRow
from ledger.reports.ageing import BUCKET_NAMES, Ageing
from ledger.reports.balance_sheet import BalanceSheet, Section, by_currency
from ledger.reports.income_statement import IncomeStatement


@dataclass(frozen=True, slots=True)
class Row:
    """``figures`` in minor units of ``currency``, None where the row has none; ``sum``: it adds up rows above it."""

    words: tuple[str, ...]
    currency: str
    figures: tuple[int | None, ...]
    sum: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """``words`` and ``figures``: the names of the columns of both kinds."""

    title: str
    words: tuple[str, ...]
    figures: tuple[str, ...]
    rows: tuple[Row, ...]

    def csv(self) -> bytes:
        """RFC 4180: each figure in major units and in minor units (``…_minor``)."""
        named = (column for name in self.figures for column in (name, f"{name}_minor"))
        return csv_text([("row", *self.words, "currency", *named), *map(_csv_row, self.rows)])


def _csv_row(row: Row) -> tuple[object, ...]:
    figures = (
        part
        for figure in row.figures
        for part in (("", "") if figure is None else (decimal_text(figure, row.currency), figure))
    )
    return ("total" if row.sum else "line", *row.words, row.currency, *figures)


def trial_balance_table(rows: Iterable[TrialBalanceRow]) -> Table:
    found: list[Row] = []
    for currency, own in by_currency(rows).items():
        found += [Row((row.path,), currency, (row.debit, row.credit)) for row in own]
        found.append(Row(("total",), currency, (sum(r.debit for r in own), sum(r.credit for r in own)), True))
    return Table("Trial balance", ("account",), ("debit", "credit"), tuple(found))


def balance_sheet_table(sheets: Iterable[BalanceSheet]) -> Table:
    found: list[Row] = []
    for sheet in sheets:
        found += _section("assets", sheet.assets, sheet.currency)
        found += _section("liabilities", sheet.liabilities, sheet.currency)
        found += _section("equity", sheet.equity, sheet.currency)
        found.append(Row(("result", "result of the period"), sheet.currency, (sheet.result,)))
        owed = sheet.liabilities.total + sheet.equity.total + sheet.result
        found.append(Row(("result", "liabilities, equity and result"), sheet.currency, (owed,), True))
    return Table("Balance sheet", ("section", "account"), ("amount",), tuple(found))


def income_statement_table(statements: Iterable[IncomeStatement]) -> Table:
    found: list[Row] = []
    for statement in statements:
        found += _section("income", statement.income, statement.currency)
        found += _section("expenses", statement.expenses, statement.currency)
        found.append(Row(("result", "result"), statement.currency, (statement.result,), True))
    return Table("Income statement", ("section", "account"), ("amount",), tuple(found))


def _section(name: str, section: Section, currency: str) -> Iterator[Row]:
    for line in section.lines:
        yield Row((name, line.path), currency, (line.amount,))
    yield Row((name, f"total {name}"), currency, (section.total,), True)


def ageing_table(ages: Iterable[Ageing]) -> Table:
    figures = ("open", *(f"days {name}" for name in BUCKET_NAMES))
    rows = tuple(Row((age.path,), age.currency, (age.open, *age.buckets)) for age in ages)
    return Table("Ageing of clearing accounts", ("account",), figures, rows)
