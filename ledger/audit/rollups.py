"""Rollups, recomputed at every level from the postings and effective days of the journals themselves.

The database sorts and adds up, so that memory stays flat: one query a level, in words that share nothing with
``ledger.roll_up``. Of how far a book is rolled up there is no second copy: all of a span is there, or none of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, LiteralString

from psycopg import AsyncConnection

from ledger.audit.report import Key, Tally

_FIGURES = ("posted_debits", "posted_credits", "pending_debits", "pending_credits", "journals")
_BOUNDS = ("first_seq", "last_seq", "first_day", "last_day")

# Spans of level 0 that some row speaks of, as far as there are journals for them.
_EXTENT: LiteralString = """
SELECT ledger.span_journals(), ledger.span_fan(), least(b.head / ledger.span_journals(), greatest(
         (SELECT max(span) + 1 FROM ledger.rollup_span r WHERE r.book_id = b.book_id AND level = 0),
         (SELECT max(span) + 1 FROM ledger.rollup r WHERE r.book_id = b.book_id AND level = 0), 0)),
       ARRAY(SELECT level FROM ledger.rollup_span r WHERE r.book_id = b.book_id
             UNION SELECT level FROM ledger.rollup r WHERE r.book_id = b.book_id),
       (SELECT count(*) FROM ledger.rollup_span r WHERE r.book_id = b.book_id)
       + (SELECT count(*) FROM ledger.rollup r WHERE r.book_id = b.book_id)
  FROM ledger.book b WHERE b.book_id = %(book)s"""

_SPANS: LiteralString = """
WITH stored AS (
  SELECT *, row_number() OVER (PARTITION BY span) AS copy
    FROM ledger.rollup_span WHERE book_id = %(book)s AND level = %(level)s
), recomputed AS (
  SELECT (seq - 1) / %(size)s AS span, 1::bigint AS copy, (seq - 1) / %(size)s * %(size)s + 1 AS first_seq,
         ((seq - 1) / %(size)s + 1) * %(size)s AS last_seq, min((effective_at AT TIME ZONE 'UTC')::date) AS first_day,
         max((effective_at AT TIME ZONE 'UTC')::date) AS last_day
    FROM ledger.journal WHERE book_id = %(book)s AND seq BETWEEN 1 AND %(last)s GROUP BY (seq - 1) / %(size)s)
SELECT span, copy, s.book_id IS NOT NULL AS there, r.first_seq IS NOT NULL AS due,
       s.first_seq, s.last_seq, s.first_day::text, s.last_day::text,
       r.first_seq, r.last_seq, r.first_day::text, r.last_day::text
  FROM stored s FULL JOIN recomputed r USING (span, copy)
 WHERE (s.first_seq, s.last_seq, s.first_day, s.last_day)
       IS DISTINCT FROM (r.first_seq, r.last_seq, r.first_day, r.last_day)
 ORDER BY span, copy"""

_ROLLUPS: LiteralString = """
WITH stored AS (
  SELECT *, row_number() OVER (PARTITION BY span, account_id, day) AS copy
    FROM ledger.rollup WHERE book_id = %(book)s AND level = %(level)s
), side AS (
  SELECT (p.journal_seq - 1) / %(size)s AS span, s.account_id, (j.effective_at AT TIME ZONE 'UTC')::date AS day,
         s.debit, p.layer, p.amount, (p.journal_seq - 1) %% %(size)s AS place
    FROM ledger.posting p JOIN ledger.journal j ON j.book_id = p.book_id AND j.seq = p.journal_seq,
         LATERAL (VALUES (p.debit_account, true), (p.credit_account, false)) AS s(account_id, debit)
   WHERE p.book_id = %(book)s AND p.journal_seq BETWEEN 1 AND %(last)s
), added AS (
  SELECT span, account_id, day, coalesce(sum(amount) FILTER (WHERE debit AND layer = 0), 0) AS posted_debit,
         coalesce(sum(amount) FILTER (WHERE NOT debit AND layer = 0), 0) AS posted_credit,
         coalesce(sum(amount) FILTER (WHERE debit AND layer = 1), 0) AS pending_debit,
         coalesce(sum(amount) FILTER (WHERE NOT debit AND layer = 1), 0) AS pending_credit,
         CASE WHEN %(level)s = 0
              THEN string_agg(DISTINCT decode(lpad(to_hex(place), 2, '0'), 'hex'), '') END AS journals
    FROM side GROUP BY span, account_id, day
), recomputed AS (
  SELECT span, account_id, day, 1::bigint AS copy, sum(posted_debit) OVER w AS posted_debits,
         sum(posted_credit) OVER w AS posted_credits, sum(pending_debit) OVER w AS pending_debits,
         sum(pending_credit) OVER w AS pending_credits, journals
    FROM added WINDOW w AS (PARTITION BY span, account_id ORDER BY day))
