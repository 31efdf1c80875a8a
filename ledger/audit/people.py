"""Proposals, verdicts, closes and reopenings: each row as its act has it, and each act with its row.

Also what two people decided is what was booked: an adjustment's journal, where its proposal was approved, and nowhere
else. What people decide is little: it is read into memory whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from hashlib import sha256
from typing import Any, NamedTuple

from psycopg import AsyncConnection
from psycopg.rows import class_row

from ledger.audit import lines
from ledger.audit.report import Key, Tally

Fields = dict[str, Any]
_PROPOSED = ("adjustment_proposed", "reopening_proposed")
_DECIDED = ("adjustment_approved", "adjustment_rejected", "reopening_approved", "reopening_rejected")
_ACTS = """
SELECT act, to_char(recorded_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS recorded_at,
       person, action, subject, reason, detail
  FROM ledger.act WHERE book_id = %s AND action = ANY (%s) ORDER BY act"""
_PROPOSALS = """
SELECT act, proposal_id::text AS proposal_id, kind, content, reason, proposer,
       to_char(proposed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS proposed_at
  FROM ledger.proposal WHERE book_id = %s ORDER BY act"""
_VERDICTS = """
SELECT act, proposal_id::text AS proposal_id, approved, person, reason,
       to_char(decided_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS decided_at
  FROM ledger.verdict WHERE book_id = %s ORDER BY act"""
_JOURNALS = """
SELECT seq, source_type || '/' || source_id || '/' || source_event, convert_to(canonical, 'UTF8')
  FROM ledger.journal WHERE book_id = %s AND kind = 'adjustment' ORDER BY seq"""


@dataclass(frozen=True, slots=True)
class Act:
    """A row of ``ledger.act``, but for its hash."""

    act: int
    recorded_at: str
    person: str
    action: str
    subject: str
    reason: str
    detail: str

    @property
    def fields(self) -> Fields:
        return lines.parse(self.detail.encode()) or {}

    @property
    def key(self) -> Key:
        return {"proposal_id": self.subject}


async def load_acts(conn: AsyncConnection[Any], book_id: int, actions: Sequence[str]) -> list[Act]:
    async with conn.cursor(row_factory=class_row(Act)) as cursor:
        await cursor.execute(_ACTS.encode(), [book_id, list(actions)])
        return await cursor.fetchall()


async def load_rows(conn: AsyncConnection[Any], sql: str, book_id: int) -> list[Fields]:
    cursor = await conn.execute(sql.encode(), [book_id])
    names = [column.name for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in await cursor.fetchall()]


class Expected(NamedTuple):
    """What an act says of the row it recorded: the row's primary key without its book, and columns."""

    key: Key
    columns: Fields


def check_rows(
    tally: Tally, book_id: int, table: str, rows: Iterable[Fields], expected: dict[int, Expected]
) -> None:
    """Each row beside its act, by ``act``; each act with one row."""
    missing = dict(expected)
    for row in rows:
        tally.rows += 1
        said = missing.pop(row["act"], None)
        names = (said or next(iter(expected.values()), Expected({}, {}))).key.keys() or ("act",)
        key: Key = {"book_id": book_id, **{name: row[name] for name in names}}
        if said is None:
            tally.find(table, key, "act", row["act"], "the act that recorded it, and no other's")
            continue
        for name, value in (said.key | said.columns).items():
            if row[name] != value:
                tally.find(table, key, name, row[name], value)
    for number, said in missing.items():
        tally.find(
            table, {"book_id": book_id, **said.key}, "row", "missing", f"there: act {number} recorded it"
        )


@dataclass(slots=True)
class _Decided:
    """An approved adjustment, until its journal is seen."""

    content: Fields
    proposed_act: int
    approved_act: int
    booked: bool = False


async def check_people(conn: AsyncConnection[Any], book_id: int, tally: Tally) -> None:
    """Proposals and verdicts against the log of acts, against each other, and against the journals."""
    proposals = await load_rows(conn, _PROPOSALS, book_id)
    verdicts = await load_rows(conn, _VERDICTS, book_id)
    for row in proposals:
        row["content_hash"] = sha256(row["content"].encode()).hexdigest()
        _check_content(tally, book_id, row)
    proposed = {a.act: Expected(a.key, _proposal(a)) for a in await load_acts(conn, book_id, _PROPOSED)}
    decided = {a.act: Expected(a.key, _verdict(a)) for a in await load_acts(conn, book_id, _DECIDED)}
    check_rows(tally, book_id, "proposal", proposals, proposed)
    check_rows(tally, book_id, "verdict", verdicts, decided)
    by_id = {row["proposal_id"]: row for row in proposals}
    approved: dict[str, _Decided] = {}
    for verdict in verdicts:
        proposal = by_id.get(verdict["proposal_id"])
        _check_verdict(tally, book_id, verdict, proposal)
        if proposal is not None and verdict["approved"] and proposal["kind"] == "adjustment":
            content = lines.parse(proposal["content"].encode()) or {}
            approved[verdict["proposal_id"]] = _Decided(content, proposal["act"], verdict["act"])
    await _check_journals(conn, book_id, tally, approved)


def _proposal(act: Act) -> Fields:
    return {
        "kind": act.action.removesuffix("_proposed"),
        "content_hash": act.fields.get("content_hash"),
        "reason": act.reason,
        "proposer": act.person,
        "proposed_at": act.recorded_at,
    }


def _check_content(tally: Tally, book_id: int, proposal: Fields) -> None:
    """Of open ones, too: what is asked for can be read, and booked as it stands."""
    content = lines.parse(proposal["content"].encode()) or {}
    right = _is_adjustment(content) if proposal["kind"] == "adjustment" else _is_reopening(content)
    if not right:
        key: Key = {"book_id": book_id, "proposal_id": proposal["proposal_id"]}
        tally.find("proposal", key, "content", proposal["content"], f"that of kind {proposal['kind']}")


def _is_adjustment(content: Fields) -> bool:
    at, metadata, postings = (content.get(name) for name in ("effective_at", "metadata", "postings"))
    return (
        isinstance(content.get("description"), str)
        and (isinstance(at, str) or (at is None and "effective_at" in content))
        and isinstance(metadata, dict)
        and all(isinstance(value, str) for value in metadata.values())
        and content.get("on_closed") in ("refuse", "first_open_day")
        and isinstance(postings, list)
        and postings != []
        and all(_is_posting(posting) for posting in postings)
    )


def _is_posting(posting: object) -> bool:
    return isinstance(posting, dict) and all(
        isinstance(posting.get(name), str) for name in ("amount", "credit", "currency", "debit", "layer")
    )


def _is_reopening(content: Fields) -> bool:
    through = content.get("through")
    return day_of(content.get("closed_through")) is not None and (
        day_of(through) is not None or (through is None and "through" in content)
    )


def day_of(text: object) -> date | None:
    """A day of the ledger's calendar, 1900 up to 8999; None for what is none, such as PostgreSQL's -infinity."""
    try:
        day = date.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return day if day is not None and 1900 <= day.year < 9000 else None


def _verdict(act: Act) -> Fields:
    return {
        "approved": act.action.endswith("_approved"),
        "person": act.person,
        "reason": act.reason,
        "decided_at": act.recorded_at,
    }


def _check_verdict(tally: Tally, book_id: int, verdict: Fields, proposal: Fields | None) -> None:
    key: Key = {"book_id": book_id, "proposal_id": verdict["proposal_id"]}
    if proposal is None:
        tally.find("verdict", key, "proposal_id", verdict["proposal_id"], "that of a proposal")
    elif proposal["proposer"] == verdict["person"]:
        tally.find("verdict", key, "person", verdict["person"], "somebody else than who proposed it")
    elif proposal["act"] >= verdict["act"]:
        tally.find("verdict", key, "act", verdict["act"], f"later than act {proposal['act']}")


async def _check_journals(
    conn: AsyncConnection[Any], book_id: int, tally: Tally, approved: dict[str, _Decided]
) -> None:
    cursor = await conn.execute(_JOURNALS, [book_id])
    for seq, source, canonical in await cursor.fetchall():
        tally.rows += 1
        key: Key = {"book_id": book_id, "seq": seq}
        type_, _, rest = source.partition("/")
        decided = approved.get(rest.removesuffix("/approved")) if type_ == "adjustment" else None
        if decided is None or decided.booked:
            tally.find("journal", key, "source", source, "that of an approved adjustment")
            continue
        decided.booked = True
        said = lines.parse(canonical) or {}
        for field, value in _booked(decided, said).items():
            if said.get(field) != value:
                tally.find("journal", key, field, said.get(field), value)
    for proposal_id, decided in approved.items():
        if not decided.booked:
            verdict: Key = {"book_id": book_id, "proposal_id": proposal_id}
            tally.find("verdict", verdict, "approved", "true", "false: no journal was booked")


def _booked(decided: _Decided, said: Fields) -> Fields:
    """What the journal's line must say."""
    acts = {
        "adjustment.approved_act": str(decided.approved_act),
        "adjustment.proposed_act": str(decided.proposed_act),
    }
    wanted = decided.content
    metadata = wanted.get("metadata")
    asked = wanted.get("effective_at") or said.get("recorded_at")
    moved = wanted.get("on_closed") == "first_open_day" and "requested_effective_at" in said
    return {
        "description": wanted.get("description"),
        "metadata": (metadata if isinstance(metadata, dict) else {}) | acts,
        "postings": wanted.get("postings"),
        ("requested_effective_at" if moved else "effective_at"): asked,
    }
