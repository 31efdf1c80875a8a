"""The accounts of an export, each with what stood in it before and after the range."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import date
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import class_row

from ledger.export.selection import Chosen

PAGE = 1000


@dataclass(frozen=True, slots=True)
class Standing:
    """One account, its balances in minor units, **debit positive**; ``_pending`` ones are pending debits less credits.

    ``chosen``: one of those asked about. Others are there because a chosen journal names them; what stood in them is
    not told (0). ``held``: a hold was ever on it, so it may have pending lines. ``closed_on``: the UTC day on which it
    was closed, where that was within the range.
    """

    account_id: int
    path: str
    currency: str
    owner: str | None
    opened_on: date
    closed_on: date | None
    held: bool
    chosen: bool
    opening: int
    opening_pending: int
    closing: int
    closing_pending: int


# Accounts that were closed before the range have nothing and take part in nothing: they are not in it.
_STANDINGS = """
WITH page AS MATERIALIZED (
  SELECT a.account_id, a.path, a.currency, a.owner, (a.opened_at AT TIME ZONE 'UTC')::date AS opened_on,
         (c.recorded_at AT TIME ZONE 'UTC')::date AS closed_on,
         a.account_id = ANY(%(held)s::int[]) AS held,
         %(chosen)s::int[] IS NULL OR a.account_id = ANY(%(chosen)s::int[]) AS chosen,
         CASE WHEN a.debit_normal THEN 1 ELSE -1 END AS sign
    FROM ledger.account a
    LEFT JOIN ledger.account_fact c ON c.book_id = a.book_id AND c.account_id = a.account_id
         AND c.status = 'closed' AND c.after_seq <= %(through)s
   WHERE a.book_id = %(book)s AND (a.path, a.currency) > (%(path)s, %(currency)s)
     AND (%(among)s::int[] IS NULL OR a.account_id = ANY(%(among)s::int[]))
     AND (%(next_at)s::timestamptz IS NULL OR a.opened_at <= %(next_at)s)
     AND (c.fact IS NULL OR %(after)s = 0 OR c.after_seq > %(after)s)
   ORDER BY a.path, a.currency LIMIT %(page)s),
ids AS (SELECT array_agg(account_id) AS ids FROM page WHERE chosen)
SELECT page.account_id, path, currency, owner, opened_on, closed_on, held, chosen,
       coalesce(o.posted, 0) * sign AS opening,
       coalesce(o.incoming - o.posted + o.available, 0) * sign AS opening_pending,
       coalesce(c.posted, 0) * sign AS closing,
       coalesce(c.incoming - c.posted + c.available, 0) * sign AS closing_pending
  FROM page
  LEFT JOIN ledger.lines_as_of(%(book)s, (SELECT ids FROM ids), %(after)s) o USING (account_id)
  LEFT JOIN ledger.lines_as_of(%(book)s, (SELECT ids FROM ids), %(through)s) c USING (account_id)
 ORDER BY path, currency"""
_HELD = """
SELECT array_agg(DISTINCT account_id) FROM (
  SELECT debit_account AS account_id FROM ledger.hold WHERE book_id = %(book)s
  UNION SELECT credit_account FROM ledger.hold WHERE book_id = %(book)s) AS held"""
# OFFSET 0: a journal's lines are read by its number, one journal after another, whatever the planner guesses.
_TOUCHED = """
SELECT array_agg(DISTINCT side.account_id) FROM (
  SELECT p.journal_seq FROM ledger.posting p
   WHERE p.book_id = %(book)s AND p.debit_account = ANY(%(chosen)s)
     AND p.journal_seq > %(after)s AND p.journal_seq <= %(through)s
  UNION
  SELECT p.journal_seq FROM ledger.posting p
   WHERE p.book_id = %(book)s AND p.credit_account = ANY(%(chosen)s)
     AND p.journal_seq > %(after)s AND p.journal_seq <= %(through)s) AS j,
  LATERAL (SELECT p.debit_account, p.credit_account FROM ledger.posting p
            WHERE p.book_id = %(book)s AND p.journal_seq = j.journal_seq OFFSET 0) AS line,
  LATERAL (VALUES (line.debit_account), (line.credit_account)) AS side(account_id)"""


@dataclass(frozen=True, slots=True)
class Accounts:
    """The accounts of ``chosen``: read once, gone through as often as a format wants."""

    chosen: Chosen
    among: list[int] | None  # those asked about and those their journals name; None: every account
    held: list[int]

    async def pages(self, conn: AsyncConnection[Any]) -> AsyncGenerator[list[Standing]]:
        """By path and currency, read by key: memory is one page. A path's currencies are on one page."""
        of = self.chosen
        given: dict[str, Any] = {
            "book": of.book_id,
            "after": of.after_seq,
            "through": of.through_seq,
            "page": PAGE,
        }
        given |= {"chosen": of.accounts, "among": self.among, "held": self.held, "next_at": of.next_at}
        last, rest = ("", ""), list[Standing]()
        while True:
            async with conn.cursor(row_factory=class_row(Standing)) as cursor:
                await cursor.execute(_STANDINGS.encode(), given | {"path": last[0], "currency": last[1]})
                read = await cursor.fetchall()
            page = rest + read
            if len(read) < PAGE:
                if page:
                    yield page
                return
            last = (page[-1].path, page[-1].currency)
            rest = [s for s in page if s.path == last[0]]
            if len(rest) < len(page):
                yield page[: -len(rest)]


async def accounts_of(conn: AsyncConnection[Any], chosen: Chosen) -> Accounts:
    given = {"book": chosen.book_id, "chosen": chosen.accounts}
    given |= {"after": chosen.after_seq, "through": chosen.through_seq}
    held = await _numbers(conn, _HELD, given)
    if chosen.accounts is None:
        return Accounts(chosen, None, held)
    touched = await _numbers(conn, _TOUCHED, given)
    return Accounts(chosen, sorted({*chosen.accounts, *touched}), held)


async def _numbers(conn: AsyncConnection[Any], sql: str, given: dict[str, Any]) -> list[int]:
    row = await (await conn.execute(sql.encode(), given)).fetchone()
    return row[0] if row is not None and row[0] is not None else []
