"""Several processes on one book: order without gaps, sums of zero, no deadlock, no floor broken."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus

from khata.database import Database
from ledger import model as m
from ledger import read
from ledger.audit import audit
from ledger.books import create_book, open_accounts
from ledger.post import post
from ledger.read import balances
from ledger.transfers import CLEARING
from ledger.writer import Writer
from tests.ledger import crowd
from tests.ledger.conftest import ACCOUNTS
from tests.ledger.recompute import assert_sound
from tests.ledger.words import (
    CREDIT_WALLET,
    ESCROW,
    NOW,
    PENDING_A,
    PENDING_B,
    WALLET,
    Book,
    fund,
    journal,
    new_id,
    pay,
    unit,
)

CROWD = (WALLET, CREDIT_WALLET, PENDING_A, PENDING_B)


@pytest.fixture
def seed() -> int:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    return seed


@contextlib.asynccontextmanager
async def new_book(database: Database) -> AsyncIterator[Book]:
    """A fresh book; no session has met a deadlock and the book is sound when the block ends."""
    async with await AsyncConnection.connect(database.app_dsn) as conn:
        book_id = await create_book(conn, name=f"b{secrets.token_hex(8)}", now=NOW)
        await open_accounts(conn, book_id, ACCOUNTS, now=NOW)
        await conn.commit()
        yield Book(conn, book_id, database)
        await assert_sound(conn, book_id)


def deadlocks(database: Database) -> int:
    with psycopg.connect(database.admin_dsn, autocommit=True) as admin:
        admin.execute("SELECT pg_stat_clear_snapshot()")
        row = admin.execute(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        ).fetchone()
    assert row is not None
    return row[0]


async def head(book: Book) -> int:
    cursor = await book.conn.execute("SELECT head FROM ledger.book WHERE book_id = %s", [book.book_id])
    row = await cursor.fetchone()
    await book.conn.rollback()
    assert row is not None
    return row[0]


async def together(
    book: Book, seed: int, count: int, *deeds: tuple[crowd.Deed, tuple[str, ...]]
) -> crowd.Report:
    tasks = [
        (deed, crowd.Errand(book.database.app_dsn, book.book_id, f"p{n}", seed, count), accounts)
        for n, (deed, accounts) in enumerate(deeds)
    ]
    return await asyncio.to_thread(crowd.all_at_once, tasks)


async def test_opposed_transfers_of_several_processes_sum_to_zero_without_gap_or_deadlock(
    shared_database: Database, seed: int
) -> None:
    """Writers, and transactions of callers' own beside them, some rolled back."""
    async with new_book(shared_database) as book:
        await book.ok(*(fund(path, 1000) for path in CROWD))
        before = deadlocks(shared_database)
        report = await together(
            book, seed, 150,
            (crowd.through_a_writer, CROWD),
            (crowd.through_a_writer, CROWD[::-1]),
            (crowd.in_own_transactions, CROWD),
        )  # fmt: skip
        assert report.keys() <= {"posted", "insufficient_funds"}
        assert await head(book) == 4 + report["posted"]
        assert sum([(await book.balance(path))[0] for path in CROWD]) == 4000
        assert deadlocks(shared_database) == before


async def test_opposed_transfers_holds_and_transfers_between_books_leave_both_books_whole(
    shared_database: Database, seed: int
) -> None:
    """Four processes on two books: both directions across, opposed within, holds; the whole audit is clean."""
    async with new_book(shared_database) as one, new_book(shared_database) as two:
        for book in (one, two):
            await book.ok(*(fund(path, 1000) for path in CROWD))
        before = deadlocks(shared_database)
        report = await together(
            one, seed, 24,
            (crowd.between_books, (str(two.book_id), *CROWD)),
            (crowd.between_books, (str(two.book_id), *CROWD[::-1])),
            (crowd.through_a_writer, CROWD),
            (crowd.hold_and_release, CROWD),
        )  # fmt: skip
        assert report["completed"]
        assert report["returned"]
        ends = {"completed", "returned", "posted", "insufficient_funds"}
        assert report.keys() <= ends, report
        assert deadlocks(shared_database) == before
        assert (
            await head(one) + await head(two)
            == 8 + report["posted"] + 2 * report["completed"] + 2 * report["returned"]
        )
        owed = [await cleared(book) for book in (one, two)]
        assert sum(owed) == 0
        assert owed == [sum([(await book.balance(path))[0] for path in CROWD]) - 4000 for book in (one, two)]
        async with await AsyncConnection.connect(shared_database.audit_dsn) as conn:
            for book in (one, two):
                assert [str(f) for r in await audit(conn, book.book_id) for f in r.findings] == []


async def cleared(book: Book) -> int:
    """What the other book owes this one."""
    async with await AsyncConnection.connect(book.database.app_dsn) as conn:
        return sum([b.posted for b in await balances(conn, book.book_id, prefix=CLEARING)])


