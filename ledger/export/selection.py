"""Which journals an export is about, and what stood before and after them.

A **whole** selection takes every journal of a range. One about an owner or an account takes the journals that touch an
account of theirs, each with all its lines, so that it still sums to zero and its canonical line is still the preimage
of its leaf; opening and closing balances are then those of the accounts asked about alone.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from operator import itemgetter
from typing import Any

import orjson
from psycopg import AsyncConnection

from ledger.as_of import known_seq
from ledger.errors import AccountUnknown, BookUnknown, InvalidEntry
from ledger.export.errors import BookAltered
from ledger.export.rows import Names, check_count, check_journal, check_leaf, check_posting, learn

PAGE = 1000
_INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Journals ``after_seq`` < seq ≤ ``through_seq`` (None: the head as of now). ``owner``: a merchant's. ``account``:
    a path's, in all its currencies or in ``currency``. ``proved``: whoever asks has held the rows against their lines
    already, in the same snapshot."""

    after_seq: int = 0
    through_seq: int | None = None
    owner: str | None = None
    account: str | None = None
    currency: str | None = None
    proved: bool = False


EVERYTHING = Selection()


async def recorded_days(
    conn: AsyncConnection[Any], book_id: int, first: date | None, until: date | None
) -> tuple[int, int]:
    """``after_seq`` and ``through_seq`` of the journals recorded on UTC days ``first`` ≤ day < ``until``.

    None: no bound. By number, since the clock of a book never goes back. Raises ``InvalidEntry`` when the days are no
    period.
    """
    if first is not None and until is not None and first >= until:
        raise InvalidEntry("until", f"{until} is not after {first}")
    after = 0 if first is None else await known_seq(conn, book_id, _before(first))
    return after, await known_seq(conn, book_id, None if until is None else _before(until))


def _before(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC) - _INSTANT


@dataclass(frozen=True, slots=True)
class Chosen:
    """A selection as it is in a book now. ``accounts``: the numbers of those asked about; None: every account.

    ``first_day``, ``last_day``: UTC days on which the first and the last journal of the range were recorded; of an
    empty range both are the day of the journal before it (of an empty book: of the book's clock).
    """

    book_id: int
    book: str
    after_seq: int
    through_seq: int
    accounts: list[int] | None
    first_day: date
    last_day: date
    next_at: datetime | None  # when the journal after the range was recorded
    proved: bool

    @property
    def whole(self) -> bool:
        return self.accounts is None

    @property
    def empty(self) -> bool:
        return self.after_seq >= self.through_seq


_BOOK = "SELECT name, head, recorded_at FROM ledger.book WHERE book_id = %s"
_TIMES = "SELECT seq, recorded_at FROM ledger.journal WHERE book_id = %s AND seq = ANY(%s)"


async def choose(conn: AsyncConnection[Any], book_id: int, selection: Selection) -> Chosen:
    """Raises ``BookUnknown``; ``AccountUnknown``, ``InvalidEntry`` where nobody of that name owns an account."""
    book = await (await conn.execute(_BOOK, [book_id])).fetchone()
    if book is None:
        raise BookUnknown(book_id)
    name, head = book[:2]
    clock: datetime = book[2]  # the day of an empty book
    through = head if selection.through_seq is None else min(selection.through_seq, head)
    after = min(selection.after_seq, through)
    first = min(after + 1, through)
    wanted = [first, through, through + 1]
    times: dict[int, datetime] = dict(await (await conn.execute(_TIMES, [book_id, wanted])).fetchall())
    first_day, last_day = (_day(times.get(seq, clock)) for seq in (first, through))
    accounts = await _accounts(conn, book_id, selection)
    next_at = times.get(through + 1)
    proved = selection.proved
    return Chosen(book_id, name, after, through, accounts, first_day, last_day, next_at, proved)


def _day(at: datetime) -> date:
    return at.astimezone(UTC).date()


_ACCOUNTS = """
SELECT account_id FROM ledger.account
 WHERE book_id = %(book)s AND (%(owner)s::text IS NULL OR owner = %(owner)s)
   AND (%(account)s::text IS NULL OR path = %(account)s) AND (%(currency)s::text IS NULL OR currency = %(currency)s)
 ORDER BY account_id"""


async def _accounts(conn: AsyncConnection[Any], book_id: int, selection: Selection) -> list[int] | None:
    owner, account, currency = selection.owner, selection.account, selection.currency
    if owner is None and account is None:
        if currency is not None:
            raise InvalidEntry("currency", "comes with an account or an owner")
        return None
    given = {"book": book_id, "owner": owner, "account": account, "currency": currency}
    found = [id_ for (id_,) in await (await conn.execute(_ACCOUNTS, given)).fetchall()]
    if not found and account is not None:
        raise AccountUnknown(account, currency or "any currency")
    if not found:
        raise InvalidEntry("owner", f"{owner!r} owns no account")
    return found


