"""An account's statement by effective day: what counted when, whenever it was recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, LiteralString, Self
from uuid import UUID

import orjson
from psycopg import AsyncConnection

from ledger.as_of.axes import KNOWN, fetch, known_params
from ledger.errors import InvalidEntry


@dataclass(frozen=True, slots=True)
class DayPosition:
    """Where a line stands by effective day: its day, its journal's number, its own. As text, a page's cursor."""

    day: date
    journal_seq: int
    line: int

    def __str__(self) -> str:
        return f"{self.day}.{self.journal_seq}.{self.line}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ``InvalidEntry`` for what no page has ever given."""
        try:
            day, seq, line = text.split(".")
            found = cls(date.fromisoformat(day), int(seq), int(line))
        except ValueError:
            raise InvalidEntry("after", "not a cursor of a statement") from None
        if str(found) != text or not (0 < found.journal_seq < 2**63 and 0 < found.line < 2**15):
            raise InvalidEntry("after", "not a cursor of a statement")
        return found


@dataclass(frozen=True, slots=True)
class EffectiveLine:
    """One line: ``amount`` is signed by the normal side; ``posted`` is the balance after it in this order."""

    seq: int
    journal_seq: int
    line: int
    journal_id: UUID
    kind: str
    effective_at: datetime
    recorded_at: datetime
    layer: str
    amount: int
    posted: int
    counter_account: str
    description: str
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class EffectiveStatement:
    """An account's lines of the days ``first`` to ``last`` as known at journal ``known``: by day, then as recorded.

    ``opening`` and ``closing`` are the posted balances before the first of ``lines`` and after the last; ``next``
    is the ``after`` of the following page, None at the end.
    """

    path: str
    currency: str
    first: date
    last: date
    known: int
    opening: int
    closing: int
    lines: tuple[EffectiveLine, ...]
    next: str | None


# What stands before a page: the days before, and of the page's first day what was recorded up to its cursor (all of
# the cursor's journal, less those of its lines that come after the cursor).
_STATEMENT: LiteralString = """
WITH asked AS MATERIALIZED (
  SELECT account_id, debit_normal, {known} AS known FROM ledger.account
   WHERE book_id = %(book)s AND path = %(path)s AND currency = %(currency)s
     AND (%(owner)s::text IS NULL OR owner = %(owner)s)
), before AS (
  SELECT 1 AS times, coalesce(%(day)s, %(first)s::date) - 1 AS through, known FROM asked
  UNION ALL SELECT 1, %(day)s::date, least(%(after)s::bigint, known) FROM asked WHERE %(day)s IS NOT NULL
  UNION ALL SELECT -1, %(day)s::date - 1, least(%(after)s::bigint, known) FROM asked WHERE %(day)s IS NOT NULL
), opening AS (
  SELECT coalesce(sum(b.times * (s.posted_debits - s.posted_credits)), 0)::bigint AS debits
    FROM asked, before b, LATERAL ledger.sums_as_of(%(book)s, ARRAY[asked.account_id], b.through, b.known) s
), passed AS (
  SELECT coalesce(sum(CASE WHEN p.debit_account = account_id THEN amount ELSE -amount END), 0)::bigint AS debits
    FROM asked JOIN ledger.posting p ON p.book_id = %(book)s AND p.journal_seq = %(after)s
   WHERE p.line > %(line)s AND p.layer = 0 AND account_id IN (p.debit_account, p.credit_account)
), cursor AS (
  SELECT %(day)s::date IS NULL OR EXISTS (
           SELECT FROM ledger.posting p JOIN ledger.journal j ON j.book_id = p.book_id AND j.seq = p.journal_seq
            WHERE p.book_id = %(book)s AND p.journal_seq = %(after)s AND p.line = %(line)s AND p.journal_seq <= known
              AND account_id IN (p.debit_account, p.credit_account) AND ledger.day_of(j.effective_at) = %(day)s
         ) AS on_a_line
    FROM asked
)
SELECT a.known, a.debit_normal, (SELECT on_a_line FROM cursor) AS on_a_line,
       (SELECT debits FROM opening) - (SELECT debits FROM passed) AS opening,
       a.account_id = p.debit_account AS debit, e.day, p.journal_seq, p.line, p.debit_seq, p.credit_seq,
       p.amount, p.layer, j.id, j.kind, j.effective_at, j.recorded_at, j.canonical, c.path AS counter
  FROM asked a
  LEFT JOIN LATERAL ledger.effective_lines(%(book)s, a.account_id, %(first)s, %(last)s, a.known,
                                           %(day)s, %(after)s, %(line)s, %(most)s) AS e ON true
  LEFT JOIN ledger.posting p ON p.book_id = %(book)s AND p.journal_seq = e.journal_seq AND p.line = e.line
  LEFT JOIN ledger.journal j ON j.book_id = %(book)s AND j.seq = e.journal_seq
  LEFT JOIN ledger.account c ON c.book_id = %(book)s
   AND c.account_id = CASE WHEN a.account_id = p.debit_account THEN p.credit_account ELSE p.debit_account END
 ORDER BY e.day, p.journal_seq, p.line"""


