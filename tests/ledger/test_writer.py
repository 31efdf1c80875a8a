"""Group commit: who shares a transaction, who suffers for whom (nobody), and what a lost connection leaves behind."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import psycopg
import pytest
from psycopg import AsyncConnection

from khata.database import Database
from ledger import errors
from ledger import model as m
from ledger.books import create_book, open_accounts
from ledger.writer import Writer
from tests.attacks.raw import Leg, forge
from tests.ledger.conftest import ACCOUNTS
from tests.ledger.proxy import COMMIT, proxied
from tests.ledger.recompute import differences
from tests.ledger.words import (
    AUTHORIZATIONS,
    ESCROW,
    ISSUERS,
    NOW,
    PENDING_A,
    WALLET,
    fund,
    journal,
    new_id,
    pay,
    unit,
)


@dataclass
class Desk:
    """A fresh book, a connection to look and to stand in the way with, and the caller's own table ``test.note``."""

    database: Database
    conn: AsyncConnection[Any]
    book_id: int
    pids: list[int] = field(default_factory=list)

    async def connect(self) -> AsyncConnection[Any]:
        conn = await AsyncConnection.connect(self.database.app_dsn)
        self.pids.append(conn.info.backend_pid)
        return conn

    def writer(self, connect: Any = None, **limits: Any) -> Writer:
        return Writer(connect or self.connect, self.book_id, clock=lambda: NOW, **limits)

    async def value(self, query: str, *values: object) -> Any:
        cursor = await self.conn.execute(query, values)  # type: ignore[arg-type]
        row = await cursor.fetchone()
        await self.conn.rollback()
        assert row is not None
        return row[0]

    async def head(self) -> int:
        return await self.value("SELECT head FROM ledger.book WHERE book_id = %s", self.book_id)

    async def notes(self) -> int:
        return await self.value("SELECT count(*) FROM test.note WHERE book_id = %s", self.book_id)

    def note(self, name: str) -> m.Statement:
        sql = "INSERT INTO test.note (book_id, name) VALUES (%(book)s, %(name)s)"
        return m.Statement(sql, {"book": self.book_id, "name": name})

    def noted(self, name: str, amount: int = 1) -> m.Unit:
        return unit(journal(pay(WALLET, ESCROW, amount), source=name), statements=(self.note(name),))

    @contextlib.asynccontextmanager
    async def book_taken(self) -> AsyncIterator[None]:
        """Someone else has the book's lock: every writer waits."""
        await self.conn.execute(
            "UPDATE ledger.book SET recorded_at = recorded_at WHERE book_id = %s", [self.book_id]
        )
        try:
            yield
        finally:
            await self.conn.rollback()

    async def until_waiting(self) -> int:
        """The pid of a session that waits for the book's lock."""
        async with await AsyncConnection.connect(self.database.app_dsn, autocommit=True) as look:
            query = "SELECT pid FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid))"
            while True:
                row = await (await look.execute(query, [self.conn.info.backend_pid])).fetchone()
                if row is not None:
                    return row[0]


@pytest.fixture(scope="module")
def noting_database(shared_database: Database) -> Database:
    with psycopg.connect(shared_database.owner_dsn) as owner:
        owner.execute("CREATE SCHEMA test")
        owner.execute("CREATE TABLE test.note (book_id int, name text, PRIMARY KEY (book_id, name))")
        owner.execute("GRANT USAGE ON SCHEMA test TO khata_app")
        owner.execute("GRANT ALL ON test.note TO khata_app")
    return shared_database


@pytest.fixture
async def desk(noting_database: Database) -> AsyncIterator[Desk]:
    async with await AsyncConnection.connect(noting_database.app_dsn) as conn:
        book_id = await create_book(conn, name=f"b{secrets.token_hex(8)}", now=NOW)
        await open_accounts(conn, book_id, ACCOUNTS, now=NOW)
        await conn.commit()
        yield Desk(noting_database, conn, book_id)
        # One test forges a canonical line; everything else must recompute.
        assert [d for d in await differences(conn, book_id) if "is no JSON" not in d] == []


