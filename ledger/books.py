"""Books and accounts: opened once, changed only by recorded facts. Nothing here commits."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from types import EllipsisType
from typing import Any

import psycopg
from psycopg import AsyncConnection

from ledger.errors import AccountUnknown, DatabaseRefused, FactRefused
from ledger.model import AccountStatus, NewAccount

# Below the floor; closed and not empty (migrations/sql/0001_ledger.sql, the list at ledger.refuse).
FORBIDDEN_BY_BALANCE = ("KH006", "KH017")


async def create_book(conn: AsyncConnection[Any], *, name: str, now: datetime) -> int:
    """The id of the book of that name, made if it is not there."""
    cursor = await conn.execute("SELECT ledger.create_book(%s, %s)", [name, now])
    row = await cursor.fetchone()
    assert row is not None
    return row[0]


async def find_book(conn: AsyncConnection[Any], name: str) -> int | None:
    cursor = await conn.execute("SELECT book_id FROM ledger.book WHERE name = %s", [name])
    row = await cursor.fetchone()
    return None if row is None else row[0]


async def open_accounts(
    conn: AsyncConnection[Any], book_id: int, accounts: Sequence[NewAccount], *, now: datetime
) -> None:
    """Open those that are not there yet, by path and currency; those that are stay as they are.

    Raises ``DatabaseRefused`` (KH005) when there is no such book.
    """
    columns = [[getattr(a, name) for a in accounts] for name in ("path", "currency", "floor", "owner")]
    try:
        await conn.execute(
            "SELECT ledger.open_accounts(%s, %s::text[], %s::text[], %s::bigint[], %s::text[], %s)",
            [book_id, *columns, now],
        )
    except psycopg.DatabaseError as error:
        raise _refused(error) from error


async def change_account(
    conn: AsyncConnection[Any],
    book_id: int,
    path: str,
    currency: str,
    *,
    now: datetime,
    reason: str,
    floor: int | EllipsisType | None = ...,
    status: AccountStatus | None = None,
) -> None:
    """Record a new floor (None: no floor) or status; what is not given stays.

    Raises ``AccountUnknown``, and ``FactRefused`` when the floor lies above what is available or the account to
    close is not empty.
    """
    # The book's lock first, like every writer: what is read here cannot change before the fact is written.
    await conn.execute("UPDATE ledger.book SET recorded_at = recorded_at WHERE book_id = %s", [book_id])
    cursor = await conn.execute(
        "SELECT account_id, b.floor, b.status FROM ledger.account a JOIN ledger.balance b USING (book_id, account_id)"
        " WHERE a.book_id = %s AND a.path = %s AND a.currency = %s",
        [book_id, path, currency],
    )
    row = await cursor.fetchone()
    if row is None:
        raise AccountUnknown(path, currency)
    account_id, old_floor, old_status = row
    new_floor = old_floor if isinstance(floor, EllipsisType) else floor
    new_status = old_status if status is None else status.value
    try:
        await conn.execute(
            "SELECT ledger.change_account(%s, %s, %s, %s, %s, %s)",
            [book_id, account_id, new_floor, new_status, reason, now],
        )
    except psycopg.DatabaseError as error:
        if error.sqlstate in FORBIDDEN_BY_BALANCE:
            raise FactRefused(path, currency, error.diag.constraint_name or "") from error
        raise _refused(error) from error


def _refused(error: psycopg.DatabaseError) -> Exception:
    """Our own refusals, by SQLSTATE; anything else as it came."""
    if error.sqlstate is not None and error.sqlstate.startswith("KH"):
        return DatabaseRefused(error.sqlstate, error.diag.message_primary or "")
    return error
