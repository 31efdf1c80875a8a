"""Work that follows the books: a batch of each that is behind, whatever becomes of the others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import structlog
from psycopg import AsyncConnection
from sqlalchemy.exc import SQLAlchemyError

from gateway.core import Gateway, driver
from ledger.errors import LedgerError

log = structlog.get_logger()

Behind = Callable[[AsyncConnection[Any]], Awaitable[list[int]]]
Batch = Callable[[AsyncConnection[Any], int], Awaitable[int]]


async def each_book(gw: Gateway, name: str, behind: Behind, batch: Batch) -> int:
    """A ``batch`` of each book that is ``behind``, in a transaction of its own; the sum of what they did.
    ``name``: of the work, for the log.

    One that fails stops no other: the first failure is raised when all have been tried.
    """
    done, idle, failures = 0, set[int](), list[Exception]()
    for book_id in await _behind(gw, behind):
        try:
            async with gw.engine.begin() as conn:
                did = await batch(await driver(conn), book_id)
        except (LedgerError, psycopg.Error, SQLAlchemyError) as error:
            failures.append(error)
        else:
            done += did
            if not did:
                idle.add(book_id)
    if idle:
        # Another worker is at it; or somebody keeps the lock it takes, which nothing else would tell.
        for book_id in idle.intersection(await _behind(gw, behind)):
            log.warning("still_behind", work=name, book=book_id)
    if failures:
        raise failures[0]
    return done


async def _behind(gw: Gateway, behind: Behind) -> list[int]:
    async with gw.engine.begin() as conn:
        return await behind(await driver(conn))