def later(writer: Writer, *units: m.Unit | m.Journal) -> list[asyncio.Task[m.Result]]:
    return [asyncio.create_task(writer.submit(u if isinstance(u, m.Unit) else unit(u))) for u in units]


# ---------------------------------------------------------------- gathering


async def test_concurrent_callers_share_transactions(desk: Desk) -> None:
    async with desk.writer() as writer:
        results = await asyncio.gather(*later(writer, *(fund(WALLET, 1) for _ in range(300))))
    assert sorted(r.seqs[0] for r in results if isinstance(r, m.Posted)) == list(range(1, 301))
    transactions = await desk.value(
        "SELECT count(DISTINCT xmin::text) FROM ledger.journal WHERE book_id = %s", desk.book_id
    )
    assert transactions <= 10


async def test_a_batch_has_a_bound(desk: Desk) -> None:
    async with desk.writer(batch_limit=10) as writer:
        await asyncio.gather(*later(writer, *(fund(WALLET, 1) for _ in range(100))))
    transactions = await desk.value(
        "SELECT count(DISTINCT xmin::text) FROM ledger.journal WHERE book_id = %s", desk.book_id
    )
    assert transactions >= 10


async def test_callers_are_posted_in_the_order_they_came(desk: Desk) -> None:
    async with desk.writer() as writer:
        results = await asyncio.gather(*later(writer, *(fund(WALLET, 1) for _ in range(50))))
    assert [r.seqs for r in results if isinstance(r, m.Posted)] == [(n,) for n in range(1, 51)]


async def test_each_caller_gets_its_own_result(desk: Desk) -> None:
    async with desk.writer() as writer:
        async with desk.book_taken():
            tasks = later(
                writer,
                fund(WALLET, 100),
                journal(pay(PENDING_A, WALLET, 101)),
                journal(pay(PENDING_A, WALLET, 100), source="same"),
                journal(pay(PENDING_A, WALLET, 100), source="same"),
                journal(pay(PENDING_A, WALLET, 99), source="same"),
            )
            await desk.until_waiting()
        funded, short, paid, again, other = await asyncio.gather(*tasks)
    assert isinstance(funded, m.Posted)
    assert short == errors.InsufficientFunds(WALLET, "INR", available=100, floor=0, needed=101)
    assert isinstance(paid, m.Posted)
    assert again == m.Posted(paid.seqs, paid.ids, replayed=True)
    assert isinstance(other, errors.SourceConflict)


# ---------------------------------------------------------------- one bad unit


async def test_a_statement_that_spoils_the_transaction_fails_its_own_caller_alone(desk: Desk) -> None:
    units = [desk.noted(f"n{number}") for number in range(40)]
    for number in (7, 8, 31):
        units[number] = unit(*units[number].journals, statements=(desk.note("taken"),))
    async with desk.writer() as writer:
        [first] = await asyncio.gather(*later(writer, desk.noted("taken")))
        assert isinstance(first, m.Posted)
        results = await asyncio.gather(*later(writer, *units))
    refused = {n for n, r in enumerate(results) if isinstance(r, errors.StatementRefused)}
    assert refused == {7, 8, 31}
    assert all(isinstance(r, m.Posted) for n, r in enumerate(results) if n not in refused)
    assert (await desk.head(), await desk.notes()) == (38, 38)


async def test_a_statement_that_hits_another_number_of_rows_refuses_its_unit(desk: Desk) -> None:
    none = m.Statement("DELETE FROM test.note WHERE name = %(name)s", {"name": "nobody"})
    async with desk.writer() as writer:
        tasks = later(writer, fund(WALLET, 1), unit(fund(WALLET, 1), statements=(none,)), fund(WALLET, 1))
        first, second, third = await asyncio.gather(*tasks)
    assert second == errors.StatementRefused("DELETE FROM test.note WHERE", "hit 0 rows, not 1")
    assert isinstance(first, m.Posted)
    assert isinstance(third, m.Posted)
    assert await desk.head() == 2


