"""What was set, by whom and from which journal on: facts beside the acts (``ledger.act``) that recorded them.

A fact and its act say the same in two tables, so that a change of either shows; the acts have hashes of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson
from psycopg import AsyncConnection

from ledger.audit.report import Key, Tally

Fields = dict[str, Any]


class Fact(NamedTuple):
    """A row of ``ledger.account_fact``: in force for the journals after ``after_seq``."""

    fact: int
    floor: int | None
    status: str
    reason: str
    person: str | None
    recorded_at: str
    after_seq: int
    act: int | None


class Act(NamedTuple):
    """A row of ``ledger.act``; ``detail`` is its JSON, None where it is none."""

    subject: str
    person: str
    reason: str
    recorded_at: str
    detail: Fields | None


@dataclass(frozen=True, slots=True)
class Said:
    """What a fact's row says of its act: ``subject``, and ``detail`` with the column that each part comes from."""

    subject: str
    person: str | None
    reason: str
    recorded_at: str
    detail: Mapping[str, tuple[str, object]]


_ACTS = """
SELECT act, subject, person, reason, to_char(recorded_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), detail
  FROM ledger.act WHERE book_id = %s AND action = %s ORDER BY act"""


class Acts:
    """The acts of one action; each must have its fact, and each fact its act."""

    def __init__(self, book_id: int, table: str, acts: Mapping[int, Act]) -> None:
        self._book_id = book_id
        self._table = table
        self._acts = acts
        self._claimed: set[int] = set()

    def check(self, tally: Tally, key: Key, number: int | None, said: Said, about: str) -> None:
        """Every field of a fact against its act's."""
        act = self._acts.get(number or 0)
        if act is None or number in self._claimed:
            tally.find(self._table, key, "act", number, "that of the act that recorded it", about)
            return
        self._claimed.add(number or 0)
        detail = act.detail or {}
        pairs = [
            (name, getattr(said, name), getattr(act, name)) for name in ("person", "reason", "recorded_at")
        ]
        pairs += [(column, value, detail.get(part)) for part, (column, value) in said.detail.items()]
        pairs.append(("account_id", said.subject, act.subject))
        for column, stored, recorded in pairs:
            if stored != recorded:
                tally.find(self._table, key, column, stored, recorded, about)

    def end(self, tally: Tally, columns: Mapping[str, str]) -> None:
        """Acts that no fact names; ``columns``: the part of the detail that each column of the key comes from."""
        for number in sorted(self._acts.keys() - self._claimed):
            detail = self._acts[number].detail or {}
            key: Key = {"book_id": self._book_id, **{c: detail.get(part, "?") for c, part in columns.items()}}
            tally.find(self._table, key, "row", "missing", f"there: act {number} recorded it")


async def load_acts(conn: AsyncConnection[Any], book_id: int, action: str, table: str) -> Acts:
    """The acts by which the facts of ``table`` were recorded."""
    cursor = await conn.execute(_ACTS, [book_id, action])
    found = {
        number: Act(subject, person, reason, recorded_at, _parsed(detail))
        for number, subject, person, reason, recorded_at, detail in await cursor.fetchall()
    }
    return Acts(book_id, table, found)


def _parsed(detail: str) -> Fields | None:
    try:
        fields = orjson.loads(detail)
    except orjson.JSONDecodeError:
        return None
    return fields if isinstance(fields, dict) else None


def check_fact(
    tally: Tally, key: Key, facts: Iterable[Fact], fact: Fact, opened_at: str, acts: Acts, about: str
) -> None:
    """One fact of an account after those before it: its number, its order, the first as opened, the others as acted."""

    def wrong(field: str, stored: object, recomputed: object) -> None:
        tally.find("account_fact", key, field, stored, recomputed, about)

    before = max(facts, key=lambda f: f.fact, default=None)
    number = before.fact + 1 if before else 1
    if fact.fact > number:
        tally.find("account_fact", {**key, "fact": number}, "row", "missing", "there", about)
    elif fact.fact < number:
        wrong("row", "there twice", "there once")
    if fact.fact == 1:
        opening = {"status": "open", "reason": "opened", "person": None, "after_seq": 0, "act": None}
        for name, value in opening.items():
            if getattr(fact, name) != value:
                wrong(name, getattr(fact, name), value)
        if fact.recorded_at != opened_at:
            # One of the two is wrong, and only the two know.
            wrong("recorded_at", fact.recorded_at, f"{opened_at}, as opened")
            opened: Key = {"book_id": key["book_id"], "account_id": key["account_id"]}
            tally.find("account", opened, "opened_at", opened_at, fact.recorded_at, about)
    else:
        acts.check(tally, key, fact.act, _said(key, fact, about), about)
    if before is None:
        return
    if (fact.after_seq, fact.recorded_at) < (before.after_seq, before.recorded_at):
        wrong("after_seq", fact.after_seq, f"{before.after_seq} or later")
    if before.status == "closed":
        wrong("row", fact.status, "missing: closed is the end")


def _said(key: Key, fact: Fact, about: str) -> Said:
    detail: dict[str, tuple[str, object]] = {
        "account": ("account_id", key["account_id"]),
        "after": ("after_seq", fact.after_seq),
        "fact": ("fact", fact.fact),
        "floor": ("floor", None if fact.floor is None else str(fact.floor)),
        "status": ("status", fact.status),
    }
    return Said(about, fact.person, fact.reason, fact.recorded_at, detail)
