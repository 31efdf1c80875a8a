"""A book's past, recomputed in plain Python from the canonical lines of its journals alone."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, NamedTuple

from psycopg import AsyncConnection

Account = tuple[str, str]  # path, currency


class Entry(NamedTuple):
    """A journal: ``postings`` are (debit, credit, amount, currency, layer)."""

    seq: int
    day: date
    recorded_at: datetime
    postings: tuple[tuple[str, str, int, str, str], ...]


class Line(NamedTuple):
    """One account's side of a posting; ``amount`` is signed by the normal side."""

    day: date
    seq: int
    line: int
    amount: int
    layer: str


@dataclass
class Sums:
    posted_debits: int = 0
    posted_credits: int = 0
    pending_debits: int = 0
    pending_credits: int = 0

    def figures(self, path: str) -> tuple[int, int, int]:
        """posted, pending in, pending out."""
        posted = self.posted_debits - self.posted_credits
        if path.startswith(("Assets:", "Expenses:")):
            return posted, self.pending_debits, self.pending_credits
        return -posted, self.pending_credits, self.pending_debits


class History(NamedTuple):
    accounts: tuple[Account, ...]
    entries: tuple[Entry, ...]

    def until(self, day: date | None, known: int | datetime | None) -> Iterator[Entry]:
        for entry in self.entries:
            seen = (
                entry.recorded_at <= known
                if isinstance(known, datetime)
                else known is None or entry.seq <= known
            )
            if seen and (day is None or entry.day <= day):
                yield entry

    def sums(self, day: date | None, known: int | datetime | None) -> dict[Account, Sums]:
        """Of the accounts that have lines by then."""
        return sums(self.until(day, known))

    def lines(self, account: Account, first: date, last: date, known: int) -> list[Line]:
        """By day, then as recorded."""
        path, currency = account
        sign = 1 if path.startswith(("Assets:", "Expenses:")) else -1
        found = [
            Line(entry.day, entry.seq, number, amount * (sign if path == debit else -sign), layer)
            for entry in self.until(last, known)
            if entry.day >= first
            for number, (debit, credit, amount, of, layer) in enumerate(entry.postings, start=1)
            if of == currency and path in (debit, credit)
        ]
        return sorted(found)


def sums(entries: Iterable[Entry]) -> dict[Account, Sums]:
    found: dict[Account, Sums] = defaultdict(Sums)
    for entry in entries:
        for debit, credit, amount, currency, layer in entry.postings:
            for path, side in ((debit, "debits"), (credit, "credits")):
                account, name = found[path, currency], f"{layer}_{side}"
                setattr(account, name, getattr(account, name) + amount)
    return dict(found)


async def history(conn: AsyncConnection[Any], book_id: int) -> History:
    cursor = await conn.execute(
        "SELECT path, currency FROM ledger.account WHERE book_id = %s ORDER BY path, currency", [book_id]
    )
    accounts = await cursor.fetchall()
    cursor = await conn.execute(
        "SELECT seq, recorded_at, canonical FROM ledger.journal WHERE book_id = %s ORDER BY seq", [book_id]
    )
    return History(tuple(accounts), tuple([_entry(*row) for row in await cursor.fetchall()]))


def _entry(seq: int, recorded_at: datetime, canonical: str) -> Entry:
    said = json.loads(canonical)
    postings = tuple(
        (p["debit"], p["credit"], int(p["amount"]), p["currency"], p["layer"]) for p in said["postings"]
    )
    return Entry(seq, date.fromisoformat(said["effective_at"][:10]), recorded_at, postings)