@pytest.mark.parametrize(
    ("sql", "error"),
    [
        ("SELECT 1 FROM test.no_such_table", psycopg.errors.UndefinedTable),
        ("SELECT nonsense(", psycopg.errors.SyntaxError),
        ("DELETE FROM ledger.posting", psycopg.errors.InsufficientPrivilege),
        ("SELECT pg_sleep(60)", psycopg.errors.QueryCanceled),
        ("SELECT %(missing)s", psycopg.ProgrammingError),
    ],
)
async def test_a_broken_statement_is_its_own_callers_error(
    desk: Desk, sql: str, error: type[Exception]
) -> None:
    async def impatient() -> AsyncConnection[Any]:
        return await AsyncConnection.connect(desk.database.app_dsn, options="-c statement_timeout=300")

    broken = unit(fund(WALLET, 1), statements=(m.Statement(sql, {}, rows=None),))
    async with desk.writer(impatient) as writer:
        async with desk.book_taken():
            tasks = later(writer, *(desk.noted(f"n{n}") for n in range(10)), broken)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(results.pop(), error)
        assert all(isinstance(r, m.Posted) for r in results)
        assert await desk.head() == 10
        [after] = await asyncio.gather(*later(writer, fund(WALLET, 1)))
    assert isinstance(after, m.Posted)


async def test_a_stored_line_that_cannot_be_read_fails_only_the_caller_who_replays_it(desk: Desk) -> None:
    forged = await forge(desk.conn, desk.book_id, [Leg(ESCROW, WALLET, 5)])
    forged.journals[0] |= {"source_type": "test", "source_id": "forged", "source_event": "done"}
    forged.journals[0] |= {"canonical": "no JSON", "leaf_hash": sha256(b"\0no JSON").digest()}
    await forged.insert(desk.conn)
    async with desk.writer() as writer:
        tasks = later(
            writer, fund(WALLET, 1), journal(pay(WALLET, ESCROW, 5), source="forged"), fund(WALLET, 1)
        )
        first, second, third = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(second, ValueError)
    assert isinstance(first, m.Posted)
    assert isinstance(third, m.Posted)


async def test_a_sum_that_leaves_its_range_is_refused_alone(desk: Desk) -> None:
    hold = m.Place(new_id(), AUTHORIZATIONS, ISSUERS, m.MAX_AMOUNT, "INR")
    increases = [journal(hold=m.Increase(hold.hold_id, m.MAX_AMOUNT)) for _ in range(4611)]
    async with desk.writer(batch_limit=3000) as writer:
        results = await asyncio.gather(*later(writer, journal(hold=hold), *increases, fund(WALLET, 1)))
    assert [r for r in results if not isinstance(r, m.Posted)] == [errors.AmountTooLarge(AUTHORIZATIONS)]


async def test_a_journal_id_used_twice_is_a_typed_error_of_its_caller(desk: Desk) -> None:
    first, second = fund(WALLET, 1), fund(WALLET, 1)
    twin = m.Journal(first.id, "transfer", second.source, second.postings)
    async with desk.writer() as writer:
        results = await asyncio.gather(*later(writer, first, twin, fund(WALLET, 1)), return_exceptions=True)
    assert [type(r) for r in results] == [m.Posted, errors.DatabaseRefused, m.Posted]


async def test_a_book_that_is_not_there_is_every_callers_error(desk: Desk) -> None:
    async with Writer(desk.connect, 10**6, clock=lambda: NOW) as writer:
        results = await asyncio.gather(
            *later(writer, fund(WALLET, 1), fund(WALLET, 1)), return_exceptions=True
        )
    assert results == [errors.BookUnknown(10**6)] * 2


# ---------------------------------------------------------------- back-pressure, closing, cancelling


