"""Finding journals: by kind, source, account, amount, date, metadata and owner, in any combination, newest first.

Served by an inverted index that is made after the fact (``index_journals``, a job's work), so that posting pays
nothing for it. What has no terms yet, the tail, is read as it stands: a journal is found as soon as it is committed.

What a page costs, whatever the book's size: for one condition a look-up an entry, O(page + log n). For several, the
lists of their journals are leapt through, each to where the last one stands: never more look-ups than the rarest
condition has journals, times the conditions. And the tail, which is short while the job runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from types import MappingProxyType
from typing import Any, NamedTuple

from psycopg import AsyncConnection

from ledger.read import JOURNAL, JournalView, journal_view

END_OF_BOOK = 2**63 - 1
MOST_INDEXED = 2000  # journals a transaction: some tenths of a second, so that a job that dies repeats little
_MICROSECOND = timedelta(microseconds=1)
_NO_METADATA: Mapping[str, str] = MappingProxyType({})


class Amount(NamedTuple):
    """Minor units of a currency."""

    value: int
    currency: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What a journal must be to be found; what is None (or no metadata) is no condition, and all given must hold.

    ``account``: the path of an account that one of its postings touches, in whatever currency. ``amount``: of one
    of its postings, also where that gives a hold back. ``metadata``: pairs it bears. ``effective_*``: UTC days,
    ``recorded_*``: instants; both ends are included.
    """

    kind: str | None = None
    source_type: str | None = None
    source_id: str | None = None
    source_event: str | None = None
    account: str | None = None
    amount: Amount | None = None
    metadata: Mapping[str, str] = field(default_factory=lambda: _NO_METADATA)
    effective_from: date | None = None
    effective_to: date | None = None
    recorded_from: datetime | None = None
    recorded_to: datetime | None = None

    def terms(self, owner: str | None = None) -> Iterator[str]:
        """The terms a fitting journal bears, as ``ledger.terms_of`` spells them."""
        for name in ("kind", "source_type", "source_event"):
            if (word := getattr(self, name)) is not None:
                yield f"{name}:{word}"
        if self.amount is not None:
            yield f"amount:{self.amount.currency}:{self.amount.value}"
        if owner is not None:
            yield f"owner:{owner}"
        for key, value in self.metadata.items():
            yield f"meta:{key}={value}"


EVERY = Query()


class Page(NamedTuple):
    """Journals, newest first. ``next_before_seq``: where the following page goes on; None: this one is the last."""

    journals: tuple[JournalView, ...]
    next_before_seq: int | None


# The bounds of recording are found by number: the clock of a book never goes back.
_FITTING = """ AND j.seq = ANY (ARRAY(SELECT ledger.search(
  %(book)s, %(terms)s, %(first_day)s, %(last_day)s,
  CASE WHEN %(account)s::text IS NOT NULL
       THEN ARRAY(SELECT a.account_id FROM ledger.account a WHERE a.book_id = %(book)s AND a.path = %(account)s
                     AND (%(owner)s::text IS NULL OR a.owner = %(owner)s)) END,
  %(source_id)s,
  CASE WHEN %(unrecorded)s::timestamptz IS NULL THEN 1 ELSE ledger.seq_at(%(book)s, %(unrecorded)s) + 1 END,
  least(%(before)s, CASE WHEN %(recorded)s::timestamptz IS NOT NULL THEN ledger.seq_at(%(book)s, %(recorded)s) + 1 END),
  %(most)s))) ORDER BY j.seq DESC"""


async def search(
    conn: AsyncConnection[Any],
    book_id: int,
    query: Query = EVERY,
    *,
    before_seq: int | None = None,
    limit: int = 50,
    owner: str | None = None,
) -> Page:
    """The newest ``limit`` journals before ``before_seq`` that fit; fewer only where there are no more.

    ``owner``: only journals that touch an account of this owner; by ``query.account``, one of its own. In a book
    that is not there nothing is found.
    """
    since = query.recorded_from
    given: dict[str, Any] = {
        "book": book_id,
        "terms": list(query.terms(owner)),
        "first_day": query.effective_from,
        "last_day": query.effective_to,
        "account": query.account,
        "owner": owner,
        "source_id": query.source_id,
        "unrecorded": None if since is None else since - _MICROSECOND,
        "recorded": query.recorded_to,
        "before": END_OF_BOOK if before_seq is None else before_seq,
        "most": limit + 1,
    }
    rows = await (await conn.execute(JOURNAL + _FITTING, given)).fetchall()
    journals = tuple(journal_view(row) for row in rows[:limit])
    return Page(journals, journals[-1].seq if len(rows) > limit else None)


async def index_journals(conn: AsyncConnection[Any], book_id: int, most: int = MOST_INDEXED) -> int:
    """Give the next journals without terms theirs, at most ``most``; how many. Does not commit.

    0: there are none, or another is at it. Whoever posts never waits for this.
    """
    row = await (await conn.execute("SELECT ledger.index_journals(%s, %s)", [book_id, most])).fetchone()
    assert row is not None
    return row[0]


async def books_to_index(conn: AsyncConnection[Any]) -> list[int]:
    """The books that have journals without terms."""
    rows = await conn.execute(
        "SELECT book_id FROM ledger.book WHERE head > ledger.indexed_through(book_id) ORDER BY book_id"
    )
    return [book_id for (book_id,) in await rows.fetchall()]
