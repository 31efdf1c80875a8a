"""What is known of a book for posting in bulk: its head, and accounts and balances as arrays.

Known as of a version of the book. Whatever else writes the book makes it another version (``ledger.append`` compares),
so none of this is locked or read again; it moves with each batch that is sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, LiteralString
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from psycopg import AsyncConnection

from ledger.bulk.transfers import Paths
from ledger.errors import BookUnknown

NO_FLOOR = -(2**63)
_UNKNOWN = -1
_ENOUGH = 1 << 10  # the arrays begin with so many accounts

# One snapshot for both: the balances are those of that version. One row at least, if there is such a book.
_BOOK = """
SELECT b.name, 'ledger.posting'::regtype::oid, b.version, b.head, b.recorded_at, b.closed_through, a.*
  FROM ledger.book b LEFT JOIN ledger.find_accounts(%(book)s, %(paths)s, '{}', '{}') a ON true
 WHERE b.book_id = %(book)s"""
_OF_BOOK = 6
_ACCOUNTS = "SELECT * FROM ledger.find_accounts(%(book)s, %(paths)s, '{}', '{}')"


class Accounts:
    """Account n is element n of every array. ``sign``: 1 where a debit raises the balance, -1 where a credit does.

    ``plain``: open and without velocity limits. Amounts in minor units; ``floor`` is ``NO_FLOOR`` where there is none.
    """

    def __init__(self) -> None:
        self.count = 0
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

    def missing(self, paths: Paths, currency: str, places: NDArray[np.int32]) -> NDArray[np.int32]:
        """Those of ``places`` whose account is not known."""
        numbers = self.numbers(paths, currency)
        return np.unique(places[numbers[places] == _UNKNOWN])

    def find(self, paths: Paths, currency: str, places: NDArray[np.int32]) -> None:
        """Look again for the accounts at ``places``."""
        numbers = self.numbers(paths, currency)
        for place in places.tolist():
            numbers[place] = self._number.get((paths[place], currency), _UNKNOWN)

    def add(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Rows of ``find_accounts``, each the first of its account: what is known is ahead of what is read."""
        new = [row for row in rows if (row[1], row[2]) not in self._number]
        if not new:
            return
        begin, end = self.count, self.count + len(new)
        self._make_room(end)
        ids, paths, currencies, debit_normal, status, floors, limits, seqs, *sums = zip(*new, strict=True)
        debits, credits, pending_debits, pending_credits = (np.array(column, np.int64) for column in sums)
        raised_by_debit = np.array(debit_normal, np.bool_)
        here = slice(begin, end)
        self.id[here] = ids
        self.sign[here] = np.where(raised_by_debit, 1, -1)
        self.floor[here] = [NO_FLOOR if floor is None else floor for floor in floors]
        self.seq[here] = seqs
        self.posted[here] = (debits - credits) * self.sign[here]
        self.outgoing[here] = np.where(raised_by_debit, pending_credits, pending_debits)
        self.incoming[here] = np.where(raised_by_debit, pending_debits, pending_credits)
        self.plain[here] = [s == "open" and not n for s, n in zip(status, limits, strict=True)]
        self.largest_sum = max(self.largest_sum, *(int(np.max(np.array(c, np.int64))) for c in sums))
        self._number.update(zip(zip(paths, currencies, strict=True), range(begin, end), strict=True))
        self.count = end

    def _make_room(self, needed: int) -> None:
        size = len(self.id)
        if needed <= size:
            return
        grown = max(needed, 2 * size) - size
        for name in ("id", "sign", "floor", "seq", "posted", "outgoing", "incoming", "plain"):
            column: NDArray[Any] = getattr(self, name)
            setattr(self, name, np.concatenate([column, np.zeros(grown, column.dtype)]))


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
    follows: int | None = None


async def load(conn: AsyncConnection[Any], book_id: int, paths: Sequence[str]) -> Known:
    """The book as it is, and the accounts of ``paths``. Raises ``BookUnknown``."""
    rows = await _fetch(conn, _BOOK, book_id, paths)
    if not rows:
        raise BookUnknown(book_id)
    name, posting_type, version, head, recorded_at, closed_through = rows[0][:_OF_BOOK]
    at = recorded_at.astimezone(UTC)  # it comes in the session's zone
    known = Known(book_id, name, posting_type, version, head, at, closed_through)
    known.accounts.add([row[_OF_BOOK:] for row in rows if row[_OF_BOOK] is not None])
    return known


async def load_more(conn: AsyncConnection[Any], known: Known, paths: Sequence[str]) -> None:
    """Add the accounts of ``paths``: no batch that is under way can touch them, for none was decided upon them.

    If somebody else has written the book since, what is decided upon them is refused when it is posted.
    """
    known.accounts.add(await _fetch(conn, _ACCOUNTS, known.book_id, paths))


async def _fetch(
    conn: AsyncConnection[Any], sql: LiteralString, book_id: int, paths: Sequence[str]
) -> list[tuple[Any, ...]]:
    cursor = conn.cursor(binary=True)
    await cursor.execute(sql, {"book": book_id, "paths": "\n".join(paths)})
    return await cursor.fetchall()
