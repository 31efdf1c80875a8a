"""Transfers between books: two journals, one in each, never one transaction and never two locks (docs/adr/0030).

    send      sending book:   account      against  Assets:Clearing:Book:{receiving book};  in flight
    receive   receiving book: to_account   against  Assets:Clearing:Book:{sending book},    or its refusal, recorded
    end       sending book:   completed; or, when refused, a journal gives the amount back:  returned

Each step is one transaction in one book and is safe to do again: the journals' source keys and the receiving book's
one answer (``ledger.arrival``) decide. Whoever finds a transfer in flight may carry it to its end (``recover``).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from uuid import UUID

import psycopg
from psycopg import AsyncConnection

from ledger.back_off import BackOff
from ledger.books import open_accounts
from ledger.errors import (
    BookUnknown,
    DatabaseRefused,
    LedgerError,
    Refusal,
    StatementRefused,
    TransferUnknown,
)
from ledger.model import (
    Journal,
    NewAccount,
    Posted,
    Posting,
    Source,
    Statement,
    Unit,
    check,
    check_amount,
    check_currency,
    check_path,
)
from ledger.read import balance
from ledger.writer import Clock, Writer

CLEARING = "Assets:Clearing:Book"
LONGEST_PATH = 200  # it travels in a journal's metadata

_RECORD = (
    "SELECT ledger.record_transfer(%(book)s, %(id)s, %(to_book)s, %(side)s, %(account)s, %(to_account)s,"
    " %(amount)s, %(currency)s)"
)
_ARRIVE = "SELECT ledger.record_arrival(%(book)s, %(from_book)s, %(id)s, %(reason)s)"
_END = "SELECT ledger.end_transfer(%(book)s, %(id)s, %(seq)s, %(reason)s)"
_SELECT = """
SELECT transfer_id, book_id, to_book, account, to_account, amount, currency, side, sent_seq, state, end_seq, reason
  FROM ledger.transfer WHERE book_id = %s"""
# Of what is to be carried only what names it: each is read by itself, so that one unreadable row stops no other.
_DUE = """
SELECT transfer_id, sent_seq FROM ledger.transfer
 WHERE book_id = %s AND state = 'in_flight' AND sent_seq > %s ORDER BY sent_seq LIMIT %s"""


class Side(StrEnum):
    """Where ``account`` stands in the sending journal; ``to_account`` stands on the other in the receiving one."""

    DEBIT = "debit"
    CREDIT = "credit"


class TransferState(StrEnum):
    IN_FLIGHT = "in_flight"
    COMPLETED = "completed"
    RETURNED = "returned"


@dataclass(frozen=True, slots=True)
class Transfer:
    """``amount`` minor units of ``currency`` from ``account`` of book ``book_id`` to ``to_account`` of ``to_book``.

    A claim on us moves with ``Side.DEBIT`` (a wallet is debited here, another credited there), what we own with
    ``Side.CREDIT`` (money at the bank). ``id`` is unique in the sending book.
    """

    id: UUID
    book_id: int
    to_book: int
    account: str
    to_account: str
    amount: int
    currency: str
    side: Side = Side.DEBIT

    def __post_init__(self) -> None:
        check(self.book_id != self.to_book, "to_book", "the book it comes from")
        check_amount(self.amount)
        check_currency(self.currency)
        for name, path in (("account", self.account), ("to_account", self.to_account)):
            check_path(path, name)
            check(len(path) <= LONGEST_PATH, name, f"longer than {LONGEST_PATH}")
            check(not path.startswith(f"{CLEARING}:"), name, "is moved by transfers alone")

    @property
    def source_id(self) -> str:
        """The same in both books."""
        return f"{self.book_id}/{self.id}"


@dataclass(frozen=True, slots=True)
class TransferView:
    """A transfer as it stands. ``end_seq``: the journal that ended it, of ``to_book`` if completed, of the sending
    book if returned; ``reason``: the code of the refusal that sent it back.
    """

    transfer: Transfer
    sent_seq: int
    state: TransferState
    end_seq: int | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Arrival:
    """The receiving book's answer: its journal ``received_seq``, or ``reason``, the code of its refusal."""

    received_seq: int | None
    reason: str | None


