"""Reading the books: balances, statements, one journal, holds, the trial balance (many journals: ``ledger.search``).

Reads take no lock and block nobody. Pages are by key, never by offset. Amounts are minor units; balances are signed
by the account's normal side.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, Self
from uuid import UUID

import orjson
from psycopg import AsyncConnection
from psycopg.rows import class_row, scalar_row

from ledger.errors import InvalidEntry, JournalUnreadable
from ledger.model import TYPE_BY_ROOT, AccountType


@dataclass(frozen=True, slots=True)
class Balance:
    """``available`` = posted − pending_out; what is pending inward never counts as available."""

    path: str
    currency: str
    posted: int
    pending_in: int
    pending_out: int
    floor: int | None
    status: str
    owner: str | None
    seq: int

    @property
    def type(self) -> AccountType:
        return TYPE_BY_ROOT[self.path.split(":", 1)[0]]

    @property
    def available(self) -> int:
        return self.posted - self.pending_out


_BALANCES = """
SELECT a.path, a.currency, a.owner, b.floor, b.status, b.seq,
       CASE WHEN a.debit_normal THEN posted_debits - posted_credits ELSE posted_credits - posted_debits END AS posted,
       CASE WHEN a.debit_normal THEN pending_debits ELSE pending_credits END AS pending_in,
       CASE WHEN a.debit_normal THEN pending_credits ELSE pending_debits END AS pending_out
  FROM ledger.account a JOIN ledger.balance b USING (book_id, account_id)
 WHERE a.book_id = %(book)s"""


async def balances(
    conn: AsyncConnection[Any],
    book_id: int,
    *,
    prefix: str | None = None,
    owner: str | None = None,
    after: tuple[str, str] = ("", ""),
    limit: int | None = None,
) -> list[Balance]:
    """Balances by path and currency; only those at or below ``prefix``, only ``owner``'s. Of a page: up to ``limit``
    ones after a path and currency."""
    sql = _BALANCES + " AND (a.path, a.currency) > (%(path)s, %(currency)s)"
    if owner is not None:
        sql += " AND a.owner = %(owner)s"
    if prefix is not None:
        # ';' follows ':' in ASCII: this range is exactly the paths below the prefix, by index.
        sql += " AND (a.path = %(prefix)s OR (a.path >= %(prefix)s || ':' AND a.path < %(prefix)s || ';'))"
    given = {"book": book_id, "owner": owner, "prefix": prefix, "path": after[0], "currency": after[1]}
    async with conn.cursor(row_factory=class_row(Balance)) as cursor:
        await cursor.execute(sql + " ORDER BY a.path, a.currency LIMIT %(limit)s", given | {"limit": limit})
        return await cursor.fetchall()


async def balance(
    conn: AsyncConnection[Any], book_id: int, path: str, currency: str, *, owner: str | None = None
) -> Balance | None:
    """One account's balance; None when there is no such account, or it is not ``owner``'s."""
    sql = _BALANCES + " AND a.path = %(path)s AND a.currency = %(currency)s"
    sql += "" if owner is None else " AND a.owner = %(owner)s"
    async with conn.cursor(row_factory=class_row(Balance)) as cursor:
        await cursor.execute(sql, {"book": book_id, "path": path, "currency": currency, "owner": owner})
        return await cursor.fetchone()


# Of each owner (book, public id), in each currency: [index of the owner, currency, [[index of the path, posted,
# available], …]], as one JSON array in no order. In a path, * stands for the owner; only its accounts are found.
# Amounts are signed by the account's normal side. Each look-up is by key, however many the planner expects:
# sub-selects with OFFSET are not joined.
FIGURES = """
SELECT coalesce(json_agg(json_build_array(owner, currency, figures)), '[]') FROM (
  SELECT w.n - 1 AS owner, a.currency, json_agg(json_build_array(p.n - 1,
           CASE WHEN b.debit_normal THEN posted_debits - posted_credits ELSE posted_credits - posted_debits END,
           CASE WHEN b.debit_normal THEN posted_debits - posted_credits - pending_credits
                ELSE posted_credits - posted_debits - pending_debits END)) AS figures
    FROM unnest(string_to_array($1, E'\n')::int[], string_to_array($2, E'\n')) WITH ORDINALITY AS w (book_id, owner, n)
   CROSS JOIN unnest(string_to_array($3, E'\n')) WITH ORDINALITY AS p (path, n)
   CROSS JOIN LATERAL (SELECT * FROM ledger.account x
                        WHERE x.book_id = w.book_id AND x.owner = w.owner AND x.path = replace(p.path, '*', w.owner)
                       OFFSET 0) AS a
   CROSS JOIN LATERAL (SELECT * FROM ledger.balance x
                        WHERE x.book_id = a.book_id AND x.account_id = a.account_id OFFSET 0) AS b
   GROUP BY w.n, a.currency) AS found"""


async def owned(
    conn: AsyncConnection[Any], book_id: int, paths: Collection[str], owner: str
) -> frozenset[str]:
    """Those of ``paths`` that are accounts of ``owner``."""
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            "SELECT path FROM ledger.account WHERE book_id = %s AND path = ANY (%s) AND owner = %s",
            [book_id, list(paths), owner],
        )
        return frozenset(await cursor.fetchall())


@dataclass(frozen=True, slots=True)
class StatementLine:
    """One line of an account: ``amount`` is signed by the normal side, the balances are those after it."""

    seq: int
    journal_seq: int
    journal_id: UUID
    kind: str
    effective_at: datetime
    recorded_at: datetime
    layer: str
    amount: int
    posted: int
    available: int
    incoming: int
    counter_account: str
    description: str
    metadata: Mapping[str, str]


class Position(NamedTuple):
    """Where a line stands in its book: its journal's number and its own. As text, a page's cursor."""

    journal_seq: int
    line: int

    def __str__(self) -> str:
        return f"{self.journal_seq}.{self.line}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ``InvalidEntry`` for what no page has ever given."""
        seq, _, line = text.partition(".")
        if _is_number(seq, 2**63) and _is_number(line, 2**15):
            return cls(int(seq), int(line))
        raise InvalidEntry("cursor", "not a cursor of a statement")