# ---------------------------------------------------------------- the journals

_LINES = """
SELECT j.seq, j.id::text, j.kind, j.source_type, j.source_id, j.source_event, j.effective_at, j.recorded_at,
       j.reverses, j.lines, convert_to(j.canonical, 'UTF8'), j.leaf_hash
  FROM ledger.journal j
 WHERE j.book_id = %(book)s AND j.seq > %(after)s AND j.seq <= %(through)s ORDER BY j.seq LIMIT %(page)s"""
# By each account's own index, as many of each as a page holds: the first of them all are among these.
_TOUCHING = """
SELECT j.seq, j.id::text, j.kind, j.source_type, j.source_id, j.source_event, j.effective_at, j.recorded_at,
       j.reverses, j.lines, convert_to(j.canonical, 'UTF8'), j.leaf_hash
  FROM (
  SELECT DISTINCT touched.seq FROM unnest(%(accounts)s::int[]) AS a(id), LATERAL (
    (SELECT DISTINCT p.journal_seq AS seq FROM ledger.posting p
      WHERE p.book_id = %(book)s AND p.debit_account = a.id
        AND p.journal_seq > %(after)s AND p.journal_seq <= %(through)s
      ORDER BY p.journal_seq LIMIT %(page)s)
    UNION ALL
    (SELECT DISTINCT p.journal_seq FROM ledger.posting p
      WHERE p.book_id = %(book)s AND p.credit_account = a.id
        AND p.journal_seq > %(after)s AND p.journal_seq <= %(through)s
      ORDER BY p.journal_seq LIMIT %(page)s)) AS touched
   ORDER BY touched.seq LIMIT %(page)s) AS s
  JOIN ledger.journal j ON j.book_id = %(book)s AND j.seq = s.seq
 ORDER BY j.seq"""


# OFFSET 0: a journal's postings are read by its number, one journal after another, whatever the planner guesses.
_POSTINGS = """
SELECT p.* FROM unnest(%(seqs)s::bigint[]) AS j(seq), LATERAL (
  SELECT p.journal_seq, p.line, p.debit_account, p.credit_account, p.amount, p.currency, p.layer, p.hold_action,
         p.hold_id::text
    FROM ledger.posting p WHERE p.book_id = %(book)s AND p.journal_seq = j.seq OFFSET 0) AS p
 ORDER BY p.journal_seq, p.line"""


async def journal_pages(conn: AsyncConnection[Any], chosen: Chosen) -> AsyncGenerator[list[bytes]]:
    """The canonical lines, in order. Pages are read by key: memory is flat, no transaction is needed (journals never
    change), and the connection is free between pages.

    Raises ``BookAltered`` where a line is not that of its leaf hash, where columns or postings say something else than
    their line, or where a number of a whole selection is missing; before the page that it would stand in.
    """
    sql = _LINES if chosen.whole else _TOUCHING
    given = {"book": chosen.book_id, "accounts": chosen.accounts, "page": PAGE, "through": chosen.through_seq}
    after, names = chosen.after_seq, Names()
    while after < chosen.through_seq:
        cursor = await conn.cursor(binary=True).execute(sql.encode(), given | {"after": after})
        rows = await cursor.fetchall()
        if chosen.whole:
            _check_numbers(after, [row[0] for row in rows])
        if not rows:
            return
        if not chosen.proved:
            await _check(conn, chosen.book_id, rows, names)
        yield [row[-2] for row in rows]
        after = rows[-1][0]


def _check_numbers(after: int, numbers: list[int]) -> None:
    """Those after ``after``, none of which is left out or there twice: the range has more."""
    for due, found in enumerate(numbers or [0], after + 1):
        if found != due:
            raise BookAltered(f"journal {due}", "missing", "there")


async def _check(conn: AsyncConnection[Any], book_id: int, rows: list[tuple[Any, ...]], names: Names) -> None:
    cursor = conn.cursor(binary=True)
    await cursor.execute(_POSTINGS, {"book": book_id, "seqs": [row[0] for row in rows]})
    postings = await cursor.fetchall()
    await learn(conn, book_id, names, {account for row in postings for account in row[2:4]})
    of = {seq: list(found) for seq, found in groupby(postings, key=itemgetter(0))}
    for seq, *columns, line, stored in rows:
        check_leaf(seq, line, stored)
        try:
            said = orjson.loads(line)
            check_journal(seq, tuple(columns), said)
            check_count(seq, len(of.get(seq, ())), len(said["postings"]))
            hold = said.get("hold", {}).get("id")
            for row, stated in zip(of.get(seq, ()), said["postings"], strict=True):
                check_posting(seq, row[1], row[2:], stated, hold, names)
        except (orjson.JSONDecodeError, LookupError, TypeError, AttributeError) as error:
            raise BookAltered(f"journal {seq}, canonical", "no journal's line", "one") from error
