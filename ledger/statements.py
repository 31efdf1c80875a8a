"""The callers' own statements of a batch: each text once, for all who have it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson
import psycopg
from psycopg import AsyncConnection
from psycopg.pq import Format

from ledger.errors import StatementRefused
from ledger.model import Posted, Result, Statement, Unit
from ledger.wire import Call


@dataclass(frozen=True, slots=True)
class Group:
    """One text, what it is run with, in order, and how many rows each run must hit (None: any number).

    ``call``: the same for the short way, where it runs once for all.
    """

    sql: str
    params: Sequence[Mapping[str, Any]]
    wanted: Sequence[int | None]
    call: Call | None = None

    def check(self, hit: Sequence[int | None]) -> None:
        """Raise ``StatementRefused`` where another number of rows was hit."""
        for rows, wanted in zip(hit, self.wanted, strict=True):
            if wanted is not None and rows != wanted:
                raise StatementRefused(_first_words(self.sql), f"hit {rows} rows, not {wanted}")


def statement_groups(units: Sequence[Unit], results: Sequence[Result]) -> list[Group]:
    """The statements of those units that stand newly, by their text."""
    by_sql: dict[str, list[Statement]] = {}
    for unit, result in zip(units, results, strict=True):
        if isinstance(result, Posted) and not result.replayed:
            for statement in unit.statements:
                by_sql.setdefault(statement.sql, []).append(statement)
    return [_group(sql, statements) for sql, statements in by_sql.items()]


def _group(sql: str, statements: Sequence[Statement]) -> Group:
    wanted = [s.rows for s in statements]
    params = [dict(s.params) for s in statements]
    if not statements[0].together:
        return Group(sql, params, wanted)
    rows = orjson.dumps(params)
    known = [n for n in wanted if n is not None]
    in_all = sum(known) if len(known) == len(wanted) else None
    call = Call(_numbered(sql), (0,), (rows,), Format.TEXT)
    return Group(sql, [{"rows": rows.decode()}], [in_all], call)


@lru_cache(maxsize=1000)
def _numbered(sql: str) -> bytes:
    """psycopg's parameter as the server's."""
    return (sql.replace("%(rows)s", "$1").replace("%%", "%")).encode()


async def run_groups(conn: AsyncConnection[Any], groups: Sequence[Group]) -> None:
    """Run them in the open transaction. Raises ``StatementRefused``, also where the database refuses one."""
    for group in groups:
        cursor = conn.cursor()
        try:
            # returning=True keeps each execution's own row count; psycopg pipelines them.
            await cursor.executemany(group.sql.encode(), group.params, returning=True)
        except psycopg.DatabaseError as error:
            if not is_refusal(error):
                raise
            reason = error.diag.constraint_name or error.sqlstate or ""
            raise StatementRefused(_first_words(group.sql), reason) from error
        hit: list[int | None] = []
        for _ in group.params:
            hit.append(cursor.rowcount)
            cursor.nextset()
        group.check(hit)


def is_refusal(error: psycopg.Error) -> bool:
    """By our own rules, or by PostgreSQL's for what cannot be written at all (docs/attacks.md)."""
    ours = (error.sqlstate or "").startswith("KH")
    return ours or isinstance(error, psycopg.IntegrityError | psycopg.DataError)


def _first_words(sql: str) -> str:
    return " ".join(sql.split()[:4])
