"""Invariant I8 (quality.md): the bank's book and ours agree one to one on what the bank did for us.

``compare`` is pure; the loaders read the bank's own file and our own tables, and share nothing else.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg import AsyncConnection

from banks.accounts import receivable
from banks.settlement import load_expected
from ledger.read import balances

_CARD = "card"
_MOVES_MONEY = ("capture", "refund")
_APPROVED = "00"


@dataclass(frozen=True, slots=True, order=True)
class Item:
    """A capture or refund as one side has it. ``amount`` in minor units of ``currency``."""

    rail: str
    reference: str
    kind: str
    amount: int
    currency: str


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What stands on one side only, in order of reference; an item that differs stands on both."""

    at_bank: tuple[Item, ...]
    in_books: tuple[Item, ...]

    @property
    def none(self) -> bool:
        return not self.at_bank and not self.in_books


def compare(bank: Iterable[Item], books: Iterable[Item]) -> Leftovers:
    """Take away what both sides have; an item that one side has twice and the other once is left over once."""
    at_bank, in_books = Counter(bank), Counter(books)
    return Leftovers(
        tuple(sorted((at_bank - in_books).elements())), tuple(sorted((in_books - at_bank).elements()))
    )


def load_acquirer_book(path: Path) -> list[Item]:
    """The approved captures and refunds in the simulated acquirer's book (docs/simulator.md).

    A torn last line, which a kill can leave, is not part of the book.
    """
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    lines: list[dict[str, Any]] = [json.loads(line) for line in whole.splitlines()]
    return [
        Item(_CARD, line["rrn"], line["kind"], line["amount"], line["currency"])
        for line in lines
        if line["kind"] in _MOVES_MONEY and line["code"] == _APPROVED
    ]


async def load_our_items(conn: AsyncConnection[Any], book_id: int, bank: str) -> list[Item]:
    """What our books say the bank has approved: entered in one unit with the journal of the same event."""
    expected = await load_expected(conn, book_id, bank)
    return [Item(_CARD, e.rrn, e.kind.value, e.amount, e.currency) for e in expected.values()]


async def unexplained_receivable(conn: AsyncConnection[Any], book_id: int, bank: str) -> dict[str, int]:
    """By currency, what ``Assets:Receivable:{bank}`` holds beyond its open items; only what is not zero.

    Open captures explain what the bank owes us, open refunds what it will keep back; in minor units.
    """
    cursor = await conn.execute(
        "SELECT currency, sum(CASE kind WHEN 'capture' THEN amount ELSE -amount END)::bigint"
        " FROM banks.open_item WHERE book_id = %s AND bank = %s GROUP BY currency",
        (book_id, bank),
    )
    explained: dict[str, int] = dict(await cursor.fetchall())
    path = receivable(bank)
    held = {b.currency: b.posted for b in await balances(conn, book_id, prefix=path) if b.path == path}
    differences = {c: held.get(c, 0) - explained.get(c, 0) for c in held.keys() | explained.keys()}
    return {currency: difference for currency, difference in differences.items() if difference}
