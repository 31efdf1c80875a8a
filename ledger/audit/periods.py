"""Closed periods, proved from the facts: what is closed, the trial balance of each close, and that no journal counts
in a period that was closed when it was recorded."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from hashlib import sha256
from typing import Any

from psycopg import AsyncConnection

from ledger.audit import lines
from ledger.audit.people import Act, Expected, Fields, check_rows, day_of, load_acts, load_rows
from ledger.audit.report import FINDINGS_KEPT, Key, Tally

_BOOK = "SELECT name, closed_through::text, head FROM ledger.book WHERE book_id = %s"
_FACTS = """
SELECT fact, action, through::text AS through, head, encode(trial_balance_hash, 'hex') AS trial_balance_hash,
       proposal_id::text AS proposal_id, person, reason,
       to_char(recorded_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS recorded_at, act
  FROM ledger.period_fact WHERE book_id = %s ORDER BY act"""
_REOPENINGS = (
    "SELECT proposal_id::text, content FROM ledger.proposal WHERE book_id = %s AND kind = 'reopening'"
)

# Journals by what was closed when they were recorded: one range of numbers for each fact.
_LATE = """
WITH span AS (
  SELECT through, head AS after, coalesce(lead(head) OVER (ORDER BY fact), 9223372036854775807) AS last
    FROM ledger.period_fact WHERE book_id = %(book)s)
SELECT j.seq, (j.effective_at AT TIME ZONE 'UTC')::text, span.through::text FROM span JOIN ledger.journal j
    ON j.book_id = %(book)s AND j.seq > span.after AND j.seq <= span.last
 WHERE (j.effective_at AT TIME ZONE 'UTC')::date <= span.through ORDER BY j.seq LIMIT %(limit)s"""
_MOVED = """
SELECT j.seq, to_char(j.effective_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
       convert_to(j.canonical, 'UTF8'),
       (SELECT f.through::text FROM ledger.period_fact f WHERE f.book_id = j.book_id AND f.head < j.seq
         ORDER BY f.fact DESC LIMIT 1)
  FROM ledger.journal j WHERE j.book_id = %s AND j.canonical LIKE '%%"requested_effective_at":%%' ORDER BY j.seq"""

# Posted sums by account, in the buckets between the closes' heads and days: one pass, however many closes.
_SUMS = """
WITH side AS (
  SELECT p.debit_account AS account_id, p.amount, p.journal_seq FROM ledger.posting p
   WHERE p.book_id = %(book)s AND p.layer = 0
  UNION ALL
  SELECT p.credit_account, -p.amount, p.journal_seq FROM ledger.posting p WHERE p.book_id = %(book)s AND p.layer = 0)
SELECT a.path, a.currency, width_bucket(j.seq, %(seqs)s::bigint[]),
       width_bucket((j.effective_at AT TIME ZONE 'UTC')::date, %(days)s::date[]), sum(side.amount)
  FROM side JOIN ledger.journal j ON j.book_id = %(book)s AND j.seq = side.journal_seq
  JOIN ledger.account a ON a.book_id = %(book)s AND a.account_id = side.account_id
 GROUP BY 1, 2, 3, 4"""


async def check_periods(conn: AsyncConnection[Any], book_id: int, tally: Tally) -> None:
    cursor = await conn.execute(_BOOK, [book_id])
    books = await cursor.fetchall()
    facts = await load_rows(conn, _FACTS, book_id)
    acts = await load_acts(conn, book_id, ("period_closed", "reopening_approved"))
    cursor = await conn.execute(_REOPENINGS, [book_id])
    wanted = {id_: lines.parse(content.encode()) or {} for id_, content in await cursor.fetchall()}
    expected = {
        act.act: Expected({"fact": number}, _fact(act, wanted)) for number, act in enumerate(acts, start=1)
    }
    check_rows(tally, book_id, "period_fact", facts, expected)
    for name, closed_through, head in books:
        last = facts[-1]["through"] if facts else None
        if closed_through != last:
            tally.find("book", {"book_id": book_id}, "closed_through", closed_through, last)
        _check_order(tally, book_id, facts, head)
        await _check_trial_balances(conn, book_id, name, facts, tally)
    await _check_late(conn, book_id, tally)


def _fact(act: Act, reopenings: dict[str, Fields]) -> Fields:
    close = act.action == "period_closed"
    return {
        "action": "close" if close else "reopen",
        "through": act.subject if close else reopenings.get(act.subject, {}).get("through"),
        "head": act.fields.get("head"),
        "trial_balance_hash": act.fields.get("trial_balance_hash"),
        "proposal_id": None if close else act.subject,
        "person": act.person,
        "reason": act.reason,
        "recorded_at": act.recorded_at,
    }


def _check_order(tally: Tally, book_id: int, facts: Sequence[Fields], head: int) -> None:
    """A close goes forward to a day that was over, a reopening goes back; heads never go back."""
    through, last = "", 0
    for fact in facts:
        key: Key = {"book_id": book_id, "fact": fact["fact"]}
        day = fact["through"] or ""
        if day and day_of(day) is None:
            tally.find("period_fact", key, "through", day, "a day from 1900 up to 8999")
        if (day > through) != (fact["action"] == "close"):
            tally.find("period_fact", key, "through", day, f"another side of {through or 'nothing'}")
        if fact["action"] == "close" and day >= fact["recorded_at"][:10]:
            tally.find("period_fact", key, "through", day, "a day that was over")
        if not last <= fact["head"] <= head:
            tally.find("period_fact", key, "head", fact["head"], f"{last} to {head}")
        through, last = day, fact["head"]


async def _check_trial_balances(
    conn: AsyncConnection[Any], book_id: int, book: str, facts: Sequence[Fields], tally: Tally
) -> None:
    closes = [(f, day) for f in facts if f["action"] == "close" and (day := day_of(f["through"])) is not None]
    seqs = sorted({f["head"] + 1 for f, _ in closes})  # a bucket ends before its bound
    days = sorted({day for _, day in closes})
    if not closes:
        return
    cursor = await conn.execute(
        _SUMS, {"book": book_id, "seqs": seqs, "days": [day + timedelta(days=1) for day in days]}
    )
    sums = await cursor.fetchall()
    for fact, day in closes:
        key: Key = {"book_id": book_id, "fact": fact["fact"]}
        seq_buckets, day_buckets = seqs.index(fact["head"] + 1), days.index(day)
        balances: dict[tuple[str, str], int] = {}
        for path, currency, of_seq, of_day, amount in sums:
            if of_seq <= seq_buckets and of_day <= day_buckets:
                balances[path, currency] = balances.get((path, currency), 0) + int(amount)
        recomputed = _hash(book, fact, balances)
        if fact["trial_balance_hash"] != recomputed:
            tally.find("period_fact", key, "trial_balance_hash", fact["trial_balance_hash"], recomputed)


def _hash(book: str, fact: Fields, balances: dict[tuple[str, str], int]) -> str:
    """As ``ledger/periods.py`` defines it."""
    told: list[Fields] = [{"book": book, "head": fact["head"], "through": fact["through"]}]
    for (path, currency), amount in sorted(balances.items()):
        if amount:
            sides = {"credit": str(max(-amount, 0)), "debit": str(max(amount, 0))}
            told.append({"account": path, "currency": currency, **sides})
    return sha256(b"".join(lines.serialise(line) + b"\n" for line in told)).hexdigest()


async def _check_late(conn: AsyncConnection[Any], book_id: int, tally: Tally) -> None:
    cursor = await conn.execute(_LATE, {"book": book_id, "limit": FINDINGS_KEPT})
    for seq, effective_at, through in await cursor.fetchall():
        key: Key = {"book_id": book_id, "seq": seq}
        tally.find("journal", key, "effective_at", effective_at, f"after {through}: it was closed")
    cursor = await conn.execute(_MOVED, [book_id])
    for seq, effective_at, canonical, through in await cursor.fetchall():
        tally.rows += 1
        key = {"book_id": book_id, "seq": seq}
        said = lines.parse(canonical) or {}
        if "requested_effective_at" not in said:
            continue  # it is a key of the metadata
        requested = said["requested_effective_at"]
        if through is None or not isinstance(requested, str) or requested[:10] > through:
            tally.find("journal", key, "requested_effective_at", requested, "in a period that was closed")
            continue
        closed = day_of(through)
        if closed is None:
            continue  # its fact is named
        opened = f"{closed + timedelta(days=1)}T00:00:00.000000Z"
        if effective_at != opened:
            tally.find("journal", key, "effective_at", effective_at, opened)
