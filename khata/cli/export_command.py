"""khata export"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import rich_click as click
from psycopg import AsyncConnection
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from khata.cli import packs, statements_export
from khata.cli.common import (
    book_option,
    console,
    json_option,
    print_json,
    reading,
    stderr,
    with_database,
)
from khata.clock import utc_now
from khata.config import Settings
from khata.database import Database
from khata.packing import Wanted, export_pack
from khata.sealing import Sealer
from khata.whole import whole_directory, whole_file
from khata.wiring import api_secrets
from ledger.errors import FormatUnavailable
from ledger.export import FILES, FORMATS, Selection, export_file, recorded_days
from ledger.export.pack import FOLDERS, Written

_DAY = click.DateTime(["%Y-%m-%d"])
_ENDINGS = (".zip", ".zip.age", "/")
_FORMS = (*FORMATS, statements_export.FORMAT)


@dataclass(frozen=True, slots=True)
class _Range:
    """As on the command line."""

    first: date | None
    until: date | None
    after: int
    through: int | None
    owner: str | None
    account: str | None
    currency: str | None


@click.command()
@click.option(
    "--format",
    "format_",
    type=click.Choice(_FORMS),
    default=None,
    help="One form, not a pack (default: jsonl).",
)
@click.option(
    "--out",
    type=str,
    default=None,
    help="What to write (default: the journals as JSONL, to standard output).",
)
@click.option("--from", "first", type=_DAY, default=None, help="What was recorded on this UTC day or later.")
@click.option("--to", "until", type=_DAY, default=None, help="What was recorded before this UTC day.")
@click.option("--formats", default="all", help="Of a pack: all, none, or some of " + ", ".join(FOLDERS) + ".")
@click.option("--encrypt", is_flag=True, help="Of a pack: encrypt it (age) with a passphrase.")
@packs.passphrase_option
@click.option("--after", type=int, default=0, help="Of one form: journals after this number.")
@click.option("--through", type=int, default=None, help="Of one form: journals up to this number.")
@click.option("--owner", default=None, help="Of one form: what touches a merchant's accounts.")
@click.option("--account", default=None, help="Of one form: what touches an account.")
@click.option("--currency", default=None, help="Of one form: the account's currency.")
@book_option
@json_option
def command(
    format_: str | None,
    out: str | None,
    first: datetime | None,
    until: datetime | None,
    formats: str,
    encrypt: bool,
    passphrase_file: Path | None,
    as_json: bool,
    book: str | None,
    **given: Any,
) -> None:
    """Take a book away: an **audit pack** that a stranger can prove, or one form of it for another program.

    A pack (`--out` ends in `.zip` or `/`) seals first what is recorded; it is not made of a book that somebody
    changed behind the ledger's back. Encrypted (`--out` ends in `.zip.age`), `age -d` opens it. One form (`--format`;
    JSONL without it) goes to a file, to standard output, or, if it is several files, to a directory (`--out` ends in
    `/`). Nothing appears under its name unless it is whole. `camt.053`: a directory of statements, of days of effect.

    Example: `khata export --from 2026-10-01 --to 2026-11-01 --out october.zip && khata verify october.zip`

    Example: `khata export --format hledger --out books.journal && hledger -f books.journal check --strict`
    """
    days = _Range(first and first.date(), until and until.date(), **given)
    _check_range(days, format_)
    if format_ is None and out is not None and out.endswith(_ENDINGS):
        if days != _Range(days.first, days.until, 0, None, None, None, None):
            raise click.UsageError(
                "--after, --through, --owner, --account and --currency are for one --format"
            )
        if days.first is not None and days.first > utc_now().date():
            raise click.UsageError(f"--from {days.first} has not begun (UTC): there is nothing of it yet")
        if encrypt != out.endswith(".age"):
            raise click.UsageError("an encrypted pack is a .zip.age, and --encrypt makes it")
        word = packs.new_passphrase(passphrase_file) if encrypt else None
        wanted = Wanted(Path(out), out.endswith("/"), days.first, days.until, _formats(formats), word)
        _tell(with_database(lambda database: _pack(database, book, wanted)), out, as_json)
        return
    if encrypt or formats != "all":
        raise click.UsageError("--encrypt and --formats are for a pack: --out ends in .zip, .zip.age or /")
    if format_ is None and out is not None and not out.endswith(".jsonl"):
        raise click.UsageError(
            f"--out {out}: a pack's name ends in .zip, .zip.age or / (a directory); --format makes one form of a book"
        )
    name = format_ or "jsonl"
    written = with_database(lambda database: _one_form(database, book, name, out, days))
    if out is not None:
        console.print(f"{written:,} bytes in {out}", markup=False)


def _check_range(days: _Range, format_: str | None) -> None:
    if days.first is not None and days.until is not None and days.first >= days.until:
        raise click.UsageError(f"--to {days.until} is not after --from {days.first}")
    if days.through is not None and days.after >= days.through:
        raise click.UsageError(f"--through {days.through} is not after --after {days.after}")
    numbers, by_day = days.after or days.through is not None, days.first or days.until
    if numbers and by_day and format_ != statements_export.FORMAT:
        raise click.UsageError(
            "--from and --to choose by day, --after and --through by number: give one pair"
        )


def _formats(given: str) -> tuple[str, ...]:
    if given == "none":
        return ()
    if given == "all":
        missing: set[str] = set() if find_spec("pyarrow") else {"parquet"}
        for name in missing:
            stderr.print(f"without {name}: pyarrow is not installed", markup=False)
        return tuple(name for name in FOLDERS if name not in missing)
    chosen = tuple(dict.fromkeys(given.split(",")))
    for name in chosen:
        if name not in FOLDERS:
            raise click.UsageError(f"--formats: {name!r} is none of all, none, {', '.join(FOLDERS)}")
        if name == "parquet" and not find_spec("pyarrow"):
            raise FormatUnavailable("parquet", "pyarrow")
    return chosen


async def _pack(database: Database, book: str | None, wanted: Wanted) -> Written:
    settings = Settings()
    sealer = Sealer(settings.log_origin, api_secrets(settings))
    async with reading(database, book) as (_, book_id):
        pass
    with _progress() as advance:
        return await export_pack(database, sealer, book_id, wanted, now=utc_now(), progress=advance)


def _tell(written: Written, out: str, as_json: bool) -> None:
    if as_json:
        print_json({"out": out, **packs.facts(written)})
        return
    leaves = f"leaves {written.from_index} to {written.to_index}"
    console.print(f"{written.journals:,} journals of book {written.book} in {out}", markup=False)
    console.print(f"{leaves}, root {written.root.hex()}", markup=False)


async def _one_form(database: Database, book: str | None, name: str, out: str | None, days: _Range) -> int:
    """Bytes written."""
    if name == statements_export.FORMAT:
        return await _statements(database, book, out, days)
    files = list(FILES[name])
    folder = out is not None and out.endswith("/")
    if len(files) > 1 and not folder:
        raise click.UsageError(f"{name} is {len(files)} files: --out must name a directory, ending in /")
    async with reading(database, book) as (conn, book_id):
        chosen = await _selection(conn, book_id, days)

        async def write(file: IO[bytes], of: str) -> int:
            total = 0
            with _progress() as advance:
                async for chunk in export_file(conn, book_id, name, of, chosen):
                    file.write(chunk)
                    total += len(chunk)
                    advance(of, len(chunk))
            return total

        if out is None:
            return await write(sys.stdout.buffer, files[0])
        if not folder:
            with whole_file(Path(out)) as file:
                return await write(file, files[0])
        total = 0
        with whole_directory(Path(out)) as made:
            for of in files:
                with (made / of).open("xb") as file:
                    total += await write(file, of)
        return total


async def _statements(database: Database, book: str | None, out: str | None, days: _Range) -> int:
    if out is None or not out.endswith("/"):
        raise click.UsageError(f"{statements_export.FORMAT} needs a directory: --out ending in /")
    chosen = Selection(
        through_seq=days.through, owner=days.owner, account=days.account, currency=days.currency
    )
    return await statements_export.write_statements(database, book, Path(out), chosen, days.first, days.until)


async def _selection(conn: AsyncConnection[Any], book_id: int, days: _Range) -> Selection:
    after, through = await recorded_days(conn, book_id, days.first, days.until)
    if days.first is None and days.until is None:  # the head of now, for all files of a form
        after, through = days.after, through if days.through is None else days.through
    return Selection(
        after_seq=after, through_seq=through, owner=days.owner, account=days.account, currency=days.currency
    )


@contextmanager
def _progress() -> Generator[Callable[[str, int], None]]:
    """A line on standard error: which file, how many bytes in all, how long."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description} {task.completed:,} bytes"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=stderr, transient=True) as bar:
        task = bar.add_task("export")

        def advance(name: str, written: int) -> None:
            bar.update(task, description=name, advance=written)

        yield advance
