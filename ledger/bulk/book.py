"""What is known of a book for posting in bulk: its head, and accounts and balances as arrays.

Known as of a version of the book. Whatever else writes the book makes it another version (``ledger.append`` compares),
so none of this is locked or read again; it moves with each batch that is sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, LiteralString
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import ArrayLike, NDArray
from psycopg import AsyncConnection

from ledger.bulk.batches import Paths
from ledger.errors import BookUnknown

NO_FLOOR = -(2**63)
NEVER = 2**63 - 1
_UNKNOWN = -1
_EPOCH, _MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
_ENOUGH = 1 << 10  # the arrays begin with so many accounts

# One snapshot for both: the balances are those of that version. One row at least, if there is such a book.
_BOOK = """
SELECT b.name, 'ledger.posting'::regtype::oid, b.version, b.head, b.recorded_at, b.closed_through, a.*
  FROM ledger.book b LEFT JOIN ledger.find_accounts(%(book)s, %(paths)s, %(holds)s::uuid[], '{}') a ON true
 WHERE b.book_id = %(book)s"""
_OF_BOOK = 6
_ACCOUNTS = "SELECT * FROM ledger.find_accounts(%(book)s, %(paths)s, %(holds)s::uuid[], '{}')"
_HOLDS = "SELECT * FROM ledger.find_holds(%(book)s, %(holds)s::uuid[])"


class _Columns:
    """Arrays of one length, with room to grow."""

    def __init__(self) -> None:
        self.count = 0

    def _append(self, **columns: ArrayLike) -> None:
        """As many to each array as to every other."""
        new = len(next(iter(columns.values())))  # type: ignore[arg-type]
        for name, values in columns.items():
            column: NDArray[Any] = getattr(self, name)
            short = self.count + new - len(column)
            if short > 0:
                room = np.zeros(max(short, len(column)), column.dtype)
                column = np.concatenate([column, room])
                setattr(self, name, column)
            column[self.count : self.count + new] = values
        self.count += new


class Accounts(_Columns):
    """Account n is element n of every array. ``sign``: 1 where a debit raises the balance, -1 where a credit does.

    ``plain``: open and without velocity limits. Amounts in minor units; ``floor`` is ``NO_FLOOR`` where there is none.
    """

    def __init__(self) -> None:
        super().__init__()
        self.path: list[str] = []
        self.currency: NDArray[np.bytes_] = np.zeros(_ENOUGH, "S3")
        self.id: NDArray[np.int32] = np.zeros(_ENOUGH, np.int32)
        self.sign: NDArray[np.int64] = np.zeros(_ENOUGH, np.int64)
        self.floor: NDArray[np.int64] = np.zeros(_ENOUGH, np.int64)
        self.seq: NDArray[np.int64] = np.zeros(_ENOUGH, np.int64)
        self.posted: NDArray[np.int64] = np.zeros(_ENOUGH, np.int64)
        self.outgoing: NDArray[np.int64] = np.zeros(_ENOUGH, np.int64)
        self.incoming: NDArray[np.int64] = np.zeros(_ENOUGH, np.int64)
        self.plain: NDArray[np.bool_] = np.zeros(_ENOUGH, np.bool_)
        self.largest_sum = 0  # no gross sum of any account exceeds it
        self._number: dict[tuple[str, str], int] = {}
        self._of_paths: WeakKeyDictionary[Paths, dict[str, NDArray[np.int32]]] = WeakKeyDictionary()

    def numbers(self, paths: Paths, currency: str) -> NDArray[np.int32]:
        """The number of the account at each place of ``paths``; -1 where it is not known (yet)."""
        of_currency = self._of_paths.setdefault(paths, {})
        found = of_currency.get(currency)
        if found is None:
            known = [self._number.get((path, currency), _UNKNOWN) for path in paths]
            found = of_currency[currency] = np.array(known, np.int32)
        return found

    def look_again(self, paths: Paths, currency: str, among: Sequence[str]) -> None:
        """For the accounts of these paths, which were not known."""
        numbers = self.numbers(paths, currency)
        for path in among:
            numbers[paths.place(path)] = self.number(path, currency)

    def add(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Rows of ``find_accounts``, each the first of its account: what is known is ahead of what is read."""
        new = list({row[0]: row for row in rows if (row[1], row[2]) not in self._number}.values())
        if not new:
            return
        ids, paths, currencies, debit_normal, status, floors, limits, seqs, *sums = zip(*new, strict=True)
        debits, credits, pending_debits, pending_credits = (np.array(column, np.int64) for column in sums)
        raised_by_debit = np.array(debit_normal, np.bool_)
        sign = np.where(raised_by_debit, 1, -1)
        numbers = range(self.count, self.count + len(new))
        self._number.update(zip(zip(paths, currencies, strict=True), numbers, strict=True))
        self.path += paths
        self.largest_sum = max(self.largest_sum, *(max(column) for column in sums))
        self._append(
            id=ids,
            currency=[currency.encode() for currency in currencies],
            sign=sign,
            floor=[NO_FLOOR if floor is None else floor for floor in floors],
            seq=seqs,
            posted=(debits - credits) * sign,
            outgoing=np.where(raised_by_debit, pending_credits, pending_debits),
            incoming=np.where(raised_by_debit, pending_debits, pending_credits),
            plain=[s == "open" and not n for s, n in zip(status, limits, strict=True)],
        )

    def number(self, path: str, currency: str) -> int:
        """-1 if it is not known."""
        return self._number.get((path, currency), _UNKNOWN)


