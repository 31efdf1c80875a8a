"""khata books tail: journals or leaves of the log, one line each, as they come."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial
from typing import Any

import orjson
import rich_click as click
from psycopg import AsyncConnection

from khata.cli.common import book_option, reading, stderr, with_database
from khata.cli.money import major
from khata.database import Database
from khata.tail import Leaf, follow, journals_from, leaves_from, next_journal
from khata.wiring import SILENT_MS
from ledger.log.proofs import log_size
from ledger.read import JournalView


@click.command("tail")
@click.option(
    "--from",
    "first",
    type=click.IntRange(min=0),
    default=None,
    help="Begin at this number (default: at what comes).",
)
@click.option(
    "--log", "sealed", is_flag=True, help="The leaves of the log as they are sealed, numbered from 0."
)
@click.option("--limit", type=click.IntRange(min=1), default=None, help="Stop after so many.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@book_option
def tail(first: int | None, sealed: bool, limit: int | None, as_json: bool, book: str | None) -> None:
    """Follow a book: each journal as it is recorded, until Ctrl-C; over a lost connection, too, and nothing is missed.

    With --log it is what the transparency log takes in: journals, acts and openings of accounts, in its order.

    Example: `khata books tail --from 1 --json | jq -r .leaf_hash`
    """

    async def work(database: Database) -> None:
        async with reading(database, book) as (conn, book_id):
            begin = (
                first if first is not None else await (log_size if sealed else next_journal)(conn, book_id)
            )
        connect = partial(
            AsyncConnection.connect,
            database.audit_dsn,
            autocommit=True,
            connect_timeout=5,
            tcp_user_timeout=SILENT_MS,
        )
        if sealed:
            await _print(follow(connect, book_id, begin, leaves_from, lost=_lost), _leaf, limit, as_json)
        else:
            await _print(
                follow(connect, book_id, max(begin, 1), journals_from, lost=_lost), _journal, limit, as_json
            )

    try:
        with_database(work)
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        # Whoever read has enough. What is still to be written when Python ends must go somewhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _lost(error: Exception) -> None:
    stderr.print(f"connection lost ({type(error).__name__}); trying again", markup=False)


async def _print(
    found: AsyncGenerator[Any],
    told: Callable[[Any], tuple[dict[str, Any], str]],
    limit: int | None,
    as_json: bool,
) -> None:
    left = limit
    async with aclosing(found):
        async for one in found:
            fields, sentence = told(one)
            _write(orjson.dumps(fields) if as_json else sentence.encode())
            left = None if left is None else left - 1
            if left == 0:
                return


def _write(line: bytes) -> None:
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


def _journal(j: JournalView) -> tuple[dict[str, Any], str]:
    fields = {
        name: getattr(j, name) for name in ("seq", "id", "kind", "source", "effective_at", "recorded_at")
    }
    fields |= {"reverses": j.reverses, "description": j.description, "metadata": dict(j.metadata)}
    fields |= {"postings": list(j.postings), "leaf_hash": j.leaf_hash.hex()}
    moved = "; ".join(
        f"{p.debit} ← {p.credit} {major(p.amount, p.currency)} {p.currency}" for p in j.postings[:3]
    )
    more = f"; and {len(j.postings) - 3} more" if len(j.postings) > 3 else ""
    return fields, f"{j.seq}  {j.recorded_at:%Y-%m-%d %H:%M:%S}  {j.kind}  {moved}{more}"


def _leaf(leaf: Leaf) -> tuple[dict[str, Any], str]:
    fields = {
        "index": leaf.index,
        "source": leaf.source,
        "number": leaf.number,
        "leaf_hash": leaf.hash.hex(),
        "entry": orjson.loads(leaf.line),
    }
    return fields, f"{leaf.index}  {leaf.hash.hex()[:16]}  {leaf.source} {leaf.number}  {leaf.line.decode()}"
