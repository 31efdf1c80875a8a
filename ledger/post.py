"""The one way into the books: lock and load, decide, write. Never commits: it joins the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus

from ledger.decide import decide
from ledger.errors import DatabaseRefused, NotInTransaction
from ledger.load import load
from ledger.model import Result, Unit
from ledger.state import State
from ledger.statements import is_refusal, run_groups, statement_groups
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
        await store(conn, state, decisions)
    except psycopg.Error as error:
        if is_refusal(error):
            raise DatabaseRefused(error.sqlstate or "", error.diag.message_primary or str(error)) from error
        raise
    await run_groups(conn, statement_groups(units, decisions.results))
    return state, decisions.results