class Holds(_Columns):
    """Hold n is element n of every array. ``debit``, ``credit``: numbers of its accounts.

    ``whole``: what it holds, if nothing was done to it since it was placed, or else 0. ``expires_at``: microseconds
    since 1970, ``NEVER`` where there is no such time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.debit: NDArray[np.int32] = np.zeros(_ENOUGH, np.int32)
        self.credit: NDArray[np.int32] = np.zeros(_ENOUGH, np.int32)
        self.whole: NDArray[np.int64] = np.zeros(_ENOUGH, np.int64)
        self.expires_at: NDArray[np.int64] = np.zeros(_ENOUGH, np.int64)
        self._number: dict[bytes, int] = {}

    def numbers(self, ids: NDArray[np.uint8]) -> NDArray[np.int32]:
        """The number of each hold; -1 where it is not known."""
        return np.array([self._number.get(id_, _UNKNOWN) for id_ in each(ids)], np.int32)

    def add(
        self,
        ids: Sequence[bytes],
        debit: ArrayLike,
        credit: ArrayLike,
        whole: ArrayLike,
        expires_at: Sequence[int] | NDArray[np.int64],
    ) -> None:
        """Holds that are not known yet."""
        self._number.update(zip(ids, range(self.count, self.count + len(ids)), strict=True))
        self._append(debit=debit, credit=credit, whole=whole, expires_at=expires_at)


def each(ids: NDArray[np.uint8]) -> list[bytes]:
    whole = ids.tobytes()
    return [whole[at : at + 16] for at in range(0, len(whole), 16)]


def micros(at: datetime | None) -> int:
    """Since 1970; ``NEVER`` if it is none."""
    return NEVER if at is None else (at - _EPOCH) // _MICROSECOND


@dataclass(slots=True)
class Known:
    """A book as of ``version``, which nobody may have written yet: a batch that leads there may be under way.

    ``follows``: the version that such a batch was decided upon, None if there is none. ``posting_type``: the oid of the
    row type of ``ledger.posting`` in this database.
    """

    book_id: int
    book: str
    posting_type: int
    version: int
    head: int
    recorded_at: datetime
    closed_through: date | None
    accounts: Accounts = field(default_factory=Accounts)
    holds: Holds = field(default_factory=Holds)
    follows: int | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a batch touches that is not known: paths of accounts, ids of holds (with their accounts)."""

    paths: Sequence[str] = ()
    holds: Sequence[bytes] = ()

    def __bool__(self) -> bool:
        return bool(self.paths or self.holds)


async def load(conn: AsyncConnection[Any], book_id: int, wanted: Wanted) -> Known:
    """The book as it is, and of what is wanted whatever there is. Raises ``BookUnknown``.

    Two reads if there are holds: outside the book's lock the second may see a later book. As ``load_more``.
    """
    rows = await _fetch(conn, _BOOK, book_id, wanted)
    if not rows:
        raise BookUnknown(book_id)
    name, posting_type, version, head, recorded_at, closed_through = rows[0][:_OF_BOOK]
    at = recorded_at.astimezone(UTC)  # it comes in the session's zone
    known = Known(book_id, name, posting_type, version, head, at, closed_through)
    known.accounts.add([row[_OF_BOOK:] for row in rows if row[_OF_BOOK] is not None])
    await _load_holds(conn, known, wanted)
    return known


async def load_more(conn: AsyncConnection[Any], known: Known, wanted: Wanted) -> None:
    """Add what is wanted: no batch that is under way can touch it, for none was decided upon it.

    If somebody else has written the book since, what is decided upon it is refused when it is posted.
    """
    known.accounts.add(await _fetch(conn, _ACCOUNTS, known.book_id, wanted))
    await _load_holds(conn, known, wanted)


async def _load_holds(conn: AsyncConnection[Any], known: Known, wanted: Wanted) -> None:
    number = known.accounts.number
    rows = await _fetch(conn, _HOLDS, known.book_id, wanted) if wanted.holds else []
    # Without those that were placed since the accounts were read.
    rows = [row for row in rows if number(row[1], row[3]) >= 0 and number(row[2], row[3]) >= 0]
    if not rows:
        return
    ids, debits, credits, currencies, _, expiries, held, *done = zip(*rows, strict=True)
    known.holds.add(
        [id_.bytes for id_ in ids],
        [number(path, currency) for path, currency in zip(debits, currencies, strict=True)],
        [number(path, currency) for path, currency in zip(credits, currencies, strict=True)],
        np.where(np.array(done, np.int64).any(axis=0), 0, np.array(held, np.int64)),
        [micros(at) for at in expiries],
    )


async def _fetch(
    conn: AsyncConnection[Any], sql: LiteralString, book_id: int, wanted: Wanted
) -> list[tuple[Any, ...]]:
    cursor = conn.cursor(binary=True)
    holds = "{" + ",".join([id_.hex() for id_ in wanted.holds]) + "}"
    await cursor.execute(sql, {"book": book_id, "paths": "\n".join(wanted.paths), "holds": holds})
    return await cursor.fetchall()
