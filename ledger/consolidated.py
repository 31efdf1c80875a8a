"""All books together: their trial balances summed, what they owe each other taken out, what is on the way named.

A book's own numbers order its journals and nobody else's, so a consolidated figure is a figure at one number of each
book. At any choice of numbers, what the clearing accounts between those books do not cancel is exactly what had
been sent and not been received (or received and, as far as the sending book's number goes, not sent yet).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection

from ledger import as_of
from ledger.as_of import AsOf
from ledger.errors import BookUnknown
from ledger.read import TrialBalanceRow
from ledger.transfers import clearing

Net = dict[tuple[str, str], int]  # debits less credits by (path, currency), minor units


@dataclass(frozen=True, slots=True)
class OnTheWay:
    """A transfer that only one of its books had at its number.

    ``net``: what it left on the clearing accounts, debits less credits, minor units. ``early``: received in
    ``to_book`` by its number, but not sent yet by the sending book's.
    """

    transfer_id: UUID
    book_id: int
    to_book: int
    currency: str
    net: int
    early: bool


@dataclass(frozen=True, slots=True)
class Eliminated:
    """A clearing account that was taken out. ``net``: debits less credits, minor units."""

    book_id: int
    path: str
    currency: str
    net: int


@dataclass(frozen=True, slots=True)
class Consolidated:
    """``seqs``: the number of each book. In each currency the debits of ``rows``, less their credits, and the nets of
    ``on_the_way`` sum to zero; ``unexplained`` is what clearing accounts hold beyond them, and empty if all is well.
    """

    seqs: Mapping[int, int]
    rows: tuple[TrialBalanceRow, ...]
    eliminated: tuple[Eliminated, ...]
    on_the_way: tuple[OnTheWay, ...]
    unexplained: Mapping[str, int]


async def consolidated(conn: AsyncConnection[Any], seqs: Mapping[int, int] | None = None) -> Consolidated:
    """The consolidated trial balance of these books, each at its number (None: of every book, at its head).

    ``conn`` must not be in a transaction: everything is read in one snapshot. Raises ``BookUnknown``, and
    ``NotRecorded`` for a number that a book has not reached.
    """
    async with conn.transaction():
        await conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        names, heads = await _books(conn)
        at = dict(heads if seqs is None else seqs)
        for book_id in at:
            if book_id not in names:
                raise BookUnknown(book_id)
        total: Net = defaultdict(int)
        eliminated: list[Eliminated] = []
        for book_id, seq in sorted(at.items()):
            between = {clearing(names[other]) for other in at if other != book_id}
            for (path, currency), net in _nets(
                await as_of.trial_balance(conn, book_id, AsOf(known=seq))
            ).items():
                if path in between:
                    eliminated.append(Eliminated(book_id, path, currency, net))
                else:
                    total[path, currency] += net
        on_the_way = [found for book_id in sorted(at) for found in await _on_the_way(conn, book_id, at)]
    return Consolidated(
        at, _rows(total), tuple(eliminated), tuple(on_the_way), _unexplained(eliminated, on_the_way)
    )


async def _books(conn: AsyncConnection[Any]) -> tuple[dict[int, str], dict[int, int]]:
    rows = await (
        await conn.execute("SELECT book_id, name, head FROM ledger.book ORDER BY book_id")
    ).fetchall()
    return {book_id: name for book_id, name, _ in rows}, {book_id: head for book_id, _, head in rows}


def _nets(rows: Iterable[TrialBalanceRow]) -> Net:
    return {(row.path, row.currency): row.debit - row.credit for row in rows}


def _rows(total: Net) -> tuple[TrialBalanceRow, ...]:
    ordered = sorted(total.items(), key=lambda item: (item[0][1], item[0][0]))
    return tuple(TrialBalanceRow(path, c, max(net, 0), max(-net, 0)) for (path, c), net in ordered)


def _unexplained(eliminated: Iterable[Eliminated], on_the_way: Iterable[OnTheWay]) -> dict[str, int]:
    left: dict[str, int] = defaultdict(int)
    for account in eliminated:
        left[account.currency] += account.net
    for transfer in on_the_way:
        left[transfer.currency] -= transfer.net
    return {currency: net for currency, net in left.items() if net}


# What may have been on the way: not ended; ended later than these numbers; or sent later, and so perhaps early there.
_CANDIDATES = """
SELECT transfer_id, currency, amount, side, sent_seq, state, end_seq FROM ledger.transfer
 WHERE book_id = %(book)s AND to_book = %(to_book)s
   AND (state = 'in_flight' OR (state = 'completed' AND end_seq > %(there)s)
        OR (state = 'returned' AND end_seq > %(here)s) OR sent_seq > %(here)s)
 ORDER BY sent_seq"""
_ARRIVED = """
SELECT transfer_id, received_seq FROM ledger.arrival
 WHERE book_id = %s AND from_book = %s AND transfer_id = ANY(%s) AND received_seq IS NOT NULL"""


async def _on_the_way(conn: AsyncConnection[Any], book_id: int, at: Mapping[int, int]) -> list[OnTheWay]:
    """What ``book_id`` has sent to the others; each book is asked about itself only."""
    found: list[OnTheWay] = []
    for to_book, there in sorted(at.items()):
        if to_book == book_id:
            continue
        given = {"book": book_id, "to_book": to_book, "here": at[book_id], "there": there}
        rows = await (await conn.execute(_CANDIDATES, given)).fetchall()
        # An answer that the sending book has not seen yet counts all the same.
        asked = [row[0] for row in rows if row[5] == "in_flight"]
        arrived: dict[UUID, int] = dict(
            await (await conn.execute(_ARRIVED, [to_book, book_id, asked])).fetchall()
        )
        for transfer_id, currency, amount, side, sent_seq, state, end_seq in rows:
            received_seq = end_seq if state == "completed" else arrived.get(transfer_id)
            returned = state == "returned" and end_seq <= at[book_id]
            sent = sent_seq <= at[book_id] and not returned
            received = received_seq is not None and received_seq <= there
            if sent != received:
                # The sending journal books its clearing account on the other side than ``side``.
                net = (-amount if side == "debit" else amount) * (1 if sent else -1)
                found.append(OnTheWay(transfer_id, book_id, to_book, currency, net, early=received))
    return found
