"""Closing and reopening periods. Nothing here commits.

One person closes days that are over; from then on no journal counts in them. Two people reopen them. Each close keeps
the hash of the trial balance it left behind, which anybody can compute again later (``trial_balance_hash``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

import orjson
from psycopg import AsyncConnection
from psycopg.rows import class_row

from ledger.acts import By
from ledger.as_of import AsOf, trial_balance
from ledger.errors import (
    InvalidEntry,
    PeriodAlreadyClosed,
    PeriodNotClosed,
    PeriodNotOver,
    ReopeningOutdated,
)
from ledger.proposals import Kind, Proposal, call, decide, find, found, lock_book, propose, to_decide
from ledger.read import TrialBalanceRow

FIRST_DAY = date(1900, 1, 1)  # of the ledger's calendar, as its columns check it


@dataclass(frozen=True, slots=True)
class PeriodFact:
    """``action``: close or reopen; ``through``: the last closed day from then on, None: no day is closed.

    ``head``: the last journal before it. ``trial_balance_hash``: a close's. ``proposal_id``: a reopening's.
    """

    fact: int
    action: str
    through: date | None
    head: int
    trial_balance_hash: bytes | None
    proposal_id: UUID | None
    person: str
    reason: str
    recorded_at: datetime


_FACTS = """
SELECT fact, action, through, head, trial_balance_hash, proposal_id, person, reason, recorded_at
  FROM ledger.period_fact WHERE book_id = %(book)s AND fact < coalesce(%(before)s, 2147483647)
 ORDER BY fact DESC LIMIT %(limit)s"""


async def facts(
    conn: AsyncConnection[Any], book_id: int, *, before: int | None = None, limit: int = 100
) -> list[PeriodFact]:
    """Closes and reopenings, the newest first, numbered below ``before``."""
    async with conn.cursor(row_factory=class_row(PeriodFact)) as cursor:
        await cursor.execute(_FACTS, {"book": book_id, "before": before, "limit": limit})
        return await cursor.fetchall()


def trial_balance_hash(book: str, head: int, through: date, rows: Iterable[TrialBalanceRow]) -> bytes:
    """SHA-256 of lines of RFC 8785 JSON, each ended by a newline: what is closed, then each balance that is not
    zero by account and currency, in byte order."""
    lines: list[dict[str, Any]] = [{"book": book, "head": head, "through": through.isoformat()}]
    lines += [
        {"account": row.path, "credit": str(row.credit), "currency": row.currency, "debit": str(row.debit)}
        for row in sorted(rows, key=lambda row: (row.path, row.currency))
        if row.debit != row.credit
    ]
    return sha256(b"".join(orjson.dumps(line) + b"\n" for line in lines)).digest()


async def close(conn: AsyncConnection[Any], book_id: int, by: By, *, through: date) -> PeriodFact:
    """Close every day up to and including ``through``; the same close again is the one that stands.

    Raises ``PeriodNotOver`` for a day that is not over by the book's clock, ``InvalidEntry`` for one before 1900, and
    ``PeriodAlreadyClosed``: a close never goes back.
    """
    _check_day(through)
    await lock_book(conn, book_id, now=by.now)
    name, head, clock, closed_through = await _book(conn, book_id)
    last = next(iter(await facts(conn, book_id, limit=1)), None)
    said = ("close", through, by.person, by.reason)
    if last is not None and (last.action, last.through, last.person, last.reason) == said:
        return last
    if through >= clock.date():
        raise PeriodNotOver(through, clock.date())
    if closed_through is not None and through <= closed_through:
        raise PeriodAlreadyClosed(through, closed_through)
    rows = await trial_balance(conn, book_id, AsOf(effective=through, known=head))
    digest = trial_balance_hash(name, head, through, rows)
    await call(
        conn,
        "SELECT ledger.close_period(%s, %s, %s, %s, %s, %s, %s)",
        [book_id, through, digest, head, by.person, by.reason, by.now],
    )
    [fact] = await facts(conn, book_id, limit=1)
    return fact


async def propose_reopening(
    conn: AsyncConnection[Any],
    book_id: int,
    proposal_id: UUID,
    by: By,
    *,
    through: date | None,
) -> Proposal:
    """Propose that the book be closed through ``through`` only (None: not at all).

    Raises as ``proposals.propose``, ``PeriodNotClosed``, and ``InvalidEntry`` for a day before 1900.
    """
    if through is not None:
        _check_day(through)
    await lock_book(conn, book_id, now=by.now)
    known = await find(conn, book_id, Kind.REOPENING, proposal_id)
    if known is None:
        _, _, _, closed_through = await _book(conn, book_id)
        if closed_through is None or (through is not None and through >= closed_through):
            raise PeriodNotClosed(through, closed_through)
        content = _reopening(closed_through, through)
    else:  # a replay must say the same again, whatever has become of the book since
        content = {**known.content, "through": None if through is None else through.isoformat()}
    return await propose(conn, book_id, Kind.REOPENING, proposal_id, content, by)


def _check_day(through: date) -> None:
    if through < FIRST_DAY:
        raise InvalidEntry("through", f"before {FIRST_DAY}")


def _reopening(closed_through: date, through: date | None) -> dict[str, Any]:
    return {
        "closed_through": closed_through.isoformat(),
        "through": None if through is None else through.isoformat(),
    }


async def approve_reopening(
    conn: AsyncConnection[Any],
    book_id: int,
    proposal_id: UUID,
    by: By,
) -> Proposal:
    """Approve and reopen; the same approval again changes nothing.

    Raises as ``proposals.to_decide``, and ``ReopeningOutdated`` when the book was closed or reopened since.
    """
    proposal = await to_decide(conn, book_id, Kind.REOPENING, proposal_id, by, approved=True)
    if proposal.verdict is None:
        _, _, _, closed_through = await _book(conn, book_id)
        proposed_from = date.fromisoformat(proposal.content["closed_through"])
        if closed_through != proposed_from:
            raise ReopeningOutdated(proposed_from, closed_through)
        await decide(conn, book_id, proposal, by, approved=True)
    return await found(conn, book_id, Kind.REOPENING, proposal_id)


async def _book(conn: AsyncConnection[Any], book_id: int) -> tuple[str, int, datetime, date | None]:
    cursor = await conn.execute(
        "SELECT name, head, recorded_at, closed_through FROM ledger.book WHERE book_id = %s", [book_id]
    )
    row = await cursor.fetchone()
    assert row is not None  # its lock is held
    return row[0], row[1], row[2].astimezone(UTC), row[3]
