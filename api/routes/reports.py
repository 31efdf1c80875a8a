"""Reports on a whole book, for who may see all of it: as of a day of effect and a state of knowledge.

What is known is fixed first, and said in the answer: the same report can be had again, however the book has grown.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from litestar import Response, get
from psycopg import AsyncConnection

from api.answers import as_answer, view
from api.books import sight_of
from api.operation import ApiRequest, RouteArguments, reads
from api.policy import Audience, Scope
from api.schemas.base import View
from api.schemas.ledger import BookQuery
from api.schemas.reports import (
    AgeingReport,
    BalanceSheetReport,
    IncomeStatementReport,
    PeriodQuery,
    ReportQuery,
    TrialBalanceReport,
)
from ledger import as_of
from ledger.as_of import AsOf
from ledger.reports import load, tables

CSV = "text/csv; charset=utf-8"


def _report(summary: str, answer: type[View], query: type[BookQuery] = ReportQuery) -> RouteArguments:
    return reads(
        *(Scope.ACCOUNTS_READ, summary, "Reports", answer),
        audience=Audience.PLATFORM,
        query=query,
        media_types=(CSV,),
    )


@asynccontextmanager
async def _book(
    request: ApiRequest, asked: int | None, known: int | datetime | None
) -> AsyncGenerator[tuple[AsyncConnection[Any], int, int]]:
    """A connection, the book, and the number of the last journal that counts."""
    sight = await sight_of(request.deps, request.auth, asked)
    async with request.deps.pool.connection() as conn:
        yield conn, sight.book_id, await as_of.known_seq(conn, sight.book_id, known)


def _answer(report: View, table: tables.Table, format: str) -> Response[bytes]:
    if format == "json":
        return view(report)
    name = table.title.lower().replace(" ", "-")
    headers = {"Content-Disposition": f'attachment; filename="{name}.csv"'}
    return as_answer(table.csv(), media_type=CSV, headers=headers)


@get("/v1/reports/trial-balance", **_report("The trial balance", TrialBalanceReport))
async def get_trial_balance(request: ApiRequest) -> Response[bytes]:
    """Every account's posted balance on the side it falls; per currency both sides come to the same sum."""
    asked = request.asked(ReportQuery)
    async with _book(request, asked.book, asked.known_as_of) as (conn, book_id, known):
        rows = await as_of.trial_balance(conn, book_id, AsOf(asked.effective_as_of, known))
    report = TrialBalanceReport.of(asked.effective_as_of, known, rows)
    return _answer(report, tables.trial_balance_table(rows), asked.format)


@get("/v1/reports/balance-sheet", **_report("The balance sheet", BalanceSheetReport))
async def get_balance_sheet(request: ApiRequest) -> Response[bytes]:
    """What the book owns, owes and has left over, with the result of income and expenses as a line of its own."""
    asked = request.asked(ReportQuery)
    async with _book(request, asked.book, asked.known_as_of) as (conn, book_id, known):
        sheets = await load.load_balance_sheets(conn, book_id, AsOf(asked.effective_as_of, known))
    report = BalanceSheetReport.of(asked.effective_as_of, known, sheets)
    return _answer(report, tables.balance_sheet_table(sheets), asked.format)


@get(
    "/v1/reports/income-statement",
    **_report("The income statement", IncomeStatementReport, PeriodQuery),
)
async def get_income_statement(request: ApiRequest) -> Response[bytes]:
    """What was earned and spent between two days of effect, both inclusive."""
    asked = request.asked(PeriodQuery)
    async with _book(request, asked.book, asked.known_as_of) as (conn, book_id, known):
        found = await load.load_income_statements(
            conn, book_id, first=asked.first, last=asked.last, known=known
        )
    report = IncomeStatementReport.of(asked.first, asked.last, known, found)
    return _answer(report, tables.income_statement_table(found), asked.format)


@get("/v1/reports/ageing", **_report("Ageing of clearing accounts", AgeingReport))
async def get_ageing(request: ApiRequest) -> Response[bytes]:
    """How long what clearing accounts still hold has been open, first in first out. Without a day: today."""
    asked = request.asked(ReportQuery)
    on = asked.effective_as_of or request.deps.clock().astimezone(UTC).date()
    async with _book(request, asked.book, asked.known_as_of) as (conn, book_id, known):
        ages = await load.load_ageing(conn, book_id, on=on, known=known)
    return _answer(AgeingReport.of(on, known, ages), tables.ageing_table(ages), asked.format)


routes = (get_trial_balance, get_balance_sheet, get_income_statement, get_ageing)