def _is_number(text: str, below: int) -> bool:
    return text.isascii() and text.isdigit() and text == text.lstrip("0") and int(text) < below


# A cursor before which the newest lines are.
END = str(Position(2**63 - 1, 1))


@dataclass(frozen=True, slots=True)
class Statement:
    """A page of an account's lines, oldest first; ``opening`` and ``closing`` are the posted balances around them.

    ``previous`` and ``next``: the ``before`` and the ``after`` of the pages beside it, None where there is none.
    """

    path: str
    currency: str
    opening: int
    closing: int
    lines: tuple[StatementLine, ...]
    previous: str | None
    next: str | None


# The account as a value: joined, its lines would all be read and sorted before the first of them is known.
_STATEMENT = """
WITH account AS MATERIALIZED (
  SELECT account_id, debit_normal FROM ledger.account
   WHERE book_id = %(book)s AND path = %(path)s AND currency = %(currency)s
     AND (%(owner)s::text IS NULL OR owner = %(owner)s)
), found AS (
  (SELECT p.debit_seq AS seq, p.journal_seq, p.line, p.layer,
          CASE WHEN a.debit_normal THEN amount ELSE -amount END AS amount,
          p.debit_posted AS posted, p.debit_available AS available, p.debit_incoming AS incoming,
          p.credit_account AS counter
     FROM account a CROSS JOIN ledger.posting p
    WHERE p.book_id = %(book)s AND p.debit_account = (SELECT account_id FROM account)
      AND (p.journal_seq, p.line) {beyond} (%(seq)s, %(line)s)
    ORDER BY p.journal_seq {order}, p.line {order} LIMIT %(limit)s)
  UNION ALL
  (SELECT p.credit_seq, p.journal_seq, p.line, p.layer, CASE WHEN a.debit_normal THEN -amount ELSE amount END,
          p.credit_posted, p.credit_available, p.credit_incoming, p.debit_account
     FROM account a CROSS JOIN ledger.posting p
    WHERE p.book_id = %(book)s AND p.credit_account = (SELECT account_id FROM account)
      AND (p.journal_seq, p.line) {beyond} (%(seq)s, %(line)s)
    ORDER BY p.journal_seq {order}, p.line {order} LIMIT %(limit)s)
  ORDER BY journal_seq {order}, line {order} LIMIT %(limit)s)
SELECT f.seq, f.journal_seq, j.id, j.kind, j.effective_at, j.recorded_at, f.layer, f.amount,
       f.posted, f.available, f.incoming, c.path, j.canonical, f.line
  FROM found f
  JOIN ledger.journal j ON j.book_id = %(book)s AND j.seq = f.journal_seq
  JOIN ledger.account c ON c.book_id = %(book)s AND c.account_id = f.counter
 ORDER BY f.journal_seq, f.line"""
