"""khata statement"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from secrets import token_hex
from typing import IO

import rich_click as click
from rich.markup import escape
from rich.table import Column, Table

from api.documents.formats import FORMATS
from khata.cli.as_of import from_option, known_option, period, to_option
from khata.cli.common import book_option, console, json_option, print_json, reading, with_database
from khata.cli.money import major
from khata.clock import utc_now
from khata.database import Database
from khata.whole import telling
from ledger.errors import AccountUnknown
from ledger.reports.load import open_statement, statement_pages
from ledger.reports.statement import StatementEntry, StatementHead, written

_TABLE = "table"
_RIGHT = ("amount", "balance")


@click.command()
@click.argument("path")
@click.argument("currency")
@from_option
@to_option
@known_option
@click.option(
    "--format", "format_", type=click.Choice([_TABLE, *FORMATS]), default=_TABLE, help="What to write."
)
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="File to write (default: standard output)."
)
@book_option
@json_option
def command(
    path: str,
    currency: str,
    first: date | None,
    last: date | None,
    known: int | datetime | None,
    format_: str,
    out: Path | None,
    book: str | None,
    as_json: bool,
) -> None:
    """An account's statement over days of effect: what it opens with, its posted lines, what it closes with.

    `camt.053`: ISO 20022, for accounting programs. `html` prints. A file appears under its name only when it is whole.

    Example: `khata statement Assets:Bank:meridian:Escrow INR --from 2026-11-01 --format pdf --out november.pdf`
    """
    if format_ == _TABLE and out is not None:
        raise click.UsageError("--out needs a --format for files")
    if format_ != _TABLE and as_json:
        raise click.UsageError("--json is a format of its own")
    days = period(first, last, utc_now().date())

    async def work(database: Database) -> None:
        async with reading(database, book) as (conn, book_id):
            head = await open_statement(
                *(conn, book_id, path, currency),
                first=days[0],
                last=days[1],
                known=known,
                made_at=utc_now(),
            )
            if head is None:
                raise AccountUnknown(path, currency)
            pages = statement_pages(conn, head)
            if format_ == _TABLE:
                entries = [entry async for page in pages for entry in page]
                print_json({"head": head, "entries": entries}) if as_json else _print(head, entries)
            else:
                await _store(written(FORMATS[format_].writer(head), pages), out)

    with_database(work)


async def _store(chunks: AsyncIterator[bytes], out: Path | None) -> None:
    if out is None:
        await _copy(chunks, sys.stdout.buffer)
        return
    with _aside(out) as file:
        size = await _copy(chunks, file)
    console.print(f"{size:,} bytes in {out}", markup=False)


@contextmanager
def _aside(out: Path) -> Generator[IO[bytes]]:
    """A file that becomes ``out`` at the end of the block, and is gone if that fails."""
    aside = out.with_name(f".{out.name[:64]}.{token_hex(4)}.part")
    with telling(out):
        file = aside.open("xb")
    try:
        with file:
            yield file
        with telling(out):
            aside.replace(out)
    finally:
        aside.unlink(missing_ok=True)


async def _copy(chunks: AsyncIterator[bytes], file: IO[bytes]) -> int:
    size = 0
    async for chunk in chunks:
        size += file.write(chunk)
    file.flush()
    return size


def _print(head: StatementHead, entries: list[StatementEntry]) -> None:
    right = (Column(name, justify="right") for name in _RIGHT)
    title = f"{head.path} {head.currency}, {head.first} to {head.last}, as known at journal {head.known}"
    table = Table("date", "journal", "kind", "other side", "description", *right, title=title)
    table.add_row(str(head.first), "", "opening", "", "", "", major(head.opening, head.currency))
    for entry in entries:
        figures = (major(x, head.currency) for x in (entry.amount, entry.balance))
        day = str(entry.effective_at.astimezone(UTC).date())
        said = (entry.kind, entry.counter_account, escape(entry.description))
        table.add_row(day, str(entry.journal_seq), *said, *figures)
    table.add_row(str(head.last), "", "closing", "", "", "", major(head.closing, head.currency))
    console.print(table)
