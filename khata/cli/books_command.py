"""khata books …"""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import psycopg
import rich_click as click
from rich.table import Table

from khata.cli import between_books
from khata.cli.account_commands import COMMANDS
from khata.cli.as_of import effective_option, known_option
from khata.cli.common import (
    book_option,
    check_book_name,
    console,
    json_option,
    print_json,
    reading,
    with_database,
)
from khata.cli.journals_command import journals
from khata.cli.money import major
from khata.cli.tail_command import tail
from khata.clock import utc_now
from khata.config import Settings
from khata.database import Database
from ledger import as_of, read
from ledger.as_of import AsOf, BalanceAsOf
from ledger.books import create_book, find_book, open_accounts
from ledger.model import NewAccount


@click.group()
def command() -> None:
    """Look into the books, and open books and accounts.

    Example: `khata books balances --prefix Liabilities:Merchant`
    """


command.add_command(journals)
command.add_command(tail)
for books_command in between_books.COMMANDS:
    command.add_command(books_command)
for account_command in COMMANDS:
    command.add_command(account_command)


@command.command("open")
@click.argument("name")
def open_book(name: str) -> None:
    """Open the book NAME (lower-case letters, digits, dashes); if it is there already, nothing changes."""
    check_book_name(name)

    async def work(database: Database) -> int:
        async with await psycopg.AsyncConnection.connect(database.app_dsn) as conn:
            return await create_book(conn, name=name, now=utc_now())

    console.print(f"book [bold]{name}[/] has the number {with_database(work)}")


@command.command("open-account")
@click.argument("path")
@click.argument("currency")
@click.option("--floor", type=int, default=None, help="Lowest available, minor units; 0: no overdraft.")
@click.option("--owner", default=None, help="Opaque id of who may read it, e.g. a merchant's.")
@book_option
def open_account(path: str, currency: str, floor: int | None, owner: str | None, book: str | None) -> None:
    """Open an account.

    Example: `khata books open-account Liabilities:Customer:c1:Wallet INR --floor 0`
    """
    account, name = NewAccount(path, currency, floor=floor, owner=owner), book or Settings().book
    check_book_name(name)

    async def work(database: Database) -> None:
        async with await psycopg.AsyncConnection.connect(database.app_dsn) as conn:
            book_id = await find_book(conn, name) or await create_book(conn, name=name, now=utc_now())
            await open_accounts(conn, book_id, [account], now=utc_now())

    with_database(work)
    console.print(f"open: [bold]{path}[/] {currency}")


@command.command("balances")
@click.option("--prefix", default=None, help="Only accounts at or below this path.")
@effective_option
@known_option
@book_option
@json_option
def balances(
    prefix: str | None,
    effective: date | None,
    known: int | datetime | None,
    book: str | None,
    as_json: bool,
) -> None:
    """Every account: posted, pending in and out, available; as of the past without floors.

    Example: `khata books balances --effective-as-of 2026-10-31 --known-as-of 2026-11-05T00:00:00Z`
    """
    past = effective is not None or known is not None

    async def work(database: Database) -> list[read.Balance] | list[BalanceAsOf]:
        async with reading(database, book) as (conn, book_id):
            if past:
                return await as_of.balances(conn, book_id, AsOf(effective, known), prefix=prefix)
            return await read.balances(conn, book_id, prefix=prefix)

    rows = with_database(work)
    if as_json:
        print_json([_balance(b) for b in rows])
        return
    table = Table("account", "currency", *_right("posted", "pending in", "pending out", "available", "floor"))
    for b in rows:
        amounts = [major(x, b.currency) for x in (b.posted, b.pending_in, b.pending_out, b.available)]
        floor = b.floor if isinstance(b, read.Balance) else None
        table.add_row(b.path, b.currency, *amounts, "" if floor is None else major(floor, b.currency))
    console.print(table)


def _balance(b: read.Balance | BalanceAsOf) -> dict[str, Any]:
    said = {
        "account": b.path,
        "currency": b.currency,
        "type": b.type.value,
        "posted": b.posted,
        "pending_in": b.pending_in,
        "pending_out": b.pending_out,
        "available": b.available,
    }
    if isinstance(b, read.Balance):
        said |= {"floor": b.floor, "status": b.status, "owner": b.owner}
    return said


@command.command("statement")
@click.argument("path")
@click.argument("currency")
@click.option("--after", default=None, help="Begin after this place (journal.line), e.g. 17.1.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, help="Lines at most.")
@book_option
@json_option
def statement(
    path: str, currency: str, after: str | None, limit: int, book: str | None, as_json: bool
) -> None:
    """An account's lines, each with the journal behind it and the balance after it."""

    async def work(database: Database) -> read.Statement | None:
        async with reading(database, book) as (conn, book_id):
            return await read.statement(conn, book_id, path, currency, after=after, limit=limit)

    found = with_database(work)
    if found is None:
        raise click.ClickException(f"there is no account {path} in {currency}")
    if as_json:
        print_json(found)
        return
    table = Table(
        *_right("line", "journal"), "date", "kind", "layer", *_right("amount", "posted", "available")
    )
    for line in found.lines:
        amounts = [major(x, currency) for x in (line.amount, line.posted, line.available)]
        date = f"{line.effective_at:%Y-%m-%d}"
        table.add_row(str(line.seq), str(line.journal_seq), date, line.kind, line.layer, *amounts)
    console.print(f"opening {major(found.opening, currency)} {currency}", table)
    console.print(f"closing {major(found.closing, currency)} {currency}")


@command.command("trial-balance")
@book_option
@json_option
def trial_balance(book: str | None, as_json: bool) -> None:
    """Every account's balance on the side it falls; per currency the two sides are equal."""

    async def work(database: Database) -> list[read.TrialBalanceRow]:
        async with reading(database, book) as (conn, book_id):
            return await read.trial_balance(conn, book_id)

    rows = with_database(work)
    print_json(rows) if as_json else console.print(trial_balance_table(rows))


def trial_balance_table(rows: list[read.TrialBalanceRow]) -> Table:
    """One table, a total line for each currency."""
    table = Table("account", "currency", *_right("debit", "credit"), title="Trial balance")
    for currency in sorted({row.currency for row in rows}):
        own = [row for row in rows if row.currency == currency]
        for row in own:
            sides = [major(x, currency) if x else "" for x in (row.debit, row.credit)]
            table.add_row(row.path, currency, *sides)
        totals = [major(sum(x), currency) for x in ([r.debit for r in own], [r.credit for r in own])]
        table.add_row("[bold]total[/]", currency, *totals, end_section=True)
    return table


def _right(*names: str) -> list[Any]:
    from rich.table import Column

    return [Column(name, justify="right") for name in names]
