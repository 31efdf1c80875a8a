"""Velocity limits, recomputed: what each posted line uses of its account's windows, under the maximum then in force.

Windows are cut out of the time's text, sharing nothing with the database's ``date_trunc``. One entry a used window.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, NamedTuple

from psycopg import AsyncConnection

from ledger.audit.facts import Acts, Said, load_acts
from ledger.audit.report import Key, Tally

_MIDNIGHT = "T00:00:00.000000Z"


class LimitFact(NamedTuple):
    """A row of ``ledger.limit_fact``: in force for the journals after ``after_seq``."""

    fact: int
    side: str
    measure: str
    maximum: int
    window: str
    active: bool
    reason: str
    person: str
    recorded_at: str
    after_seq: int
    act: int


@dataclass(slots=True)
class Limit:
    """The facts of one name on one account, and what the lines so far have used, by the start of the window."""

    name: str
    facts: list[LimitFact] = field(default_factory=list)
    used: dict[str, int] = field(default_factory=dict)

    def in_force(self, seq: int) -> LimitFact | None:
        """The fact under which journal ``seq`` was judged; None if the limit was not active."""
        found = next((f for f in reversed(self.facts) if f.after_seq < seq), None)
        return found if found is not None and found.active else None

    def use(self, debit: bool, amount: int, seq: int, at: str) -> tuple[int, int] | None:
        """Count a posted line; what the window then holds and its maximum, if that is more."""
        fact = self.in_force(seq)
        if fact is None or (fact.side == "debit") != debit:
            return None
        start = window_start(fact.window, at)
        used = self.used[start] = self.used.get(start, 0) + (1 if fact.measure == "count" else amount)
        return (used, fact.maximum) if used > fact.maximum else None


def window_start(window: str, at: str) -> str:
    """Of the calendar window that holds ``at`` (RFC 3339 in UTC); ``at`` itself for a window that there is not."""
    match window:
        case "minute":
            return at[:17] + "00.000000Z"
        case "hour":
            return at[:14] + "00:00.000000Z"
        case "day":
            return at[:10] + _MIDNIGHT
        case "week":
            day = date.fromisoformat(at[:10])
            return (day - timedelta(days=day.weekday())).isoformat() + _MIDNIGHT
        case "month":
            return at[:8] + "01" + _MIDNIGHT
        case _:
            return at


Limits = dict[int, list[Limit]]  # by account

_FACTS = """
SELECT f.account_id, f.name, f.fact, side, measure, maximum, window_size, active, reason, person,
       to_char(f.recorded_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), after_seq, act
  FROM ledger.limit_fact f WHERE f.book_id = %s ORDER BY f.account_id, f.name, f.fact"""
_USE = """
SELECT account_id, name, to_char(window_start AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), used
  FROM ledger.limit_use WHERE book_id = %s ORDER BY account_id, name, window_start"""


async def load_limits(
    conn: AsyncConnection[Any], book_id: int, names: dict[int, str], tally: Tally
) -> Limits:
    """Every account's limits with their facts, checked: numbered, in order, of one kind, as the acts say.

    ``names``: each account as acts call it.
    """
    acts = await load_acts(conn, book_id, "set_limit", "limit_fact")
    limits: dict[tuple[int, str], Limit] = {}
    for account, name, *columns in await (await conn.execute(_FACTS, [book_id])).fetchall():
        fact = LimitFact(*columns)
        tally.rows += 1
        key: Key = {"book_id": book_id, "account_id": account, "name": name, "fact": fact.fact}
        limit = limits.setdefault((account, name), Limit(name))
        _check_fact(tally, key, limit, fact, acts, names.get(account, f"account {account}"))
        limit.facts.append(fact)
    acts.end(tally, {"account_id": "account", "name": "name", "fact": "fact"})
    by_account: Limits = {}
    for (account, _), limit in limits.items():
        by_account.setdefault(account, []).append(limit)
    return by_account


def _check_fact(tally: Tally, key: Key, limit: Limit, fact: LimitFact, acts: Acts, about: str) -> None:
    before = limit.facts[-1] if limit.facts else None
    number = before.fact + 1 if before else 1
    if fact.fact > number:
        tally.find("limit_fact", {**key, "fact": number}, "row", "missing", "there", about)
    elif fact.fact < number:
        tally.find("limit_fact", key, "row", "there twice", "there once", about)
    detail: dict[str, tuple[str, object]] = {
        "account": ("account_id", key["account_id"]),
        "name": ("name", key["name"]),
        "fact": ("fact", fact.fact),
        "side": ("side", fact.side),
        "measure": ("measure", fact.measure),
        "maximum": ("maximum", str(fact.maximum)),
        "window": ("window_size", fact.window),
        "active": ("active", fact.active),
        "after": ("after_seq", fact.after_seq),
    }
    acts.check(tally, key, fact.act, Said(about, fact.person, fact.reason, fact.recorded_at, detail), about)
    if before is None:
        return
    for column, was, now in zip(("side", "measure", "window_size"), _kind(before), _kind(fact), strict=True):
        if was != now:
            tally.find("limit_fact", key, column, now, f"{was}: it is fixed", about)
    if (fact.after_seq, fact.recorded_at) < (before.after_seq, before.recorded_at):
        tally.find("limit_fact", key, "after_seq", fact.after_seq, f"{before.after_seq} or later", about)


def _kind(fact: LimitFact) -> tuple[str, str, str]:
    return fact.side, fact.measure, fact.window


def active(limits: list[Limit]) -> int:
    """How many are, after their last facts."""
    return sum(limit.facts[-1].active for limit in limits if limit.facts)


async def check_use(conn: AsyncConnection[Any], book_id: int, limits: Limits, tally: Tally) -> None:
    """Every counter against the lines; every used window has one."""
    made = {
        (account, limit.name, start): used
        for account, of_account in limits.items()
        for limit in of_account
        for start, used in limit.used.items()
    }
    seen: set[tuple[int, str, str]] = set()
    for account, name, start, used in await (await conn.execute(_USE, [book_id])).fetchall():
        tally.rows += 1
        window = (account, name, start)
        if window not in made:
            tally.find("limit_use", _key(book_id, window), "row", "there", "missing: no line used it")
        elif window in seen:
            tally.find("limit_use", _key(book_id, window), "row", "there twice", "there once")
        elif used != made[window]:
            tally.find("limit_use", _key(book_id, window), "used", used, made[window])
        seen.add(window)
    for window in made.keys() - seen:
        tally.find("limit_use", _key(book_id, window), "row", "missing", f"there: {made[window]} used")


def _key(book_id: int, window: tuple[int, str, str]) -> Key:
    return {"book_id": book_id, "account_id": window[0], "name": window[1], "window_start": window[2]}
