"""Reports on a whole book. Amounts are minor units; balances are signed by their account's normal side."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import Field

from api.schemas.as_of import Day, KnownAsOf
from api.schemas.base import AccountPath, CurrencyCode, View
from api.schemas.ledger import BookQuery
from ledger.read import TrialBalanceRow
from ledger.reports.ageing import Ageing
from ledger.reports.balance_sheet import BalanceSheet, Section, by_currency
from ledger.reports.income_statement import IncomeStatement

ReportFormat = Annotated[Literal["json", "csv"], Field(description="csv: figures in major and minor units")]
Known = Annotated[int, Field(description="The number of the last journal that counts")]


class ReportQuery(BookQuery):
    effective_as_of: Annotated[Day | None, Field(description="The last day that counts, UTC")] = None
    known_as_of: KnownAsOf | None = None
    format: ReportFormat = "json"


class PeriodQuery(BookQuery):
    first: Annotated[Day, Field(alias="from", description="First day, UTC")]
    last: Annotated[Day, Field(alias="to", description="Last day, inclusive, UTC")]
    known_as_of: KnownAsOf | None = None
    format: ReportFormat = "json"


class TrialBalanceLine(View):
    """The posted balance on the side it falls; the other side is 0."""

    account: AccountPath
    debit: int
    credit: int


class TrialBalance(View):
    """`debit` and `credit` are the sums; they are equal."""

    currency: CurrencyCode
    lines: list[TrialBalanceLine]
    debit: int
    credit: int

    @classmethod
    def of(cls, currency: str, rows: list[TrialBalanceRow]) -> Self:
        lines = [
            TrialBalanceLine.model_construct(account=r.path, debit=r.debit, credit=r.credit) for r in rows
        ]
        debit, credit = sum(r.debit for r in rows), sum(r.credit for r in rows)
        return cls.model_construct(currency=currency, lines=lines, debit=debit, credit=credit)


class TrialBalanceReport(View):
    """One entry a currency; every account that had a line by then. `effective_as_of` null: every day."""

    effective_as_of: date | None
    known: Known
    data: list[TrialBalance]

    @classmethod
    def of(cls, effective: date | None, known: int, rows: list[TrialBalanceRow]) -> Self:
        data = [TrialBalance.of(currency, own) for currency, own in by_currency(rows).items()]
        return cls.model_construct(effective_as_of=effective, known=known, data=data)


class ReportLine(View):
    account: AccountPath
    amount: int


class ReportSection(View):
    lines: list[ReportLine]
    total: int

    @classmethod
    def of(cls, section: Section) -> Self:
        lines = [ReportLine.model_construct(account=x.path, amount=x.amount) for x in section.lines]
        return cls.model_construct(lines=lines, total=section.total)


class CurrencySheet(View):
    """`assets.total` = `liabilities.total` + `equity.total` + `result`; `result` is income less expenses, never closed
    into equity."""

    currency: CurrencyCode
    assets: ReportSection
    liabilities: ReportSection
    equity: ReportSection
    result: int

    @classmethod
    def of(cls, sheet: BalanceSheet) -> Self:
        return cls.model_construct(
            currency=sheet.currency,
            assets=ReportSection.of(sheet.assets),
            liabilities=ReportSection.of(sheet.liabilities),
            equity=ReportSection.of(sheet.equity),
            result=sheet.result,
        )


class BalanceSheetReport(View):
    """One entry a currency. `effective_as_of` null: every day."""

    effective_as_of: date | None
    known: Known
    data: list[CurrencySheet]

    @classmethod
    def of(cls, effective: date | None, known: int, sheets: list[BalanceSheet]) -> Self:
        data = [CurrencySheet.of(sheet) for sheet in sheets]
        return cls.model_construct(effective_as_of=effective, known=known, data=data)


class CurrencyResult(View):
    """`result` = `income.total` - `expenses.total`; below zero a loss."""

    currency: CurrencyCode
    income: ReportSection
    expenses: ReportSection
    result: int

    @classmethod
    def of(cls, statement: IncomeStatement) -> Self:
        return cls.model_construct(
            currency=statement.currency,
            income=ReportSection.of(statement.income),
            expenses=ReportSection.of(statement.expenses),
            result=statement.result,
        )


class IncomeStatementReport(View):
    """One entry for each currency in which something was earned or spent between the days, both inclusive."""

    first: date
    last: date
    known: Known
    data: list[CurrencyResult]

    @classmethod
    def of(cls, first: date, last: date, known: int, found: list[IncomeStatement]) -> Self:
        data = [CurrencyResult.of(statement) for statement in found]
        return cls.model_construct(first=first, last=last, known=known, data=data)


class AccountAgeing(View):
    """`open` is the balance of an account that must return to zero; the others its parts by age in days, first in
    first out, of its sign."""

    account: AccountPath
    currency: CurrencyCode
    open: int
    days_0_1: int
    days_2_3: int
    days_4_7: int
    days_8_30: int
    over_30_days: int

    @classmethod
    def of(cls, age: Ageing) -> Self:
        names = ("days_0_1", "days_2_3", "days_4_7", "days_8_30", "over_30_days")
        parts = dict(zip(names, age.buckets, strict=True))
        return cls.model_construct(account=age.path, currency=age.currency, open=age.open, **parts)


class AgeingReport(View):
    """Every clearing account with something open at the end of the day `effective_as_of`."""

    effective_as_of: date
    known: Known
    data: list[AccountAgeing]

    @classmethod
    def of(cls, on: date, known: int, ages: list[Ageing]) -> Self:
        data = [AccountAgeing.of(age) for age in ages]
        return cls.model_construct(effective_as_of=on, known=known, data=data)