async def test_reads_and_writes_never_wait_for_each_other(shared_database: Database) -> None:
    """Each is tried while the other's transaction is open; who had to wait would be refused by lock_timeout."""
    async with new_book(shared_database) as book:
        await book.ok(fund(WALLET, 100))
        async with await AsyncConnection.connect(
            shared_database.audit_dsn, options="-c lock_timeout=20s"
        ) as reader:
            await book.conn.execute("SET lock_timeout = '20s'")
            units = [unit(journal(pay(PENDING_A, WALLET, 1)))]
            await post(book.conn, book.book_id, units, now=NOW)
            seen = await read_all(reader, book)  # beside a writer that holds the book
            await book.conn.commit()
            await book.ok(journal(pay(PENDING_A, WALLET, 1)))  # beside a reader whose transaction is open
            assert reader.info.transaction_status is TransactionStatus.INTRANS
            await reader.rollback()
            assert seen == (100, 1, 100, 100)
            assert await read_all(reader, book) == (98, 3, 98, 98)


async def read_all(conn: AsyncConnection[Any], book: Book) -> tuple[int, ...]:
    """The wallet's balance, its statement's lines, all wallets' balance, the trial balance's, in one transaction."""
    await conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    balance = await read.balance(conn, book.book_id, WALLET, "INR")
    statement = await read.statement(conn, book.book_id, WALLET, "INR")
    found = await read.balances(conn, book.book_id, prefix="Liabilities:Customer")
    trial = {row.path: row.credit for row in await read.trial_balance(conn, book.book_id)}
    assert balance
    assert statement
    return balance.posted, len(statement.lines), sum(b.posted for b in found), trial[WALLET]


async def test_64_debits_at_once_spend_what_is_there_and_no_more(
    shared_database: Database, seed: int
) -> None:
    async with new_book(shared_database) as book:
        await book.ok(fund(WALLET, 37))
        report = await together(book, seed, 32, *[(crowd.drain, (WALLET, PENDING_A))] * 2)
        assert report == {"posted": 37, "insufficient_funds": 27}
        assert await book.balance(WALLET) == (0, 0, 0)


async def test_64_captures_at_once_take_a_hold_to_its_ceiling_and_no_further(
    shared_database: Database, seed: int
) -> None:
    async with new_book(shared_database) as book:
        hold = m.Place(new_id(), WALLET, PENDING_A, 41, "INR")
        await book.ok(fund(WALLET, 100), journal(hold=hold))
        report = await together(book, seed, 32, *[(crowd.capture_one_hold, (str(hold.hold_id),))] * 2)
        assert report == {"posted": 41, "hold_ended": 23}
        assert await book.balance(WALLET) == (59, 59, 0)


async def test_the_same_units_from_several_processes_stand_once(shared_database: Database, seed: int) -> None:
    async with new_book(shared_database) as book:
        report = await together(book, seed, 60, *[(crowd.say_the_same, (ESCROW, WALLET))] * 3)
        assert report == {"posted": 60, "replayed": 120}
        assert await book.balance(WALLET) == (60, 60, 0)


async def test_books_are_written_side_by_side(shared_database: Database, seed: int) -> None:
    """A book whose lock someone holds does not stop another."""
    async with new_book(shared_database) as held, new_book(shared_database) as free:
        await held.conn.execute(
            "UPDATE ledger.book SET recorded_at = recorded_at WHERE book_id = %s", [held.book_id]
        )
        report = await together(free, seed, 20, (crowd.say_the_same, (ESCROW, WALLET)))
        assert report == {"posted": 20}
        await held.conn.rollback()


async def test_a_caller_that_locks_in_the_other_order_costs_a_retry_and_nothing_else(
    shared_database: Database,
) -> None:
    """The caller holds a row and wants the book; the writer holds the book and its statement wants the row."""
    async with new_book(shared_database) as book, new_book(shared_database) as row:
        lock_row = "UPDATE ledger.book SET recorded_at = recorded_at WHERE book_id = %(id)s"
        wants_row = m.Statement(lock_row, {"id": row.book_id})

        async def connect() -> AsyncConnection[object]:
            return await AsyncConnection.connect(shared_database.app_dsn)

        async with Writer(connect, book.book_id, clock=lambda: datetime.now(UTC)) as writer:
            await row.conn.execute(lock_row, {"id": row.book_id})
            waiting = asyncio.create_task(writer.submit(unit(fund(WALLET, 5), statements=(wants_row,))))
            async with await AsyncConnection.connect(shared_database.app_dsn, autocommit=True) as look:
                query = "SELECT 1 FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid))"
                while not (await (await look.execute(query, [row.conn.info.backend_pid])).fetchone()):
                    await asyncio.sleep(0)
            with contextlib.suppress(psycopg.errors.DeadlockDetected):
                await post(
                    row.conn, book.book_id, [unit(journal(pay(WALLET, ESCROW, 7), source="caller"))], now=NOW
                )
                await row.conn.commit()
            await row.conn.rollback()
            assert isinstance(await waiting, m.Posted)
        assert (await book.balance(WALLET))[0] in (5, 12)
