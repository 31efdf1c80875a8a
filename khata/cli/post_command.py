"""khata post"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, TextIO

import orjson
import psycopg
import rich_click as click
from rich.progress import track

from khata.cli.common import BookMissing, book_option, console, json_option, print_json, stderr, with_database
from khata.clock import utc_now
from khata.config import Settings
from khata.database import Database
from ledger.books import find_book
from ledger.errors import InvalidEntry, Refusal
from ledger.ids import Ids
from ledger.model import Journal, OnClosed, Posted, Posting, Source, Unit
from ledger.post import post

BATCH = 1000


@click.command()
@click.argument("file", type=click.File("r"))
@book_option
@json_option
def command(file: TextIO, book: str | None, as_json: bool) -> None:
    """Post journals from FILE (`-` for standard input), one JSON object a line, amounts in minor units.

    A line: `{"kind": "transfer", "source": "manual/2026-1/posted", "description": "…", "postings":
    [{"debit": "Assets:Bank:Meridian:Escrow", "credit": "Equity:Opening", "amount": 5000, "currency": "INR"}]}`

    `"effective_at": "2026-10-31T12:00:00Z"` says when it counts; with `"on_closed": "first_open_day"` from the first
    open day if that one is closed.

    A line that is no journal stops the whole file before anything is posted, and the error names it. Otherwise a line
    is a unit of its own: what the book refuses leaves no trace, and the other lines stand. The source key makes a
    second run of the same file harmless. Exit code 1 if any line was refused.
    """
    ids = Ids(utc_now)
    numbered = [(n, Unit((_journal(line, n, ids),))) for n, line in enumerate(file, start=1) if line.strip()]
    lines, units = [n for n, _ in numbered], [unit for _, unit in numbered]

    async def work(database: Database) -> list[Posted | Refusal]:
        async with await psycopg.AsyncConnection.connect(database.app_dsn) as conn:
            name = book or Settings().book
            book_id = await find_book(conn, name)
            if book_id is None:
                raise BookMissing(name)
            return await _post_all(conn, book_id, units)

    results = with_database(work)
    refused = [(n, r) for n, r in zip(lines, results, strict=True) if isinstance(r, Refusal)]
    if as_json:
        print_json([{"line": n, **_result(r)} for n, r in zip(lines, results, strict=True)])
    else:
        new = sum(isinstance(r, Posted) and not r.replayed for r in results)
        console.print(f"{new} posted, {len(results) - new - len(refused)} replayed, {len(refused)} refused")
        for n, refusal in refused:
            stderr.print(f"line {n}: {refusal}", markup=False)
    if refused:
        raise SystemExit(1)


async def _post_all(
    conn: psycopg.AsyncConnection[Any], book_id: int, units: list[Unit]
) -> list[Posted | Refusal]:
    results: list[Posted | Refusal] = []
    batches: Iterable[int] = range(0, len(units), BATCH)
    for start in track(batches, "posting", console=stderr, disable=len(units) <= BATCH):
        results += await post(conn, book_id, units[start : start + BATCH], now=utc_now())
        await conn.commit()
    return results


def _journal(line: str, number: int, ids: Ids) -> Journal:
    try:
        said = orjson.loads(line)
        type_, id_, event = said.pop("source").split("/", 2)
        postings = tuple(Posting(**p) for p in said.pop("postings"))
        if "effective_at" in said:
            said["effective_at"] = datetime.fromisoformat(said["effective_at"])
        if "on_closed" in said:
            said["on_closed"] = OnClosed(said["on_closed"])
        return Journal(id=ids(), source=Source(type_, id_, event), postings=postings, **said)
    except InvalidEntry as error:
        raise InvalidEntry(f"line {number}: {error.field}", error.reason) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidEntry(f"line {number}", f"not a journal: {error}") from error


def _result(result: Posted | Refusal) -> dict[str, Any]:
    if isinstance(result, Posted):
        return {"seqs": result.seqs, "ids": [str(i) for i in result.ids], "replayed": result.replayed}
    return {"refused": result.code, "detail": str(result)}
