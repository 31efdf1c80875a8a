"""What rows owe other rows: unique keys, mirrored reversals, a book. The database sorts, we judge."""

from __future__ import annotations

from typing import Any

from psycopg import AsyncConnection, sql

from ledger.audit import lines
from ledger.audit.report import FINDINGS_KEPT, Key, Tally

_TWICE = """
SELECT array_agg(seq ORDER BY seq), {columns} FROM ledger.journal WHERE book_id = %(book)s
 GROUP BY {columns} HAVING count(*) > 1 ORDER BY min(seq) LIMIT %(limit)s"""
_COUNT = "SELECT count(*) FROM ledger.journal WHERE book_id = %(book)s"

_REVERSALS = """
SELECT r.seq, r.reverses, convert_to(r.canonical, 'UTF8'), convert_to(o.canonical, 'UTF8')
  FROM ledger.journal r LEFT JOIN ledger.journal o ON o.book_id = r.book_id AND o.seq = r.reverses
 WHERE r.book_id = %(book)s AND r.reverses IS NOT NULL ORDER BY r.reverses, r.seq"""

# The books a table has rows of, by one index look-up each: audits of many books must not read every table every time.
_BOOKS = sql.SQL("""
WITH RECURSIVE found AS (
  (SELECT book_id FROM {table} ORDER BY book_id LIMIT 1)
  UNION ALL
  SELECT (SELECT t.book_id FROM {table} t WHERE t.book_id > found.book_id ORDER BY t.book_id LIMIT 1)
    FROM found WHERE found.book_id IS NOT NULL)
SELECT book_id, EXISTS (SELECT FROM ledger.book b WHERE b.book_id = found.book_id)
  FROM found WHERE book_id IS NOT NULL""")
_STRAYS = sql.SQL("SELECT {columns} FROM {table} WHERE book_id = %(book)s ORDER BY {columns} LIMIT %(limit)s")

_KEYS = {
    "account": ("account_id",),
    "account_leaf": ("account_id",),
    "checkpoint": ("size",),
    "cosignature": ("size", "witness"),
    "log_key": ("key",),
    "log_run": ("first_index",),
    "log_tile": ("level", "tile"),
    "arrival": ("from_book", "transfer_id"),
    "account_fact": ("account_id", "fact"),
    "act": ("act",),
    "period_fact": ("fact",),
    "proposal": ("proposal_id",),
    "verdict": ("proposal_id",),
    "limit_fact": ("account_id", "name", "fact"),
    "limit_use": ("account_id", "name", "window_start"),
    "balance": ("account_id",),
    "hold": ("hold_id",),
    "journal": ("seq",),
    "posting": ("journal_seq", "line"),
    "rollup": ("level", "span", "account_id", "day"),
    "rollup_span": ("level", "span"),
    "transfer": ("transfer_id",),
    "term": ("term", "seq"),
    "term_run": ("last",),
}


async def check_unique(conn: AsyncConnection[Any], book_id: int, tally: Tally) -> None:
    """One journal an id and one a source key, whether or not the indexes that see to it are there."""
    cursor = await conn.execute(_COUNT, {"book": book_id})
    row = await cursor.fetchone()
    tally.rows = row[0] if row else 0
    for columns in ("id", "source_type, source_id, source_event"):
        given = {"book": book_id, "limit": FINDINGS_KEPT}
        cursor = await conn.execute(_TWICE.format(columns=columns), given)
        for seqs, *values in await cursor.fetchall():
            value = "/".join(str(v) for v in values)
            for seq in seqs[1:]:
                key: Key = {"book_id": book_id, "seq": seq}
                tally.find("journal", key, columns, value, f"another: journal {seqs[0]} has it")


async def check_reversals(conn: AsyncConnection[Any], book_id: int, tally: Tally) -> None:
    """A reversal books each posting of one earlier journal with its sides exchanged, the last first, and once only."""
    before: int | None = None
    async with conn.cursor(name="audit_reversals") as cursor:
        await cursor.execute(_REVERSALS, {"book": book_id}, binary=True)
        async for seq, reverses, canonical, original in cursor:
            tally.rows += 1
            key: Key = {"book_id": book_id, "seq": seq}
            if reverses == before:
                tally.find(
                    "journal", key, "reverses", reverses, f"another: journal {reverses} was reversed before"
                )
            before = reverses
            if original is None or reverses >= seq:
                tally.find("journal", key, "reverses", reverses, "an earlier journal")
                continue
            booked, mirrored = _postings(canonical), _mirrored(original)
            if mirrored is None:
                tally.find("journal", key, "reverses", reverses, "a journal that is not of a hold")
            elif booked != mirrored:
                tally.find(
                    "journal", key, "postings", booked, f"{mirrored}: the mirror image of journal {reverses}"
                )


def _postings(canonical: bytes) -> list[Any]:
    postings = (lines.parse(canonical) or {}).get("postings")
    return postings if isinstance(postings, list) else []


def _mirrored(canonical: bytes) -> list[Any] | None:
    """None if the journal is of a hold."""
    mirror: list[Any] = []
    for p in reversed(_postings(canonical)):
        if not isinstance(p, dict) or "hold" in p:
            return None
        booked = {name: value for name, value in p.items() if name != "up_to"}
        mirror.append({**booked, "debit": p.get("credit"), "credit": p.get("debit")})
    return mirror


async def check_strays(conn: AsyncConnection[Any], tally: Tally) -> None:
    """No table has rows of a book that is not there. Counts the books each table has rows of."""
    for table, columns in _KEYS.items():
        names = {
            "table": sql.Identifier("ledger", table),
            "columns": sql.SQL(", ").join(map(sql.Identifier, columns)),
        }
        cursor = await conn.execute(_BOOKS.format(**names))
        for book_id, there in await cursor.fetchall():
            tally.rows += 1
            if there:
                continue
            strays = await conn.execute(_STRAYS.format(**names), {"book": book_id, "limit": FINDINGS_KEPT})
            for values in await strays.fetchall():
                key: Key = {
                    "book_id": book_id,
                    **{c: _key_value(v) for c, v in zip(columns, values, strict=True)},
                }
                tally.find(table, key, "book_id", book_id, "a book that is there")


def _key_value(value: object) -> int | str:
    return value if isinstance(value, int) else str(value)