_FORWARD = _STATEMENT.format(beyond=">", order="ASC")
_BACKWARD = _STATEMENT.format(beyond="<", order="DESC")


async def statement(
    conn: AsyncConnection[Any],
    book_id: int,
    path: str,
    currency: str,
    *,
    after: str | None = None,
    before: str | None = None,
    limit: int = 100,
    owner: str | None = None,
) -> Statement | None:
    """Up to ``limit`` lines of an account: the first after a cursor, or (``before``) the last before one.

    None when there is no such account, or it is not ``owner``'s. Raises ``InvalidEntry`` for a cursor that is none.
    """
    wish = before or after
    at = Position.parse(wish) if wish else Position(0, 0)
    now = await balance(conn, book_id, path, currency, owner=owner)
    if now is None:
        return None
    given = {"book": book_id, "path": path, "currency": currency, "owner": owner, "limit": limit}
    given |= {"seq": at.journal_seq, "line": at.line}
    rows = await (await conn.execute(_BACKWARD if before else _FORWARD, given)).fetchall()
    lines = tuple(_statement_line(row) for row in rows)
    if not lines:
        return Statement(path, currency, now.posted, now.posted, lines, None, None)
    first, last = lines[0], lines[-1]
    opening = first.posted - (first.amount if first.layer == "posted" else 0)
    earlier = str(Position(first.journal_seq, rows[0][13])) if first.seq > 1 else None
    later = str(Position(last.journal_seq, rows[-1][13])) if last.seq < now.seq else None
    return Statement(path, currency, opening, last.posted, lines, earlier, later)


def _statement_line(row: tuple[Any, ...]) -> StatementLine:
    (
        seq,
        journal_seq,
        journal_id,
        kind,
        effective_at,
        recorded_at,
        layer,
        amount,
        posted,
        available,
        incoming,
    ) = row[:11]
    said = orjson.loads(row[12])
    return StatementLine(
        *(seq, journal_seq, journal_id, kind, effective_at, recorded_at),
        *("pending" if layer else "posted", amount, posted, available, incoming, row[11]),
        *(said["description"], said["metadata"]),
    )


@dataclass(frozen=True, slots=True)
class PostingView:
    """``amount`` is negative where a hold is given back; ``hold`` names what a line does to one."""

    debit: str
    credit: str
    amount: int
    currency: str
    layer: str
    hold: str | None


@dataclass(frozen=True, slots=True)
class JournalView:
    """A journal as it stands; ``source`` is type/id/event, ``leaf_hash`` the hash of its canonical line."""

    seq: int
    id: UUID
    kind: str
    source: str
    effective_at: datetime
    recorded_at: datetime
    reverses: int | None
    leaf_hash: bytes
    description: str
    metadata: Mapping[str, str]
    postings: tuple[PostingView, ...]


# To be followed by further conditions; its rows are for ``journal_view``.
JOURNAL = """
SELECT j.seq, j.id, j.kind, j.source_type || '/' || j.source_id || '/' || j.source_event,
       j.effective_at, j.recorded_at, j.reverses, j.leaf_hash, j.canonical
  FROM ledger.journal j
 WHERE j.book_id = %(book)s"""


