"""The one way into the books: lock and load, decide, write. Never commits: it joins the caller's transaction."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
import psycopg
from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus

from ledger.decide import decide
from ledger.errors import DatabaseRefused, NotInTransaction, StatementRefused
from ledger.load import load
from ledger.model import Posted, Result, Statement, Unit
from ledger.state import State
from ledger.store import store


async def post(
    conn: AsyncConnection[Any], book_id: int, units: Sequence[Unit], *, now: datetime
) -> list[Result]:
    """Post ``units`` in order; one result each: ``Posted``, or the ``Refusal`` of a unit that left no trace.

    ``conn`` must not be in autocommit mode; nothing is durable before the caller's COMMIT has returned. The book
    is locked until then. The statements of units that stand run last; those of replayed units do not run again.

    Raises ``NotInTransaction``, ``BookUnknown``; ``StatementRefused`` when a statement hits another number of rows
    than promised or the database refuses it, and ``DatabaseRefused`` when the ledger's own guards do:
    then the caller must roll back, nothing of the whole batch stands.
    """
    _, results = await post_and_know(conn, book_id, units, now=now)
    return results


async def post_and_know(
    conn: AsyncConnection[Any], book_id: int, units: Sequence[Unit], *, now: datetime
) -> tuple[State, list[Result]]:
    """``post``, and what the book is after it, if the caller commits."""
    if conn.autocommit and conn.info.transaction_status is TransactionStatus.IDLE:
        raise NotInTransaction  # the lock would be gone before the first row is written
    try:
        state = await load(conn, book_id, units, now=now)
        decisions = decide(state, units)
        await store(conn, state, decisions, version=new_version())
    except psycopg.Error as error:
        if _refused(error):
            raise DatabaseRefused(error.sqlstate or "", error.diag.message_primary or str(error)) from error
        raise
    await run_statements(conn, units, decisions.results)
    return state, decisions.results


def new_version() -> int:
    """Of a book: random, so that no two that were never written are the same."""
    return secrets.randbits(62)


def _refused(error: psycopg.Error) -> bool:
    """By our own rules, or by PostgreSQL's for what cannot be written at all (docs/attacks.md)."""
    ours = (error.sqlstate or "").startswith("KH")
    return ours or isinstance(error, psycopg.IntegrityError | psycopg.DataError)


async def run_statements(
    conn: AsyncConnection[Any], units: Sequence[Unit], results: Sequence[Result]
) -> None:
    """Run the callers' statements of those units that stand newly. Raises ``StatementRefused``."""
    by_sql: dict[str, list[Statement]] = {}
    for unit, result in zip(units, results, strict=True):
        if isinstance(result, Posted) and not result.replayed:
            for statement in unit.statements:
                by_sql.setdefault(statement.sql, []).append(statement)
    for sql, statements in by_sql.items():
        wanted = [s.rows for s in statements]
        params = [dict(s.params) for s in statements]
        if statements[0].together:
            wanted = [None if None in wanted else sum(rows for rows in wanted if rows is not None)]
            params = [{"rows": orjson.dumps(params).decode()}]
        await _run_group(conn, sql, params, wanted)


async def _run_group(
    conn: AsyncConnection[Any],
    sql: str,
    params: Sequence[Mapping[str, Any]],
    wanted: Sequence[int | None],
) -> None:
    """Run ``sql`` once for each of ``params``; each must hit the number of rows ``wanted`` of it."""
    cursor = conn.cursor()
    try:
        # returning=True keeps each execution's own row count; psycopg pipelines them.
        await cursor.executemany(sql.encode(), params, returning=True)
    except psycopg.DatabaseError as error:
        if not _refused(error):
            raise
        raise StatementRefused(
            _first_words(sql), error.diag.constraint_name or error.sqlstate or ""
        ) from error
    for rows in wanted:
        if rows is not None and cursor.rowcount != rows:
            raise StatementRefused(_first_words(sql), f"hit {cursor.rowcount} rows, not {rows}")
        cursor.nextset()


def _first_words(sql: str) -> str:
    return " ".join(sql.split()[:4])