async def test_a_full_queue_is_overloaded_and_nothing_of_it_is_written(desk: Desk) -> None:
    async with desk.writer(queue_limit=5) as writer:
        async with desk.book_taken():
            running = later(writer, fund(WALLET, 1))
            await desk.until_waiting()
            queued = later(writer, *(fund(WALLET, 1) for _ in range(5)))
            await asyncio.sleep(0)
            with pytest.raises(errors.Overloaded):
                await writer.submit(unit(fund(WALLET, 1)))
        await asyncio.gather(*running, *queued)
    assert await desk.head() == 6


async def test_closing_posts_what_is_queued_and_takes_nothing_more(desk: Desk) -> None:
    writer = desk.writer(batch_limit=7)
    with pytest.raises(errors.WriterClosed):
        await writer.submit(unit(fund(WALLET, 1)))
    async with writer:
        async with desk.book_taken():
            tasks = later(writer, *(fund(WALLET, 1) for _ in range(50)))
            await desk.until_waiting()
            closing = asyncio.create_task(writer.close())
            await asyncio.sleep(0)
            with pytest.raises(errors.WriterClosed):
                await writer.submit(unit(fund(WALLET, 1)))
        await closing
        assert all(task.done() for task in tasks)
    assert await desk.head() == 50


async def test_an_idle_writer_closes_without_a_transaction(desk: Desk) -> None:
    async with desk.writer():
        await asyncio.sleep(0)
    assert desk.pids == []


async def test_a_caller_that_stops_waiting_does_not_stop_its_unit_or_another(desk: Desk) -> None:
    async with desk.writer() as writer:
        async with desk.book_taken():
            first, second, third = later(writer, *(fund(WALLET, 1) for _ in range(3)))
            await desk.until_waiting()
            second.cancel()
        assert isinstance(await first, m.Posted)
        assert isinstance(await third, m.Posted)
    assert await desk.head() == 3


async def test_a_writer_that_is_cancelled_leaves_nobody_waiting(desk: Desk) -> None:
    writer = desk.writer(batch_limit=2)
    writer.start()
    async with desk.book_taken():
        tasks = later(writer, *(fund(WALLET, 1) for _ in range(4)))
        await desk.until_waiting()
        closing = asyncio.create_task(writer.close())
        await asyncio.sleep(0)
        closing.cancel()
        results = await asyncio.gather(*tasks, closing, return_exceptions=True)
    unknown, not_written = errors.LedgerUnavailable(), errors.WriterClosed()
    assert results[:4] == [unknown, unknown, not_written, not_written]
    assert await desk.head() == 0


# ---------------------------------------------------------------- lost connections


async def terminate(desk: Desk, pid: int) -> None:
    async with await AsyncConnection.connect(desk.database.app_dsn, autocommit=True) as killer:
        await killer.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])


async def test_a_connection_killed_while_idle_is_replaced(desk: Desk) -> None:
    async with desk.writer() as writer:
        await writer.submit(desk.noted("before"))
        await terminate(desk, desk.pids[-1])
        assert await writer.submit(desk.noted("after")) == m.Posted((2,), (await last_id(desk),))
    assert (await desk.head(), await desk.notes()) == (2, 2)


async def last_id(desk: Desk) -> Any:
    return await desk.value(
        "SELECT id FROM ledger.journal WHERE book_id = %s ORDER BY seq DESC LIMIT 1", desk.book_id
    )


async def test_a_connection_killed_inside_the_transaction_posts_once(desk: Desk) -> None:
    async with desk.writer() as writer:
        async with desk.book_taken():
            tasks = later(writer, *(desk.noted(f"n{n}") for n in range(20)))
            await terminate(desk, await desk.until_waiting())
        results = await asyncio.gather(*tasks)
    assert all(isinstance(r, m.Posted) for r in results)
    assert (await desk.head(), await desk.notes()) == (20, 20)