def clearing(other_book: str) -> str:
    """What the book of that name owes this one; negative: this one owes it. Over all books, what is in flight."""
    return f"{CLEARING}:{other_book}"


def suspense(side: Side) -> str:
    """Where a returned amount waits when its account takes it no more."""
    return f"{'Liabilities' if side is Side.DEBIT else 'Assets'}:Suspense:Returns"


# ---------------------------------------------------------------- the units of each step


def sending(t: Transfer, to_name: str, journal_id: UUID, description: str = "") -> Unit:
    """The sending book's journal and the record of the transfer. ``to_name``: the receiving book's."""
    journal = Journal(
        id=journal_id,
        kind="transfer_sent",
        source=Source("transfer", t.source_id, "sent"),
        postings=(_posting(t, t.account, clearing(to_name), t.side),),
        description=description,
        metadata={"to_account": t.to_account, "to_book": to_name},
    )
    terms = {"book": t.book_id, "id": t.id, "to_book": t.to_book, "side": t.side.value}
    terms |= {"account": t.account, "to_account": t.to_account, "amount": t.amount, "currency": t.currency}
    return Unit((journal,), (Statement(_RECORD, terms),))


def receiving(t: Transfer, from_name: str, journal_id: UUID) -> Unit:
    """The receiving book's journal and its answer. ``from_name``: the sending book's."""
    other = Side.CREDIT if t.side is Side.DEBIT else Side.DEBIT
    journal = Journal(
        id=journal_id,
        kind="transfer_received",
        source=Source("transfer", t.source_id, "received"),
        postings=(_posting(t, t.to_account, clearing(from_name), other),),
        metadata={"from_account": t.account, "from_book": from_name},
    )
    answer = {"book": t.to_book, "from_book": t.book_id, "id": t.id, "reason": None}
    return Unit((journal,), (Statement(_ARRIVE, answer),))


def returning(t: Transfer, to_name: str, reason: str, account: str, journal_id: UUID) -> Unit:
    """The amount back to ``account`` of the sending book, and the end of the transfer."""
    other = Side.CREDIT if t.side is Side.DEBIT else Side.DEBIT
    journal = Journal(
        id=journal_id,
        kind="transfer_returned",
        source=Source("transfer", t.source_id, "returned"),
        postings=(_posting(t, account, clearing(to_name), other),),
        metadata={"reason": reason, "to_book": to_name},
    )
    end = {"book": t.book_id, "id": t.id, "seq": None, "reason": reason}
    return Unit((journal,), (Statement(_END, end),))


def _posting(t: Transfer, account: str, against: str, side: Side) -> Posting:
    debit, credit = (account, against) if side is Side.DEBIT else (against, account)
    return Posting(debit, credit, t.amount, t.currency)


# ---------------------------------------------------------------- reading


async def find(conn: AsyncConnection[Any], book_id: int, transfer_id: UUID) -> TransferView | None:
    """A transfer by its sending book and id."""
    cursor = await conn.execute(_SELECT + " AND transfer_id = %s", [book_id, transfer_id])
    row = await cursor.fetchone()
    return None if row is None else view(row)


async def known(conn: AsyncConnection[Any], book_id: int, transfer_id: UUID) -> TransferView:
    """As ``find``; raises ``TransferUnknown``."""
    found = await find(conn, book_id, transfer_id)
    if found is None:
        raise TransferUnknown(book_id, transfer_id)
    return found


async def in_flight(
    conn: AsyncConnection[Any], book_id: int, *, after_seq: int = 0, limit: int = 100
) -> list[TransferView]:
    """What a book has sent and not seen the end of, the oldest first."""
    sql = _SELECT + " AND state = 'in_flight' AND sent_seq > %s ORDER BY sent_seq LIMIT %s"
    cursor = await conn.execute(sql, [book_id, after_seq, limit])
    return [view(row) for row in await cursor.fetchall()]


