"""The terms that journals are found by, recomputed from the canonical lines, up to the last journal that has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from psycopg import AsyncConnection

from ledger.audit import lines, rows
from ledger.audit.report import Key, Tally

JOURNALS = """
SELECT seq, convert_to(canonical, 'UTF8') FROM ledger.journal WHERE book_id = %(book)s ORDER BY seq"""
TERMS = "SELECT seq, term FROM ledger.term WHERE book_id = %(book)s ORDER BY seq, term"
_RUNS = "SELECT first, last FROM ledger.term_run WHERE book_id = %s ORDER BY last, first"
_OWNERS = "SELECT path, currency, owner FROM ledger.account WHERE book_id = %s AND owner IS NOT NULL"

_TERM_BYTES = 2000  # longer ones are left out (ledger.term_bytes)

Owners = Mapping[tuple[str, str], str]


async def check_terms(conn: AsyncConnection[Any], book_id: int, tally: Tally) -> None:
    """Every journal up to the last indexed one bears its own terms, each once; no other journal bears any."""
    cursor = await conn.execute(_OWNERS, [book_id])
    owners = {(path, currency): owner for path, currency, owner in await cursor.fetchall()}
    indexed = await _check_runs(conn, book_id, tally)
    last = 0
    async with (
        aclosing(rows.batches(conn, "term_journals", JOURNALS, book_id)) as journals,
        aclosing(rows.batches(conn, "terms", TERMS, book_id)) as terms,
    ):
        async for seq, heads, members in rows.merged(journals, terms):
            last = seq if members else last
            tally.rows += len(members)
            borne = terms_of(heads[0], owners) if heads else set[str]()
            stored = [term for _, term in members]
            if seq > indexed and stored and set(stored) == borne:
                tally.follows()  # nothing is wrong with them: it is their run that is missing
            elif borne is not None:
                _compare(tally, book_id, seq, stored, borne if seq <= indexed else set())
    if last != indexed:
        run: Key = {"book_id": book_id, "last": last}
        tally.find("term_run", run, "row", "missing", "there: terms go as far")
        tally.find("term_run", {**run, "last": indexed}, "last", indexed, f"{last}: terms go as far")


async def _check_runs(conn: AsyncConnection[Any], book_id: int, tally: Tally) -> int:
    """Each run begins where the one before ended. Returns the end of the last one, 0 if there is none."""
    after = 0
    for first, last in await (await conn.execute(_RUNS, [book_id])).fetchall():
        tally.rows += 1
        key: Key = {"book_id": book_id, "last": last}
        if last == after:
            tally.find("term_run", key, "row", "there twice", "there once")
        elif first != after + 1:
            # Of the two that do not meet, either may be wrong; and between them one may be missing.
            tally.find("term_run", key, "first", first, after + 1)
            tally.find("term_run", {**key, "last": after}, "last", after, first - 1)
            if first > after + 1:
                tally.find(
                    "term_run", {**key, "last": first - 1}, "row", "missing", "there: runs have no gaps"
                )
        after = last
    return after


def _compare(tally: Tally, book_id: int, seq: int, stored: Sequence[str], borne: set[str]) -> None:
    if len(stored) == len(borne) and borne.issuperset(stored):
        return
    for number, term in enumerate(stored):
        key: Key = {"book_id": book_id, "term": term, "seq": seq}
        if number and stored[number - 1] == term:
            tally.find("term", key, "row", "there twice", "there once")
        elif term not in borne:
            tally.find("term", key, "term", term, "none: the journal does not bear it")
    for term in sorted(borne.difference(stored)):
        tally.find("term", {"book_id": book_id, "term": term, "seq": seq}, "row", "missing", "there")


def terms_of(journal: Sequence[Any], owners: Owners) -> set[str] | None:
    """The terms of a row of ``JOURNALS``; None if its line says nothing (which another check names)."""
    said = lines.parse(journal[1])
    try:
        if said is None:
            return None
        return {term for term in _terms(said, owners) if len(term.encode()) <= _TERM_BYTES}
    except (KeyError, TypeError, AttributeError, ValueError):
        return None


def _terms(said: lines.Fields, owners: Owners) -> Iterator[str]:
    yield f"kind:{said['kind']}"
    yield f"source_type:{said['source']['type']}"
    yield f"source_event:{said['source']['event']}"
    yield f"day:{said['effective_at'][:10]}"
    yield f"month:{said['effective_at'][:7]}"
    for key, value in said["metadata"].items():
        if isinstance(value, str):
            yield f"meta:{key}={value}"
    for posting in said["postings"]:
        yield f"amount:{posting['currency']}:{abs(int(posting['amount']))}"
        for side in ("debit", "credit"):
            owner = owners.get((posting[side], posting["currency"]))
            if owner is not None:
                yield f"owner:{owner}"
