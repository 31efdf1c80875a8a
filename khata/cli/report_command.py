"""khata report …"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from datetime import date, datetime
from typing import Any, TypeVar

import rich_click as click
from psycopg import AsyncConnection
from rich.markup import escape
from rich.table import Column
from rich.table import Table as Shown

from khata.cli.as_of import effective_option, from_option, known_option, period, to_option
from khata.cli.common import book_option, console, json_option, print_json, reading, with_database
from khata.cli.money import major
from khata.clock import utc_now
from khata.database import Database
from ledger import as_of
from ledger.as_of import AsOf
from ledger.reports import load
from ledger.reports.tables import (
    Row,
    Table,
    ageing_table,
    balance_sheet_table,
    income_statement_table,
    trial_balance_table,
)

R = TypeVar("R")
csv_option = click.option("--csv", "as_csv", is_flag=True, help="Print CSV instead of a table.")
Known = int | datetime | None


@click.group()
def command() -> None:
    """Reports on a whole book, as of a day of effect and a state of knowledge.

    Example: `khata report balance-sheet --effective-as-of 2026-10-31 --known-as-of 2026-11-05T00:00:00Z`
    """


@command.command("trial-balance")
@effective_option
@known_option
@book_option
@csv_option
@json_option
def trial_balance(
    effective: date | None, known: Known, book: str | None, as_csv: bool, as_json: bool
) -> None:
    """Every account's posted balance on the side it falls; per currency the two sides are equal."""
    _report(
        lambda conn, book_id: as_of.trial_balance(conn, book_id, AsOf(effective, known)),
        *(trial_balance_table, book, as_csv, as_json),
    )


@command.command("balance-sheet")
@effective_option
@known_option
@book_option
@csv_option
@json_option
def balance_sheet(
    effective: date | None, known: Known, book: str | None, as_csv: bool, as_json: bool
) -> None:
    """What the book owns, owes and has left over; the result of income and expenses is a line of its own."""
    _report(
        lambda conn, book_id: load.load_balance_sheets(conn, book_id, AsOf(effective, known)),
        *(balance_sheet_table, book, as_csv, as_json),
    )


@command.command("income-statement")
@from_option
@to_option
@known_option
@book_option
@csv_option
@json_option
def income_statement(
    first: date | None, last: date | None, known: Known, book: str | None, as_csv: bool, as_json: bool
) -> None:
    """What was earned and spent between two days, both inclusive."""
    start, end = period(first, last, utc_now().date())
    _report(
        lambda conn, book_id: load.load_income_statements(conn, book_id, first=start, last=end, known=known),
        *(income_statement_table, book, as_csv, as_json),
    )


@command.command("ageing")
@effective_option
@known_option
@book_option
@csv_option
@json_option
def ageing(effective: date | None, known: Known, book: str | None, as_csv: bool, as_json: bool) -> None:
    """How long what clearing accounts still hold has been open, first in first out (without a day: today)."""
    on = effective or utc_now().date()
    _report(
        lambda conn, book_id: load.load_ageing(conn, book_id, on=on, known=known),
        *(ageing_table, book, as_csv, as_json),
    )


def _report(
    ask: Callable[[AsyncConnection[Any], int], Awaitable[list[R]]],
    lay_out: Callable[[list[R]], Table],
    book: str | None,
    as_csv: bool,
    as_json: bool,
) -> None:
    async def work(database: Database) -> list[R]:
        async with reading(database, book) as (conn, book_id):
            return await ask(conn, book_id)

    found = with_database(work)
    if as_json:
        print_json(found)
    elif as_csv:
        sys.stdout.buffer.write(lay_out(found).csv())
        sys.stdout.flush()
    else:
        console.print(shown(lay_out(found)))


def shown(table: Table) -> Shown:
    """For a terminal: amounts in major units, sums in bold under a rule."""
    right = (Column(name, justify="right") for name in table.figures)
    made = Shown(*table.words, "currency", *right, title=table.title)
    for row in table.rows:
        made.add_row(*_cells(row), style="bold" if row.sum else None, end_section=row.sum)
    return made


def _cells(row: Row) -> tuple[str, ...]:
    figures = ("" if figure is None else major(figure, row.currency) for figure in row.figures)
    return (*map(escape, row.words), row.currency, *figures)