async def test_a_connection_cut_before_commit_posts_once(desk: Desk) -> None:
    async with proxied(desk.database.app_dsn) as proxy:
        proxy.judge = lambda data: "cut" if COMMIT in data else "pass"
        async with desk.writer(proxy.connect) as writer:
            results = await asyncio.gather(*later(writer, *(desk.noted(f"n{n}") for n in range(5))))
        assert proxy.cuts == 1
    assert not any(r.replayed for r in results if isinstance(r, m.Posted))
    assert (await desk.head(), await desk.notes()) == (5, 5)


async def test_a_commit_whose_answer_is_lost_is_settled_by_its_source_keys(desk: Desk) -> None:
    """The server has committed; the callers are told so, and their statements have run once."""
    async with proxied(desk.database.app_dsn) as proxy:
        proxy.judge = lambda data: "forward and cut" if COMMIT in data else "pass"
        async with desk.writer(proxy.connect) as writer:
            results = await asyncio.gather(
                *later(writer, *(desk.noted(f"n{n}") for n in range(5)), journal(pay(PENDING_A, WALLET, 99)))
            )
        assert proxy.cuts == 1
    *posted, refused = results
    assert [r.replayed for r in posted if isinstance(r, m.Posted)] == [True] * 5
    assert isinstance(refused, errors.InsufficientFunds)
    assert (await desk.head(), await desk.notes()) == (5, 5)


async def test_a_connection_cut_anywhere_posts_exactly_once(desk: Desk) -> None:
    """Cut before or after the n-th message the client sends, over and over."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    async with proxied(desk.database.app_dsn) as proxy, desk.writer(proxy.connect, batch_limit=20) as writer:
        for round_ in range(25):
            left, verdict = dice.randrange(12), dice.choice(["cut", "forward and cut"])

            def judge(data: bytes) -> str:
                nonlocal left
                left -= 1
                return verdict if left < 0 else "pass"  # noqa: B023 - judged within this round

            proxy.judge = judge
            tasks = later(writer, *(desk.noted(f"r{round_}-{n}") for n in range(dice.randrange(1, 40))))
            results = await asyncio.gather(*tasks)
            assert all(isinstance(r, m.Posted) for r in results)
        print(f"{proxy.cuts} cuts")
        assert proxy.cuts > 5
    assert await desk.head() == await desk.notes()
    lost = await desk.value(
        "SELECT count(*) FROM test.note n WHERE book_id = %s AND NOT EXISTS (SELECT FROM ledger.journal j"
        " WHERE j.book_id = n.book_id AND j.source_id = n.name)",
        desk.book_id,
    )
    assert lost == 0


async def test_a_database_that_comes_back_in_time_is_waited_for(desk: Desk) -> None:
    async with proxied(desk.database.app_dsn) as proxy, desk.writer(proxy.connect) as writer:
        await writer.submit(desk.noted("before"))
        await proxy.down()
        tasks = later(writer, desk.noted("during"))
        done, _ = await asyncio.wait(tasks, timeout=0.2)
        assert not done
        await proxy.up()
        assert isinstance(await tasks[0], m.Posted)
    assert (await desk.head(), await desk.notes()) == (2, 2)


async def test_a_database_that_stays_away_is_unavailable_and_the_same_unit_settles_it_later(
    desk: Desk,
) -> None:
    async with proxied(desk.database.app_dsn) as proxy, desk.writer(proxy.connect, settle_s=0.2) as writer:
        proxy.judge = lambda data: "forward and cut" if COMMIT in data else "pass"
        same = desk.noted("unknown")
        first = asyncio.create_task(writer.submit(same))
        while not proxy.cuts:
            await asyncio.sleep(0.001)
        await proxy.down()
        with pytest.raises(errors.LedgerUnavailable):
            await first
        await proxy.up()
        assert isinstance(await writer.submit(same), m.Posted)
    assert (await desk.head(), await desk.notes()) == (1, 1)
