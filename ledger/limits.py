"""Velocity limits: how much, or how often, an account may be debited or credited within one calendar window.

Set and changed by recorded facts; enforced by ``decide`` and again by the insert of journals (ADR 6). Nothing here
commits.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import class_row

from ledger.books import account_number, refused
from ledger.errors import AccountClosed, AccountUnknown, LimitFixed
from ledger.model import check, check_word

MAX_LIMIT = 2**62


class Side(StrEnum):
    DEBIT = "debit"
    CREDIT = "credit"


class Measure(StrEnum):
    """``SUM`` of amounts in minor units, or ``COUNT`` of lines."""

    SUM = "sum"
    COUNT = "count"


class Window(StrEnum):
    """Of the calendar in UTC; a week begins on Monday."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class LimitTerms:
    """At most ``maximum`` of gross posted debits or credits in one window of the time of recording.

    ``side``, ``measure`` and ``window`` stay what they are under one ``name``; ``maximum`` and ``active`` may change.
    """

    name: str
    side: Side
    measure: Measure
    maximum: int
    window: Window
    active: bool = True

    def __post_init__(self) -> None:
        check_word(self.name, "name")
        check(type(self.maximum) is int, "maximum", "an integer")
        check(0 <= self.maximum <= MAX_LIMIT, "maximum", f"not between 0 and {MAX_LIMIT}")


@dataclass(frozen=True, slots=True)
class LimitFact:
    """What somebody set: in force for the journals after ``after_seq``, until the next fact of that name."""

    name: str
    fact: int
    side: Side
    measure: Measure
    maximum: int
    window: Window
    active: bool
    reason: str
    person: str
    recorded_at: datetime
    after_seq: int


@dataclass(frozen=True, slots=True)
class LimitUse:
    """An active limit, and what has been used of the window that began at ``window_start``."""

    name: str
    side: Side
    measure: Measure
    maximum: int
    window: Window
    window_start: datetime
    used: int

    @property
    def left(self) -> int:
        """Nothing is left where the maximum was lowered below what had been used."""
        return max(self.maximum - self.used, 0)


async def set_limit(
    conn: AsyncConnection[Any],
    book_id: int,
    path: str,
    currency: str,
    terms: LimitTerms,
    *,
    now: datetime,
    reason: str,
    person: str,
) -> None:
    """Record a limit, or a change of one. It counts from the next journal on, for as long as it is active.

    Raises ``AccountUnknown``, ``AccountClosed``, ``LimitFixed`` when a limit of that name bounds something else, and
    ``DatabaseRefused`` (KH025) without a reason or a person.
    """
    account = await account_number(conn, book_id, path, currency)
    if account is None:
        raise AccountUnknown(path, currency)
    columns = (terms.name, terms.side, terms.measure, terms.maximum, terms.window, terms.active)
    try:
        await conn.execute(
            "SELECT ledger.set_limit(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [book_id, account, *columns, reason, person, now],
        )
    except psycopg.DatabaseError as error:
        if error.sqlstate == "KH012":
            raise AccountClosed(path) from error
        if error.sqlstate == "KH021":
            raise LimitFixed(path, currency, terms.name) from error
        raise refused(error) from error


_HISTORY = """
SELECT name, fact, side, measure, maximum, window_size AS window, active, reason, person, recorded_at, after_seq
  FROM ledger.limit_fact WHERE book_id = %(book)s AND account_id = %(account)s AND name = coalesce(%(name)s, name)
 ORDER BY name, fact"""


async def limit_history(
    conn: AsyncConnection[Any],
    book_id: int,
    path: str,
    currency: str,
    *,
    name: str | None = None,
    owner: str | None = None,
) -> list[LimitFact] | None:
    """Every fact of the account's limits (of one ``name``), in order; None without such an account of ``owner``."""
    account = await account_number(conn, book_id, path, currency, owner=owner)
    if account is None:
        return None
    async with conn.cursor(row_factory=class_row(LimitFact)) as cursor:
        await cursor.execute(_HISTORY, {"book": book_id, "account": account, "name": name})
        return await cursor.fetchall()


_IN_FORCE = """
SELECT l.name, l.side, l.measure, l.maximum, f.window_size AS window, l.window_start, coalesce(u.used, 0) AS used
  FROM ledger.book b
 CROSS JOIN LATERAL ledger.limits_in_force(b.book_id, ARRAY[%(account)s::int], greatest(b.recorded_at, %(now)s)) l
  JOIN ledger.limit_fact f ON f.book_id = %(book)s AND f.account_id = l.account_id AND f.name = l.name AND f.fact = 1
  LEFT JOIN ledger.limit_use u ON u.book_id = %(book)s AND u.account_id = l.account_id AND u.name = l.name
                              AND u.window_start = l.window_start
 WHERE b.book_id = %(book)s ORDER BY l.name"""


async def limits_in_force(
    conn: AsyncConnection[Any],
    book_id: int,
    path: str,
    currency: str,
    *,
    now: datetime,
    owner: str | None = None,
) -> list[LimitUse] | None:
    """The account's active limits, by name, and the windows that a journal would fall in ``now``; None without such
    an account of ``owner``."""
    account = await account_number(conn, book_id, path, currency, owner=owner)
    if account is None:
        return None
    async with conn.cursor(row_factory=class_row(LimitUse)) as cursor:
        await cursor.execute(_IN_FORCE, {"book": book_id, "account": account, "now": now})
        return await cursor.fetchall()
