"""What the job worker does: about workers that died, and for journals that have no terms yet."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg import AsyncConnection
from structlog.testing import capture_logs

from api.secrets import ApiSecrets
from khata import indexing
from khata.database import Database
from khata.each_book import each_book
from khata.jobs import job_app
from khata.tamper.spans import small_spans
from ledger.books import create_book, open_accounts
from ledger.post import post
from ledger.rollups import books_to_roll_up
from ledger.search import books_to_index, index_journals
from ledger.transfers import TransferState, known
from tests.api.conftest import Clock, gateway_on
from tests.ledger.conftest import ACCOUNTS
from tests.ledger.two_books import two_books
from tests.ledger.words import WALLET, fund, unit


async def test_a_run_of_a_worker_that_died_is_closed_though_the_next_one_waits(database: Database) -> None:
    """Given back it would be a second one that waits, which the queueing lock refuses."""
    async with (
        gateway_on(database, Clock()) as (gw, _, _),
        await AsyncConnection.connect(
            database.app_dsn, autocommit=True, options="-c search_path=procrastinate"
        ) as conn,
    ):
        for status in ("doing", "todo"):
            await conn.execute(
                "INSERT INTO procrastinate_jobs (queue_name, task_name, queueing_lock, status)"
                " VALUES ('default', 'recover', 'recover', %s)",
                [status],
            )
        app = job_app(database.app_dsn, gw, ApiSecrets.derive(bytes(32)))
        async with app.open_async():
            await app.tasks["close_stalled"](timestamp=0)
        rows = await conn.execute("SELECT status FROM procrastinate_jobs ORDER BY id")
        assert await rows.fetchall() == [("failed",), ("todo",)]


async def test_journals_of_every_book_get_their_terms_batch_by_batch(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    async with (
        gateway_on(database, clock) as (gw, pool, _),
        pool.connection() as conn,
    ):
        for name in ("main", "second"):
            book_id = await create_book(conn, name=name, now=clock())
            await open_accounts(conn, book_id, ACCOUNTS, now=clock())
            await post(conn, book_id, [unit(fund(WALLET, n)) for n in range(1, 121)], now=clock())
        await conn.commit()

        async def few(conn: AsyncConnection[Any], book_id: int) -> int:
            return await index_journals(conn, book_id, 60)

        monkeypatch.setattr(indexing, "index_journals", few)
        app = job_app(database.app_dsn, gw, ApiSecrets.derive(bytes(32)))
        await app.tasks["index_journals"](timestamp=0)
        assert await books_to_index(conn) == []


async def test_a_book_that_fails_stops_no_other_and_one_that_stays_behind_is_told(database: Database) -> None:
    async with gateway_on(database, Clock()) as (gw, _, _):
        tried: list[int] = []

        async def behind(conn: AsyncConnection[Any]) -> list[int]:
            await conn.execute("SELECT 1")
            return [1, 2, 3, 4]

        async def batch(conn: AsyncConnection[Any], book_id: int) -> int:
            tried.append(book_id)
            if book_id < 3:
                await conn.execute(b"SELECT 1 / 0" if book_id == 1 else b"no SQL")
            return 4 - book_id

        with capture_logs() as said, pytest.raises(psycopg.errors.DivisionByZero):
            await each_book(gw, "work", behind, batch)
        assert tried == [1, 2, 3, 4]
        assert said == [{"event": "still_behind", "log_level": "warning", "work": "work", "book": 4}]


async def test_complete_spans_of_every_book_are_rolled_up(database: Database) -> None:
    clock = Clock()
    await small_spans(database.owner_dsn)
    async with (
        gateway_on(database, clock) as (gw, pool, _),
        pool.connection() as conn,
    ):
        for name in ("main", "second"):
            book_id = await create_book(conn, name=name, now=clock())
            await open_accounts(conn, book_id, ACCOUNTS, now=clock())
            await post(conn, book_id, [unit(fund(WALLET, n)) for n in range(1, 302)], now=clock())
        await conn.commit()
        assert len(await books_to_roll_up(conn)) >= 2
        app = job_app(database.app_dsn, gw, ApiSecrets.derive(bytes(32)))
        await app.tasks["roll_up_books"](timestamp=0)
        assert await books_to_roll_up(conn) == []
        cursor = await conn.execute(
            "SELECT count(*) FROM ledger.rollup_span WHERE level = 0 GROUP BY book_id"
        )
        assert set(await cursor.fetchall()) == {(150,)}


async def test_transfers_between_books_that_were_cut_off_are_carried_to_their_end(database: Database) -> None:
    async with two_books(database) as books, gateway_on(database, Clock()) as (gw, _, _):
        t = books.transfer(300)
        await books.only_send(t)
        app = job_app(database.app_dsn, gw, ApiSecrets.derive(bytes(32)))
        await app.tasks["carry_transfers"](timestamp=0)
        async with books.connect() as conn:
            assert (await known(conn, t.book_id, t.id)).state is TransferState.COMPLETED
        assert await books.posted(books.there) == 1300