async def find_arrival(conn: AsyncConnection[Any], t: Transfer) -> Arrival | None:
    """The receiving book's answer, if it has given one."""
    cursor = await conn.execute(
        "SELECT received_seq, reason FROM ledger.arrival WHERE book_id = %s AND from_book = %s AND transfer_id = %s",
        [t.to_book, t.book_id, t.id],
    )
    row = await cursor.fetchone()
    return None if row is None else Arrival(*row)


async def book_names(conn: AsyncConnection[Any], book_ids: Iterable[int]) -> dict[int, str]:
    """Raises ``BookUnknown`` for the first that is not there."""
    wanted = list(book_ids)
    cursor = await conn.execute("SELECT book_id, name FROM ledger.book WHERE book_id = ANY(%s)", [wanted])
    names: dict[int, str] = dict(await cursor.fetchall())
    for book_id in wanted:
        if book_id not in names:
            raise BookUnknown(book_id)
    return names


def view(row: tuple[Any, ...]) -> TransferView:
    """A row of ``_SELECT``."""
    id_, book_id, to_book, account, to_account, amount, currency, side, sent_seq, state, end_seq, reason = row
    terms = Transfer(id_, book_id, to_book, account, to_account, amount, currency, Side(side))
    return TransferView(terms, sent_seq, TransferState(state), end_seq, reason)


# ---------------------------------------------------------------- the steps


