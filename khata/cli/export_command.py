"""khata export"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import IO

import rich_click as click
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from khata.cli.common import book_option, console, reading, stderr, with_database
from khata.database import Database
from ledger.export import FORMATS, export_journal


@click.command()
@click.option("--format", "format_", type=click.Choice(FORMATS), default="jsonl", help="What to write.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="File to write (default: standard output)."
)
@click.option("--after", type=int, default=0, help="Journals after this number.")
@click.option("--through", type=int, default=None, help="Journals up to this number.")
@book_option
def command(format_: str, out: Path | None, after: int, through: int | None, book: str | None) -> None:
    """Take the journal away, in order.

    `jsonl`: the canonical lines, byte for byte what the leaf hashes cover. `csv`: a row a line. `hledger`, `ledger`:
    plain-text accounting. A file appears under its name only when it is whole.

    Example: `khata export --format hledger --out books.journal && hledger -f books.journal check --strict`
    """

    async def work(database: Database) -> int:
        if out is None:
            return await _write(database, sys.stdout.buffer)
        aside = out.with_name(f".{out.name}.part")
        with aside.open("wb") as file:
            written = await _write(database, file)
        aside.replace(out)
        return written

    async def _write(database: Database, file: IO[bytes]) -> int:
        columns = (SpinnerColumn(), TextColumn("{task.completed:,} bytes"), TimeElapsedColumn())
        total = 0
        with Progress(*columns, console=stderr, transient=True) as bar:
            task = bar.add_task("export")
            async with reading(database, book) as (conn, book_id):
                async for chunk in export_journal(
                    conn, book_id, format_, after_seq=after, through_seq=through
                ):
                    file.write(chunk)
                    total += len(chunk)
                    bar.update(task, completed=total)
        return total

    written = with_database(work)
    if out is not None:
        console.print(f"{written:,} bytes in {out}", markup=False)
