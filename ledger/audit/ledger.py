"""The checks that the ledger's own tables can prove, and the order they run in."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

from psycopg import AsyncConnection

from ledger.audit import rows
from ledger.audit.accounts import Account, check_balances, check_names, check_sums, load_accounts
from ledger.audit.acts import check_acts
from ledger.audit.holds import HoldCheck
from ledger.audit.journals import Book, JournalPass
from ledger.audit.limits import check_use, load_limits
from ledger.audit.log import check_log
from ledger.audit.people import check_people
from ledger.audit.periods import check_periods
from ledger.audit.relations import check_reversals, check_strays, check_unique
from ledger.audit.report import Check, Progress, Tallies, Tally
from ledger.audit.rollups import check_rollups
from ledger.audit.terms import check_terms
from ledger.audit.transfers import check_clearing, check_transfers
from ledger.errors import BookUnknown

PAIRS = Check(
    "I1.pairs", "Every posting is a pair of one amount in one currency; book and layers sum to zero"
)
REVERSALS = Check(
    "I1.reversals", "Every reversal is the mirror image of one earlier journal, and the only one"
)
LINES = Check("I2.lines", "Every line has the next number of its account and the balances after it")
ROLLUPS = Check(
    "I2.rollups", "Every rollup is the sum of its span's lines up to its day; its levels have no gap"
)
BALANCES = Check(
    "I2.balances", "Every stored balance is the sum of its lines; floor and status are the last fact's"
)
FLOORS = Check(
    "I3.floors", "Available is at or above the floor after every line, on accounts open at that time"
)
HOLDS = Check(
    "I3.holds", "Every hold ends once: captured, released and expired within its terms, dates and ceiling"
)
LIMITS = Check(
    "I3.limits",
    "Every window of a velocity limit holds what its lines used, never more than was allowed then",
)
FACTS = Check("I3.facts", "Every account's facts are numbered without a gap, in order, and as their acts say")
TRANSFERS = Check(
    "I8.transfers",
    "Every transfer between books has its journal in both, or its journal and its return, or is in flight",
)
CLEARING = Check("I8.clearing", "Every line of a clearing account between books is a transfer's")
SOURCES = Check("I6.sources", "One journal for each source key and each id")
LEAVES = Check("I10.leaves", "Every leaf hash is its canonical line's, and the line says what the rows say")
ACCOUNTS = Check("I10.accounts", "Every account is called by its path and currency in all its lines")
TERMS = Check("I10.terms", "Every indexed journal is found by the terms its line bears, and by no other")
ROOT = Check(
    "I10.root", "The tree of all that was sealed is every checkpoint's; runs, tiles, keys and signatures fit"
)
ORDER = Check("I12.order", "Journals are numbered without a gap up to the head; the clock never goes back")
ACTS = Check(
    "I12.acts", "What people did is numbered without a gap, in order, each act as its leaf hash has it"
)
PEOPLE = Check("I12.people", "Every proposal and verdict is its act's, of two people, and booked as approved")
PERIODS = Check(
    "I12.periods",
    "The book is closed as its facts say; each close's trial balance; nothing counts in a closed day",
)
STRAYS = Check("I12.strays", "No row belongs to a book that is not there")


class LedgerExaminer:
    """One pass over journals and postings, one over holds, and a few questions the database sorts out."""

    checks = (
        PAIRS,
        REVERSALS,
        LINES,
        ROLLUPS,
        BALANCES,
        FLOORS,
        HOLDS,
        LIMITS,
        FACTS,
        SOURCES,
        TRANSFERS,
        CLEARING,
        LEAVES,
        ACCOUNTS,
        TERMS,
        ROOT,
        ORDER,
        ACTS,
        PEOPLE,
        PERIODS,
        STRAYS,
    )

    async def examine(
        self, conn: AsyncConnection[Any], book_id: int, tallies: Tallies, progress: Progress
    ) -> None:
        strays = tallies[STRAYS]
        book = await _load_book(conn, book_id, strays)
        await check_strays(conn, strays)
        if book is None:
            if strays.found == 1:
                raise BookUnknown(book_id)
            return
        accounts = await load_accounts(conn, book_id, tallies[FACTS])
        limits = await load_limits(conn, book_id, {a.id: a.about for a in accounts.values()}, tallies[LIMITS])
        for account in accounts.values():
            account.limits = limits.get(account.id, [])
        await _journals(conn, book, accounts, tallies, progress)
        await check_use(conn, book_id, limits, tallies[LIMITS])
        check_names(book_id, accounts.values(), tallies[ACCOUNTS])
        check_sums(book_id, accounts.values(), tallies[PAIRS])
        await check_balances(conn, book_id, accounts, tallies[BALANCES])
        await check_rollups(conn, book_id, tallies[ROLLUPS])
        await _holds(conn, book_id, HoldCheck(book_id, accounts, tallies[HOLDS]))
        await check_reversals(conn, book_id, tallies[REVERSALS])
        await check_unique(conn, book_id, tallies[SOURCES])
        await check_transfers(conn, book_id, tallies[TRANSFERS])
        await check_clearing(conn, book_id, tallies[CLEARING])
        await check_acts(conn, book_id, tallies[ACTS])
        await check_people(conn, book_id, tallies[PEOPLE])
        await check_periods(conn, book_id, tallies[PERIODS])
        await check_terms(conn, book_id, tallies[TERMS])
        await check_log(conn, book_id, tallies[ROOT])


async def _load_book(conn: AsyncConnection[Any], book_id: int, tally: Tally) -> Book | None:
    cursor = await conn.execute(
        "SELECT book_id, name, head, accounts,"
        """ to_char(recorded_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
        " FROM ledger.book WHERE book_id = %s",
        [book_id],
    )
    found = [Book(*row) for row in await cursor.fetchall()]
    if len(found) != 1:
        tally.find("book", {"book_id": book_id}, "row", f"there {len(found)} times", "there once")
    return found[0] if found else None


async def _journals(
    conn: AsyncConnection[Any], book: Book, accounts: dict[int, Account], tallies: Tallies, progress: Progress
) -> None:
    judge = JournalPass(
        book,
        accounts,
        order=tallies[ORDER],
        pairs=tallies[PAIRS],
        running=tallies[LINES],
        floors=tallies[FLOORS],
        leaves=tallies[LEAVES],
        limits=tallies[LIMITS],
    )
    async with (
        aclosing(rows.batches(conn, "journals", rows.JOURNALS, book.book_id)) as journals,
        aclosing(rows.batches(conn, "postings", rows.POSTINGS, book.book_id)) as postings,
    ):
        async for seq, heads, members in rows.merged(journals, postings):
            judge.entry(
                seq, [rows.JournalRow._make(j) for j in heads], [rows.posting_row(p) for p in members]
            )
            if seq % 1000 == 0:
                progress(min(seq, book.head), book.head)
    judge.end()
    progress(book.head, book.head)


async def _holds(conn: AsyncConnection[Any], book_id: int, check: HoldCheck) -> None:
    async with (
        aclosing(rows.batches(conn, "holds", rows.HOLDS, book_id)) as holds,
        aclosing(rows.batches(conn, "hold_lines", rows.HOLD_LINES, book_id)) as postings,
    ):
        async for hold_id, heads, members in rows.merged(holds, postings):
            check.hold(
                hold_id, [rows.HoldRow._make(h) for h in heads], [rows.HoldLine._make(p) for p in members]
            )