async def statement(
    conn: AsyncConnection[Any],
    book_id: int,
    path: str,
    currency: str,
    *,
    first: date,
    last: date,
    known: int | datetime | None = None,
    after: str | None = None,
    limit: int = 100,
    owner: str | None = None,
) -> EffectiveStatement | None:
    """Up to ``limit`` lines effective on the days ``first`` to ``last``; None when there is no such account, or it is
    not ``owner``'s. Raises ``InvalidEntry`` for a cursor that is none, or not on a line of this
    statement: of another account or other days, or not known then."""
    at = None if after is None else DayPosition.parse(after)
    if at is not None and not first <= at.day <= last:
        raise InvalidEntry("after", "a cursor of other days")
    given = {
        **{"book": book_id, "path": path, "currency": currency, "owner": owner, "first": first, "last": last},
        **{"day": at and at.day, "after": at and at.journal_seq, "line": at and at.line, "most": limit + 1},
        **known_params(known),
    }
    rows = await fetch(conn, _STATEMENT.format(known=KNOWN), given)
    if not rows:
        return None
    if not rows[0]["on_a_line"]:
        raise InvalidEntry("after", "a cursor of another statement")
    opening = rows[0]["opening"] if rows[0]["debit_normal"] else -rows[0]["opening"]
    lines = _lines([row for row in rows[:limit] if row["id"]], opening)
    closing = lines[-1].posted if lines else opening
    following = str(_position(rows[limit - 1])) if len(rows) > limit else None
    return EffectiveStatement(
        path, currency, first, last, rows[0]["known"], opening, closing, lines, following
    )


def _position(row: Mapping[str, Any]) -> DayPosition:
    return DayPosition(row["day"], row["journal_seq"], row["line"])


def _lines(rows: list[dict[str, Any]], posted: int) -> tuple[EffectiveLine, ...]:
    """``posted``: the balance before the first of them."""
    lines: list[EffectiveLine] = []
    for row in rows:
        amount = row["amount"] if row["debit"] == row["debit_normal"] else -row["amount"]
        posted += 0 if row["layer"] else amount
        lines.append(_line(row, amount, posted))
    return tuple(lines)


def _line(row: Mapping[str, Any], amount: int, posted: int) -> EffectiveLine:
    said = orjson.loads(row["canonical"])
    return EffectiveLine(
        seq=row["debit_seq"] if row["debit"] else row["credit_seq"],
        journal_seq=row["journal_seq"],
        line=row["line"],
        journal_id=row["id"],
        kind=row["kind"],
        effective_at=row["effective_at"],
        recorded_at=row["recorded_at"],
        layer="pending" if row["layer"] else "posted",
        amount=amount,
        posted=posted,
        counter_account=row["counter"],
        description=said["description"],
        metadata=said["metadata"],
    )