@dataclass(frozen=True)
class Transfers:
    """Carries transfers. ``writers`` gives the writer of a book; ``connect`` a connection in a transaction that is
    committed at the end of its block; ``ids`` makes ids of journals.
    """

    writers: Callable[[int], Writer]
    connect: Callable[[], AbstractAsyncContextManager[AsyncConnection[Any]]]
    ids: Callable[[], UUID]
    clock: Clock
    back_off: BackOff = field(default_factory=BackOff, compare=False)

    async def send(self, t: Transfer, description: str = "") -> TransferView | Refusal:
        """Send and carry to its end. The same transfer again gives it as it stands.

        A ``Refusal`` is the sending book's, nothing was sent; the receiving book's gives a transfer returned.
        Raises ``BookUnknown``, and what ``Writer.submit`` raises: whether it was sent is unknown, send it again.
        """
        unit = await self.prepare(t, description)
        result = await self.writers(t.book_id).submit(unit)
        return result if isinstance(result, Refusal) else await self.carry(t.book_id, t.id)

    async def prepare(self, t: Transfer, description: str = "") -> Unit:
        """The unit to submit to the sending book; its clearing account is open then."""
        async with self.connect() as conn:
            names = await book_names(conn, (t.book_id, t.to_book))
        await self._open(t.book_id, clearing(names[t.to_book]), t.currency)
        return sending(t, names[t.to_book], self.ids(), description)

    async def carry(self, book_id: int, transfer_id: UUID) -> TransferView:
        """Take a transfer that was sent to its end; as it is then. Raises ``TransferUnknown``.

        It may still be in flight when the sending book cannot take it back now (its period is closed). Any number
        may do this at once.
        """
        async with self.connect() as conn:
            found = await known(conn, book_id, transfer_id)
            names = await book_names(conn, (found.transfer.book_id, found.transfer.to_book))
            answer = await find_arrival(conn, found.transfer)
        if found.state is not TransferState.IN_FLIGHT:
            return found
        t = found.transfer
        answer = answer or await self._receive(t, names[book_id])
        if answer.reason is None:
            await self._complete(t, answer)
        else:
            await self._return(t, names[t.to_book], answer.reason)
        async with self.connect() as conn:
            return await known(conn, book_id, transfer_id)

    async def recover(self, *, limit: int | None = None, page: int = 100) -> int:
        """Carry the transfers in flight of every book, the oldest first, at most ``limit``; how many ended.

        One that fails, even to be read, stays in flight and stops no other; the first failure is raised when all
        have been tried. What stays is left alone for a while by this object: a second, then twice as long each time.
        """
        self.back_off.forget(self.clock())
        ended, failures = 0, list[Exception]()
        for which in await self._due(limit, page):
            try:
                if (await self.carry(*which)).state is not TransferState.IN_FLIGHT:
                    ended += 1
                    continue
            except (LedgerError, psycopg.Error) as error:
                failures.append(error)
            self.back_off.in_vain(which, self.clock())
        if failures:
            raise failures[0]
        return ended

    async def _due(self, limit: int | None, page: int) -> list[tuple[int, UUID]]:
        """What to carry, by sending book and id."""
        async with self.connect() as conn:
            cursor = await conn.execute("SELECT book_id FROM ledger.book ORDER BY book_id")
            books = [row[0] for row in await cursor.fetchall()]
        now, due = self.clock(), list[tuple[int, UUID]]()
        for book_id in books:
            async for transfer_id in self._in_flight(book_id, page):
                if len(due) == limit:
                    return due
                if self.back_off.due((book_id, transfer_id), now):
                    due.append((book_id, transfer_id))
        return due

    async def _in_flight(self, book_id: int, page: int) -> AsyncGenerator[UUID]:
        after, due = 0, list[tuple[UUID, int]]()
        while after == 0 or len(due) == page:
            async with self.connect() as conn:
                due = await (await conn.execute(_DUE, [book_id, after, page])).fetchall()
            for transfer_id, _ in due:
                yield transfer_id
            if not due:
                return
            after = due[-1][1]

    async def _receive(self, t: Transfer, from_name: str) -> Arrival:
        await self._open(t.to_book, clearing(from_name), t.currency)
        result = await self.writers(t.to_book).submit(receiving(t, from_name, self.ids()))
        # A statement refused: somebody has given the answer meanwhile, it is the one that stands.
        if isinstance(result, Refusal) and not isinstance(result, StatementRefused):
            await self._refuse(t, result.code)
        async with self.connect() as conn:
            answer = await find_arrival(conn, t)
        if answer is None:
            assert isinstance(result, StatementRefused)
            raise result
        return answer

    async def _refuse(self, t: Transfer, reason: str) -> None:
        """Make the refusal the receiving book's answer, before anything is given back: it cannot be received now."""
        given = {"book": t.to_book, "from_book": t.book_id, "id": t.id, "reason": reason}
        try:
            async with self.connect() as conn:
                await conn.execute(_ARRIVE, given)
        except psycopg.DatabaseError as error:
            if not isinstance(error, psycopg.errors.UniqueViolation) and error.sqlstate != "KH033":
                raise
            async with self.connect() as conn:
                if await find_arrival(conn, t) is None:
                    raise DatabaseRefused(error.sqlstate or "", str(error)) from error

    async def _complete(self, t: Transfer, answer: Arrival) -> None:
        async with self.connect() as conn:
            end = {"book": t.book_id, "id": t.id, "seq": answer.received_seq, "reason": None}
            await conn.execute(_END, end)

    async def _return(self, t: Transfer, to_name: str, reason: str) -> None:
        """Back to its account; to suspense if that takes it no more; later if neither does."""
        writer = self.writers(t.book_id)
        result = await writer.submit(returning(t, to_name, reason, t.account, self.ids()))
        if not isinstance(result, Posted):
            await self._open(t.book_id, suspense(t.side), t.currency)
            await writer.submit(returning(t, to_name, reason, suspense(t.side), self.ids()))

    async def _open(self, book_id: int, path: str, currency: str) -> None:
        """Looked for first: opening takes the book's lock."""
        async with self.connect() as conn:
            if await balance(conn, book_id, path, currency) is None:
                await open_accounts(conn, book_id, [NewAccount(path, currency)], now=self.clock())