SELECT span, account_id, day::text, copy, s.book_id IS NOT NULL AS there, r.posted_debits IS NOT NULL AS due,
       s.posted_debits, s.posted_credits, s.pending_debits, s.pending_credits, s.journals,
       r.posted_debits, r.posted_credits, r.pending_debits, r.pending_credits, r.journals
  FROM stored s FULL JOIN recomputed r USING (span, account_id, day, copy)
 WHERE (s.posted_debits, s.posted_credits, s.pending_debits, s.pending_credits, s.journals)
       IS DISTINCT FROM (r.posted_debits, r.posted_credits, r.pending_debits, r.pending_credits, r.journals)
 ORDER BY span, account_id, day, copy"""


async def check_rollups(conn: AsyncConnection[Any], book_id: int, tally: Tally) -> None:
    """Every span that the book is rolled up by, at each level, once and with a row for each account and day."""
    cursor = await conn.execute(_EXTENT, {"book": book_id})
    row = await cursor.fetchone()
    if row is None:
        return
    journals, fan, complete, stored_levels, tally.rows = row
    for level, size in _levels(journals, fan, complete, stored_levels):
        given = {"book": book_id, "level": level, "size": size, "last": complete * journals // size * size}
        for span, copy, there, due, *values in await (await conn.execute(_SPANS, given)).fetchall():
            key: Key = {"book_id": book_id, "level": level, "span": span}
            _name(tally, "rollup_span", key, _fault(copy, there, due), _BOUNDS, values)
        cursor = await conn.execute(_ROLLUPS, given)
        for span, account_id, day, copy, there, due, *values in await cursor.fetchall():
            key = {"book_id": book_id, "level": level, "span": span, "account_id": account_id, "day": day}
            _name(tally, "rollup", key, _fault(copy, there, due), _FIGURES, values)


def _levels(journals: int, fan: int, complete: int, stored: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Each level that has spans or rows, with its span's size; of one that must have none it does not matter."""
    level, size = 0, journals
    while size <= complete * journals:
        yield level, size
        level, size = level + 1, size * fan
    for other in sorted(stored):
        if not 0 <= other < level:
            yield other, max(complete * journals + 1, 1)


def _fault(copy: int, there: bool, due: bool) -> tuple[str, str] | None:
    """What is wrong with the row as a whole: stored, recomputed."""
    if there and due:
        return None
    if not there:
        return "missing", "there"
    return ("there twice", "there once") if copy > 1 else ("there", "missing")


def _name(
    tally: Tally,
    table: str,
    key: Key,
    fault: tuple[str, str] | None,
    fields: Sequence[str],
    values: Sequence[Any],
) -> None:
    if fault is not None:
        tally.find(table, key, "row", *fault)
        return
    stored, recomputed = values[: len(fields)], values[len(fields) :]
    for name, value, right in zip(fields, stored, recomputed, strict=True):
        if value != right:
            tally.find(table, key, name, value, right)
