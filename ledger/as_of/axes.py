"""The two axes of time, and how a question about them is put to the database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, LiteralString

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import dict_row

from ledger.errors import NotRecorded

_NOT_RECORDED = "KH030"
# The number of the last journal known; takes book, seq and instant (``known_params``).
KNOWN: LiteralString = "ledger.known(%(book)s, %(seq)s, %(instant)s)"


@dataclass(frozen=True, slots=True)
class AsOf:
    """``effective``: the last day that counts; None: every day, also those to come. ``known``: the number of the last
    journal known, or an instant of recording; None: all that is recorded."""

    effective: date | None = None
    known: int | datetime | None = None

    @property
    def params(self) -> dict[str, Any]:
        return {"day": self.effective, **known_params(self.known)}


def known_params(known: int | datetime | None) -> dict[str, Any]:
    return {
        "seq": known if isinstance(known, int) else None,
        "instant": known if isinstance(known, datetime) else None,
    }


async def known_seq(conn: AsyncConnection[Any], book_id: int, known: int | datetime | None) -> int:
    """The number of the last journal known then: 0 before the first, the head for None."""
    [row] = await fetch(conn, f"SELECT {KNOWN} AS seq", {"book": book_id, **known_params(known)})
    return row["seq"]


async def fetch(
    conn: AsyncConnection[Any], sql: LiteralString, given: dict[str, Any]
) -> list[dict[str, Any]]:
    """The rows of one query; ``NotRecorded`` where it was asked about journals to come."""
    try:
        cursor = await conn.cursor(row_factory=dict_row).execute(sql, given)
    except psycopg.Error as error:
        if error.sqlstate == _NOT_RECORDED:
            raise NotRecorded(error.diag.message_primary or "") from error
        raise
    return await cursor.fetchall()
