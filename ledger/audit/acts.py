"""The log of acts: numbered without a gap, in the order of time, each as its leaf hash has it."""

from __future__ import annotations

from typing import Any, NamedTuple

from psycopg import AsyncConnection

from ledger.audit import lines
from ledger.audit.report import Key, Tally

_BOOK = """
SELECT name, acts, to_char(recorded_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
  FROM ledger.book WHERE book_id = %s"""
_ACTS = """
SELECT act, to_char(recorded_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), person, action, subject, reason,
       detail, leaf_hash FROM ledger.act WHERE book_id = %s ORDER BY act"""


class ActRow(NamedTuple):
    """A row of ``ledger.act``; its time as text."""

    act: int
    recorded_at: str
    person: str
    action: str
    subject: str
    reason: str
    detail: str
    leaf_hash: bytes


async def check_acts(conn: AsyncConnection[Any], book_id: int, tally: Tally) -> None:
    """Every act, and the book's count of them. Memory: one act at a time."""
    cursor = await conn.execute(_BOOK, [book_id])
    for book, count, clock in await cursor.fetchall():
        last, at = 0, ""
        async with conn.cursor(name="audit_acts") as stream:
            await stream.execute(_ACTS, [book_id])
            async for row in stream:
                act = ActRow._make(row)
                _check_act(tally, book_id, book, act, last, at)
                last, at = max(last, act.act), max(at, act.recorded_at)
        key: Key = {"book_id": book_id}
        if count != last:
            tally.find("book", key, "acts", count, last)
            if count > last:
                tally.find("act", {**key, "act": last + 1}, "row", f"missing, up to {count}", "there")
        if clock < at:
            tally.find("book", key, "recorded_at", clock, f"{at} or later")


def _check_act(tally: Tally, book_id: int, book: str, act: ActRow, last: int, at: str) -> None:
    tally.rows += 1
    key: Key = {"book_id": book_id, "act": act.act}
    if act.act <= last:
        tally.find("act", key, "row", "there twice", "there once")
    elif act.act > last + 1:
        missing: Key = {"book_id": book_id, "act": last + 1}
        tally.find("act", missing, "row", f"missing, up to {act.act - 1}", "there: numbers have no gaps")
    if act.recorded_at < at:
        tally.find("act", key, "recorded_at", act.recorded_at, f"{at} or later")
    detail = lines.parse(act.detail.encode())
    if detail is None or lines.serialise(detail).decode() != act.detail:
        tally.find("act", key, "detail", act.detail, "one JSON object in RFC 8785 form")
        return
    recomputed = lines.leaf_hash(lines.serialise(_line(book, act, detail)))
    if act.leaf_hash != recomputed:
        tally.find("act", key, "leaf_hash", act.leaf_hash, recomputed)


def _line(book: str, act: ActRow, detail: lines.Fields) -> lines.Fields:
    """What the leaf hash covers."""
    return {
        "act": act.act,
        "action": act.action,
        "book": book,
        "detail": detail,
        "person": act.person,
        "reason": act.reason,
        "recorded_at": act.recorded_at,
        "subject": act.subject,
    }
