"""khata books transfer, in-flight, carry, consolidated: what concerns several books."""

from __future__ import annotations

from uuid import UUID

import rich_click as click
from psycopg import AsyncConnection
from rich.table import Column, Table

from khata.cli.access import record_use
from khata.cli.common import (
    BookMissing,
    book_option,
    console,
    json_option,
    print_json,
    reading,
    with_database,
)
from khata.cli.money import major
from khata.clock import utc_now
from khata.config import Settings
from khata.database import Database
from khata.wiring import open_transfers
from ledger.books import find_book
from ledger.consolidated import Consolidated
from ledger.consolidated import consolidated as load_consolidated
from ledger.errors import Refusal
from ledger.ids import Ids
from ledger.transfers import Side, Transfer, TransferView, in_flight


async def _number(database: Database, name: str) -> int:
    async with await AsyncConnection.connect(database.audit_dsn) as conn:
        book_id = await find_book(conn, name)
    if book_id is None:
        raise BookMissing(name)
    return book_id


@click.command("transfer")
@click.argument("account")
@click.argument("to_book")
@click.argument("to_account")
@click.argument("amount", type=int)
@click.argument("currency")
@click.option(
    "--side",
    type=click.Choice([side.value for side in Side]),
    default=Side.DEBIT.value,
    help="Of ACCOUNT: debit moves what we owe, credit what we own.",
)
@click.option(
    "--id",
    "id_",
    type=click.UUID,
    default=None,
    help="Say it again under the same id: nothing happens twice.",
)
@click.option("--description", default="", help="Free words without personal data.")
@book_option
@json_option
def transfer(
    account: str,
    to_book: str,
    to_account: str,
    amount: int,
    currency: str,
    side: str,
    id_: UUID | None,
    description: str,
    book: str | None,
    as_json: bool,
) -> None:
    """Move AMOUNT (minor units) from ACCOUNT to TO_ACCOUNT of the book TO_BOOK: a journal in each.

    What the other book refuses comes back. A transfer that is cut off is carried on by the worker, or `khata books
    carry`.

    Example: `khata books transfer Liabilities:Customer:c1:Wallet second Liabilities:Customer:c1:Wallet 20000 INR`
    """

    async def work(database: Database) -> TransferView:
        ends = [await _number(database, name) for name in (book or Settings().book, to_book)]
        terms = Transfer(
            id_ or Ids(utc_now)(), ends[0], ends[1], account, to_account, amount, currency, Side(side)
        )
        async with open_transfers(database) as transfers:
            sent = await transfers.send(terms, description)
        if isinstance(sent, Refusal):
            raise sent
        return sent

    found = with_database(work)
    if as_json:
        print_json(found)
        return
    reason = f" ({found.reason})" if found.reason else ""
    console.print(f"{found.state}{reason}: {major(amount, currency)} {currency} to book {to_book}")
    console.print(str(found.transfer.id))


@click.command("in-flight")
@book_option
@json_option
def flying(book: str | None, as_json: bool) -> None:
    """Transfers that a book has sent and not seen the end of."""

    async def work(database: Database) -> list[TransferView]:
        async with reading(database, book) as (conn, book_id):
            return await in_flight(conn, book_id, limit=1000)

    rows = with_database(work)
    if as_json:
        print_json(rows)
        return
    table = Table(
        _right("journal"), "transfer", "account", "to book", "to account", _right("amount"), "currency"
    )
    for found in rows:
        t = found.transfer
        ends = (str(t.id), t.account, str(t.to_book), t.to_account)
        table.add_row(str(found.sent_seq), *ends, major(t.amount, t.currency), t.currency)
    console.print(table)


@click.command("carry")
def carry() -> None:
    """Carry every transfer in flight to its end, as the worker does each second."""

    async def work(database: Database) -> int:
        async with open_transfers(database) as transfers:
            return await transfers.recover()

    console.print(f"{with_database(work)} transfers ended")


@click.command("consolidated")
@click.option("--at", multiple=True, metavar="BOOK:SEQ", help="A book and its number; again for each book.")
@json_option
def consolidated(at: tuple[str, ...], as_json: bool) -> None:
    """The trial balance of all books together, each at a number of its own (default: every book at its head).

    What books owe each other is taken out; what is on the way between them is named.

    Example: `khata books consolidated --at main:120 --at second:98`
    """

    async def work(database: Database) -> Consolidated:
        seqs = {await _number(database, name): seq for name, seq in map(_at, at)} or None
        await record_use(database)
        async with await AsyncConnection.connect(database.audit_dsn) as conn:
            return await load_consolidated(conn, seqs)

    found = with_database(work)
    if as_json:
        print_json(found)
    else:
        console.print(_consolidated_table(found))
        for currency, net in found.unexplained.items():
            console.print(f"[red]✗[/] {major(net, currency)} {currency} between books is no transfer's")


def _at(text: str) -> tuple[str, int]:
    name, _, seq = text.rpartition(":")
    if not name or not seq.isdecimal():
        raise click.BadParameter(f"{text!r} is not BOOK:SEQ", param_hint="--at")
    return name, int(seq)


def _consolidated_table(found: Consolidated) -> Table:
    """Accounts, what is on the way, and a total line for each currency."""
    seqs = ", ".join(f"{book}:{seq}" for book, seq in sorted(found.seqs.items()))
    table = Table(
        "account",
        "currency",
        _right("debit"),
        _right("credit"),
        title=f"Consolidated trial balance at {seqs}",
    )
    lines = [(row.path, row.currency, row.debit, row.credit) for row in found.rows]
    for way in found.on_the_way:
        name = f"on the way, {way.book_id} to {way.to_book}: {way.transfer_id}"
        lines.append((name, way.currency, max(way.net, 0), max(-way.net, 0)))
    for currency in sorted({line[1] for line in lines}):
        own = [line for line in lines if line[1] == currency]
        for name, _, *sides in own:
            table.add_row(name, currency, *(major(x, currency) if x else "" for x in sides))
        totals = (sum(line[2] for line in own), sum(line[3] for line in own))
        table.add_row("[bold]total[/]", currency, *(major(x, currency) for x in totals), end_section=True)
    return table


def _right(name: str) -> Column:
    return Column(name, justify="right")


COMMANDS = (transfer, flying, carry, consolidated)
