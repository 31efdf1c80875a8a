"""As reported against as restated: what journals recorded after a report changed of the days it covers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, LiteralString
from uuid import UUID

import orjson
from psycopg import AsyncConnection

from ledger.as_of.axes import KNOWN, fetch, known_params
from ledger.as_of.balances import BalanceAsOf


@dataclass(frozen=True, slots=True)
class LateJournal:
    """A journal recorded after a report of days that it counts in."""

    seq: int
    id: UUID
    kind: str
    effective_at: datetime
    recorded_at: datetime
    description: str


@dataclass(frozen=True, slots=True)
class RestatedBalance:
    """An account whose balance is another one now: ``reported`` then, ``restated`` now."""

    path: str
    currency: str
    reported: BalanceAsOf
    restated: BalanceAsOf


@dataclass(frozen=True, slots=True)
class Restatement:
    """What the journals ``then`` < seq <= ``now`` changed of the days up to ``effective``: every changed balance, and
    a page of the journals that did it. ``next``: the ``after`` of the following page, None at the end."""

    effective: date
    then: int
    now: int
    changed: tuple[RestatedBalance, ...]
    late: tuple[LateJournal, ...]
    next: int | None


_RANGE: LiteralString = """
SELECT ledger.known(%(book)s, %(then_seq)s, %(then_instant)s) AS then, {known} AS now"""
_LATE: LiteralString = """
SELECT j.seq, j.id, j.kind, j.effective_at, j.recorded_at, j.canonical
  FROM ledger.late_journals(%(book)s, %(day)s, greatest(%(then)s, %(after)s::bigint) + 1, %(now)s, %(most)s)
       AS late(seq)
  JOIN ledger.journal j ON j.book_id = %(book)s AND j.seq = late.seq
 ORDER BY j.seq"""
_CHANGED: LiteralString = """
WITH touched AS MATERIALIZED (
  SELECT DISTINCT side.account_id
    FROM ledger.late_journals(%(book)s, %(day)s, %(then)s + 1, %(now)s, NULL) AS late(seq)
   CROSS JOIN LATERAL (SELECT p.debit_account, p.credit_account FROM ledger.posting p
                        WHERE p.book_id = %(book)s AND p.journal_seq = late.seq OFFSET 0) AS p,
         LATERAL (VALUES (p.debit_account), (p.credit_account)) AS side(account_id))
SELECT a.path, a.currency, a.debit_normal, r.posted_debits, r.posted_credits, r.pending_debits, r.pending_credits,
       n.posted_debits AS posted_debits_now, n.posted_credits AS posted_credits_now,
       n.pending_debits AS pending_debits_now, n.pending_credits AS pending_credits_now
  FROM ledger.sums_as_of(%(book)s, ARRAY(SELECT account_id FROM touched), %(day)s, %(then)s) AS r
  JOIN ledger.sums_as_of(%(book)s, ARRAY(SELECT account_id FROM touched), %(day)s, %(now)s) AS n USING (account_id)
  JOIN ledger.account a ON a.book_id = %(book)s AND a.account_id = r.account_id
 ORDER BY a.path, a.currency"""


async def restated(
    conn: AsyncConnection[Any],
    book_id: int,
    effective: date,
    *,
    then: int | datetime,
    now: int | datetime | None = None,
    after: int = 0,
    limit: int = 100,
) -> Restatement:
    """The days up to ``effective``, as reported at ``then`` against as restated at ``now`` (None: all that is
    recorded); late journals after number ``after``, the oldest first."""
    reported = known_params(then)
    given = {
        "book": book_id,
        "then_seq": reported["seq"],
        "then_instant": reported["instant"],
        **known_params(now),
    }
    [known] = await fetch(conn, _RANGE.format(known=KNOWN), given)
    given = {"book": book_id, "day": effective, **known, "after": after, "most": limit + 1}
    late = await fetch(conn, _LATE, given)
    changed = [_restated(row) for row in await fetch(conn, _CHANGED, given)]
    return Restatement(
        *(effective, known["then"], known["now"]),
        changed=tuple(c for c in changed if c.reported != c.restated),
        late=tuple(_late(row) for row in late[:limit]),
        next=late[limit - 1]["seq"] if len(late) > limit else None,
    )


def _restated(row: Mapping[str, Any]) -> RestatedBalance:
    return RestatedBalance(row["path"], row["currency"], _balance(row, ""), _balance(row, "_now"))


def _balance(row: Mapping[str, Any], when: str) -> BalanceAsOf:
    debits, credits = row[f"posted_debits{when}"], row[f"posted_credits{when}"]
    held = row[f"pending_debits{when}"], row[f"pending_credits{when}"]
    posted, (pending_in, pending_out) = (
        (debits - credits, held) if row["debit_normal"] else (credits - debits, held[::-1])
    )
    return BalanceAsOf(row["path"], row["currency"], posted, pending_in, pending_out, (debits, credits))


def _late(row: Mapping[str, Any]) -> LateJournal:
    return LateJournal(
        *(row["seq"], row["id"], row["kind"], row["effective_at"], row["recorded_at"]),
        description=orjson.loads(row["canonical"])["description"],
    )
