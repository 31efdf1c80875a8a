"""Books and accounts: opened once, changed only by recorded facts. Nothing here commits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from types import EllipsisType
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import class_row

from ledger.errors import AccountClosed, AccountUnknown, DatabaseRefused, FactRefused
from ledger.model import AccountStatus, NewAccount

# Below the floor; closed and not empty (migrations/sql/0001_ledger.sql, the list at ledger.refuse).
FORBIDDEN_BY_BALANCE = ("KH006", "KH017")


async def create_book(conn: AsyncConnection[Any], *, name: str, now: datetime) -> int:
    """The id of the book of that name, made if it is not there. Raises ``DatabaseRefused`` for what is no name."""
    try:
        cursor = await conn.execute("SELECT ledger.create_book(%s, %s)", [name, now])
    except psycopg.DatabaseError as error:
        raise refused(error) from None
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
        raise refused(error) from error


async def change_account(
    conn: AsyncConnection[Any],
    book_id: int,
    path: str,
    currency: str,
    *,
    now: datetime,
    reason: str,
    person: str,
    floor: int | EllipsisType | None = ...,
    status: AccountStatus | None = None,
) -> None:
    """Record a new floor (None: no floor) or status; what is not given stays. ``person``: who changes it.

    Raises ``AccountUnknown``, ``AccountClosed`` (closed is the end), ``FactRefused`` when the floor lies above what is
    available or the account to close is not empty, and ``DatabaseRefused`` (KH025) without a reason or a person.
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
            "SELECT ledger.change_account(%s, %s, %s, %s, %s, %s, %s)",
            [book_id, account_id, new_floor, new_status, reason, person, now],
        )
    except psycopg.DatabaseError as error:
        if error.sqlstate in FORBIDDEN_BY_BALANCE:
            raise FactRefused(path, currency, error.diag.constraint_name or "") from error
        if error.sqlstate == "KH012":
            raise AccountClosed(path) from error
        raise refused(error) from error


async def account_number(
    conn: AsyncConnection[Any], book_id: int, path: str, currency: str, *, owner: str | None = None
) -> int | None:
    """The account's id; None if there is no such account, or it is not ``owner``'s."""
    cursor = await conn.execute(
        "SELECT account_id FROM ledger.account WHERE book_id = %s AND path = %s AND currency = %s"
        " AND (%s::text IS NULL OR owner = %s)",
        [book_id, path, currency, owner, owner],
    )
    row = await cursor.fetchone()
    return None if row is None else row[0]


@dataclass(frozen=True, slots=True)
class AccountFact:
    """What was set: in force for the journals after ``after_seq``, until the next fact. So the floor under which
    journal K was judged is that of the last fact with ``after_seq`` < K.

    ``person``: who set it; None of the fact that opened the account.
    """

    fact: int
    floor: int | None
    status: AccountStatus
    reason: str
    person: str | None
    recorded_at: datetime
    after_seq: int


async def account_history(
    conn: AsyncConnection[Any], book_id: int, path: str, currency: str, *, owner: str | None = None
) -> list[AccountFact] | None:
    """Every fact of the account, in order; None if there is no such account, or it is not ``owner``'s."""
    account = await account_number(conn, book_id, path, currency, owner=owner)
    if account is None:
        return None
    async with conn.cursor(row_factory=class_row(AccountFact)) as cursor:
        await cursor.execute(
            "SELECT fact, floor, status, reason, person, recorded_at, after_seq FROM ledger.account_fact"
            " WHERE book_id = %s AND account_id = %s ORDER BY fact",
            [book_id, account],
        )
        return await cursor.fetchall()


def refused(error: psycopg.DatabaseError) -> Exception:
    """Our own refusals, by SQLSTATE; anything else as it came."""
    if error.sqlstate is not None and error.sqlstate.startswith("KH"):
        return DatabaseRefused(error.sqlstate, error.diag.message_primary or "")
    return error