async def journal_by_id(
    conn: AsyncConnection[Any], book_id: int, journal_id: UUID, *, owner: str | None = None
) -> JournalView | None:
    """One journal; None when there is none of that id, or it touches no account of ``owner``."""
    sql = JOURNAL + " AND j.id = %(id)s"
    if owner is not None:
        sql += """ AND EXISTS (
          SELECT FROM ledger.posting p JOIN ledger.account a ON a.book_id = p.book_id
             AND a.account_id IN (p.debit_account, p.credit_account)
           WHERE p.book_id = j.book_id AND p.journal_seq = j.seq AND a.owner = %(owner)s)"""
    row = await (await conn.execute(sql, {"book": book_id, "id": journal_id, "owner": owner})).fetchone()
    return None if row is None else journal_view(row)


def journal_view(row: tuple[Any, ...]) -> JournalView:
    """Raises ``JournalUnreadable``."""
    try:
        return _journal_view(row)
    except (KeyError, TypeError, AttributeError, ValueError):
        raise JournalUnreadable(row[0]) from None


def _journal_view(row: tuple[Any, ...]) -> JournalView:
    said = orjson.loads(row[8])
    postings = tuple(
        PostingView(p["debit"], p["credit"], int(p["amount"]), p["currency"], p["layer"], p.get("hold"))
        for p in said["postings"]
    )
    seq, id_, kind, source, effective_at, recorded_at, reverses, leaf_hash = row[:8]
    return JournalView(
        *(seq, id_, kind, source, effective_at, recorded_at, reverses, leaf_hash),
        *(said["description"], said["metadata"], postings),
    )


@dataclass(frozen=True, slots=True)
class HoldView:
    """A hold's terms and what became of it, minor units. It has ended when nothing remains."""

    hold_id: UUID
    debit: str
    credit: str
    currency: str
    tolerance_bps: int
    expires_at: datetime | None
    held: int
    consumed: int
    captured: int
    released: int
    expired: int

    @property
    def remaining(self) -> int:
        return self.held - self.consumed - self.released - self.expired

    @property
    def ended(self) -> bool:
        return self.remaining == 0


_HOLD = """
SELECT h.hold_id, d.path AS debit, c.path AS credit, d.currency, h.tolerance_bps, h.expires_at,
       h.held, h.consumed, h.captured, h.released, h.expired
  FROM ledger.hold h
  JOIN ledger.account d ON d.book_id = h.book_id AND d.account_id = h.debit_account
  JOIN ledger.account c ON c.book_id = h.book_id AND c.account_id = h.credit_account
 WHERE h.book_id = %(book)s AND h.hold_id = %(hold)s
   AND (%(owner)s::text IS NULL OR (d.owner = %(owner)s AND c.owner = %(owner)s))"""


async def hold(
    conn: AsyncConnection[Any], book_id: int, hold_id: UUID, *, owner: str | None = None
) -> HoldView | None:
    """One hold; None when there is none, or its accounts are not both ``owner``'s."""
    async with conn.cursor(row_factory=class_row(HoldView)) as cursor:
        await cursor.execute(_HOLD, {"book": book_id, "hold": hold_id, "owner": owner})
        return await cursor.fetchone()


async def expired_holds(
    conn: AsyncConnection[Any], book_id: int, *, now: datetime, limit: int = 100
) -> list[UUID]:
    """Holds whose time has passed with something left, the oldest first."""
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            "SELECT hold_id FROM ledger.hold WHERE book_id = %s AND expires_at <= %s"
            " AND consumed + released + expired < held ORDER BY expires_at LIMIT %s",
            [book_id, now, limit],
        )
        return await cursor.fetchall()


@dataclass(frozen=True, slots=True)
class TrialBalanceRow:
    """An account's posted balance on the side it falls; the other side is 0."""

    path: str
    currency: str
    debit: int
    credit: int


async def trial_balance(conn: AsyncConnection[Any], book_id: int) -> list[TrialBalanceRow]:
    """Every account that ever had a line; per currency the debits equal the credits."""
    sql = """
    SELECT a.path, a.currency, greatest(posted_debits - posted_credits, 0) AS debit,
           greatest(posted_credits - posted_debits, 0) AS credit
      FROM ledger.account a JOIN ledger.balance b USING (book_id, account_id)
     WHERE a.book_id = %s AND b.seq > 0 ORDER BY a.currency, a.path"""
    async with conn.cursor(row_factory=class_row(TrialBalanceRow)) as cursor:
        await cursor.execute(sql, [book_id])
        return await cursor.fetchall()
