"""A writer that knows the book posts without its lock; whatever others write meanwhile, it answers as if it had it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import date, timedelta
from typing import Any

import pytest
from psycopg import AsyncConnection

from ledger import errors, limits, optimistic, periods
from ledger import model as m
from ledger import writer as writers
from ledger.acts import By
from ledger.books import change_account, open_accounts
from ledger.decide import decide
from ledger.limits import LimitTerms
from ledger.load import load
from ledger.writer import Writer
from tests.ledger.recompute import differences
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

ACTIVE = LimitTerms("daily", limits.Side.DEBIT, limits.Measure.SUM, 50, limits.Window.DAY)
PERSON: Any = {"reason": "test", "person": "ada"}


@pytest.fixture
async def book(book_of_many: Book) -> AsyncIterator[Book]:
    """Its connection is somebody else's: what it writes, the writer does not know."""
    yield book_of_many
    assert await differences(book_of_many.conn, book_of_many.book_id) == []


@pytest.fixture
def locked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the batches that were posted under the lock, as they are."""
    sizes: list[int] = []
    post = writers.post_and_know

    async def spied(conn: AsyncConnection[Any], book_id: int, units: Any, **more: Any) -> Any:
        sizes.append(len(units))
        return await post(conn, book_id, units, **more)

    monkeypatch.setattr(writers, "post_and_know", spied)
    return sizes


@asynccontextmanager
async def knowing(book: Book, *first: m.Journal) -> AsyncGenerator[Writer]:
    """A writer that has posted ``first`` and knows the book."""

    def connect() -> Any:
        return AsyncConnection.connect(book.database.app_dsn)

    async with Writer(connect, book.book_id, clock=lambda: book.now) as writer:
        for each in first or (fund(WALLET, 100),):
            assert isinstance(await writer.submit(unit(each)), m.Posted)
        yield writer


async def submit(writer: Writer, *journals: m.Journal) -> list[m.Result]:
    return await asyncio.gather(*(writer.submit(unit(j)) for j in journals))


# ---------------------------------------------------------------- alone


async def test_a_writer_alone_takes_the_lock_once(book: Book, locked: list[int]) -> None:
    async with knowing(book) as writer:
        for _ in range(20):
            results = await submit(writer, *(journal(pay(PENDING_A, WALLET, 1)) for _ in range(5)))
            assert all(isinstance(result, m.Posted) for result in results)
    assert locked == [1]


async def test_what_is_refused_in_memory_is_refused_with_the_same_words(
    book: Book, locked: list[int]
) -> None:
    async with knowing(book) as writer:
        [short] = await submit(writer, journal(pay(PENDING_A, WALLET, 101)))
        both = await submit(writer, journal(pay(PENDING_A, WALLET, 1)), journal(pay(PENDING_A, WALLET, 100)))
        [unknown] = await submit(writer, journal(pay("Assets:Nowhere", WALLET, 1)))
    assert short == errors.InsufficientFunds(WALLET, "INR", available=100, floor=0, needed=101)
    assert both[1] == errors.InsufficientFunds(WALLET, "INR", available=99, floor=0, needed=100)
    assert unknown == errors.AccountUnknown("Assets:Nowhere", "INR")
    assert locked == [1]


async def test_a_replay_that_would_be_refused_today_is_a_replay(book: Book) -> None:
    paid = journal(pay(PENDING_A, WALLET, 100), source="all")
    other = journal(pay(PENDING_A, WALLET, 99), source="all")
    async with knowing(book) as writer:
        [first] = await submit(writer, paid)
        [again, conflict] = await submit(writer, paid, other)
    assert isinstance(first, m.Posted)
    assert again == m.Posted(first.seqs, first.ids, replayed=True)
    assert isinstance(conflict, errors.SourceConflict)


async def test_a_replay_beside_new_units_is_told_from_them(book: Book) -> None:
    paid = journal(pay(PENDING_A, WALLET, 10), source="once")
    async with knowing(book) as writer:
        await submit(writer, paid)
        results = await submit(writer, fund(WALLET, 1), paid, fund(WALLET, 1), paid)
    assert [r.replayed for r in results if isinstance(r, m.Posted)] == [False, True, False, True]


async def test_holds_are_known_from_placing_to_their_end(book: Book, locked: list[int]) -> None:
    hold = new_id()
    async with knowing(book) as writer:
        await submit(writer, journal(hold=m.Place(hold, WALLET, PENDING_A, 60, "INR")))
        [taken] = await submit(writer, journal(hold=m.Capture(hold, 60, final=True)))
        [ended] = await submit(writer, journal(hold=m.Capture(hold, 1)))
        [twice] = await submit(writer, journal(hold=m.Place(hold, WALLET, PENDING_A, 1, "INR")))
    assert isinstance(taken, m.Posted)
    assert ended == errors.HoldEnded(hold)
    assert twice == errors.HoldExists(hold)
    assert locked == [1, 1]  # that a hold is there already, the database says


async def test_a_hold_that_a_batch_under_way_has_ended_is_ended_to_the_next_one(book: Book) -> None:
    """Read anew it would be found as it was before that batch, or not at all."""
    hold = new_id()
    placed, taken = journal(hold=m.Place(hold, ESCROW, WALLET, 1, "INR")), journal(hold=m.Capture(hold, 1))
    again = [unit(journal(hold=m.Capture(hold, 1)))]
    state = await load(book.conn, book.book_id, [unit(placed), unit(taken)], now=book.now)
    await book.conn.rollback()
    assert all(isinstance(r, m.Posted) for r in decide(state, [unit(placed), unit(taken)]).results)
    judged = await optimistic.judge(book.conn, state, again, now=book.now)
    await book.conn.rollback()
    assert judged is not None
    assert judged.results == [errors.HoldEnded(hold)]


# ---------------------------------------------------------------- others write the book


async def _deposit(book: Book) -> None:
    await book.ok(fund(WALLET, 100))


async def _freeze(book: Book) -> None:
    await change_account(
        book.conn, book.book_id, WALLET, "INR", now=book.now, status=m.AccountStatus.FROZEN, **PERSON
    )
    await book.conn.commit()


async def _close(book: Book) -> None:
    await periods.close(book.conn, book.book_id, By("ada", "test", book.now), through=date(2026, 11, 20))
    await book.conn.commit()


async def _limit(book: Book) -> None:
    await limits.set_limit(book.conn, book.book_id, WALLET, "INR", ACTIVE, now=book.now, **PERSON)
    await book.conn.commit()


async def _open(book: Book) -> None:
    await open_accounts(book.conn, book.book_id, [m.NewAccount("Assets:New", "INR")], now=book.now)
    await book.conn.commit()


@pytest.mark.parametrize(
    ("meanwhile", "asked", "answer"),
    [
        (_deposit, journal(pay(PENDING_A, WALLET, 150)), None),
        (_freeze, journal(pay(PENDING_A, WALLET, 1)), "account_frozen"),
        (_close, journal(pay(PENDING_A, WALLET, 1), effective_at=NOW - timedelta(days=3)), "period_closed"),
        (_limit, journal(pay(PENDING_A, WALLET, 51)), "velocity_exceeded"),
        (_open, journal(pay("Assets:New", WALLET, 1)), None),
    ],
    ids=["deposit", "freeze", "close", "limit", "open"],
)
async def test_what_somebody_else_did_counts_at_once(
    book: Book, meanwhile: Callable[[Book], Any], asked: m.Journal, answer: str | None
) -> None:
    async with knowing(book) as writer:
        await submit(writer, journal(pay("Assets:New", WALLET, 1)))  # refused: it does not exist yet
        await meanwhile(book)
        [result] = await submit(writer, asked)
        assert result.code == answer if isinstance(result, errors.Refusal) else answer is None
        [later] = await submit(writer, fund(PENDING_B, 1))
        assert isinstance(later, m.Posted)


@pytest.mark.parametrize("seed", range(3))
async def test_two_writers_of_one_book_and_a_third_hand_lose_nothing(book: Book, seed: int) -> None:
    """Opposed transfers and refusals; every answer is true of the book as the journals tell it."""
    rng = random.Random(seed)
    wallets = (WALLET, CREDIT_WALLET, PENDING_A, PENDING_B)
    await book.ok(*(fund(path, 50) for path in wallets))

    async def caller(writer: Writer) -> int:
        stood = 0
        for _ in range(25):
            one, two = rng.sample(wallets, 2)
            result = await writer.submit(unit(journal(pay(one, two, rng.randint(1, 60)))))
            assert isinstance(result, m.Posted | errors.InsufficientFunds)
            stood += isinstance(result, m.Posted)
        return stood

    async def third_hand() -> int:
        for _ in range(10):
            await asyncio.sleep(rng.random() / 50)
            await book.ok(fund(WALLET, 1))
        return 10

    async with knowing(book) as first, knowing(book, fund(WALLET, 1)) as second:
        stood = await asyncio.gather(*(caller(w) for w in (first, second) for _ in range(8)), third_hand())
    head = await (
        await book.conn.execute("SELECT head FROM ledger.book WHERE book_id = %s", [book.book_id])
    ).fetchone()
    await book.conn.rollback()
    assert head == (4 + 2 + sum(stood),)


async def test_one_writer_leads_and_another_takes_over_when_it_is_gone(book: Book, locked: list[int]) -> None:
    async with knowing(book) as first:
        async with knowing(book, fund(WALLET, 1)) as second:
            await submit(second, fund(WALLET, 1))
            assert locked == [1, 1, 1]
            await first.close()
        async with knowing(book, fund(WALLET, 1)) as third:
            await submit(third, fund(WALLET, 1))
            assert locked == [1, 1, 1, 1]


# ---------------------------------------------------------------- the rest of the book


async def test_a_settled_writer_knows_every_account(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimistic, "SETTLED", 3)
    monkeypatch.setattr(optimistic, "AHEAD", 2)
    async with knowing(book) as writer:
        for _ in range(12):
            await submit(writer, fund(WALLET, 1))
        state = writer._state  # pyright: ignore[reportPrivateUsage] - what it knows cannot be seen from outside
        assert state is not None
        assert state.whole
        assert len(state.accounts) == 10
        [unknown] = await submit(writer, journal(pay("Assets:New", WALLET, 1)))
        assert unknown == errors.AccountUnknown("Assets:New", "INR")
        await _open(book)
        [known] = await submit(writer, journal(pay("Assets:New", WALLET, 1)))
        assert isinstance(known, m.Posted)


async def test_statements_that_run_together_run_once_and_are_counted(book: Book) -> None:
    """Two units of one batch set their own rows; one that hits none is refused alone."""
    async with await AsyncConnection.connect(book.database.owner_dsn, autocommit=True) as owner:
        await owner.execute(
            "CREATE TABLE IF NOT EXISTS public.seen (id text PRIMARY KEY, times int NOT NULL)"
        )
        await owner.execute("GRANT ALL ON public.seen TO khata_app")
        await owner.execute(
            "INSERT INTO public.seen VALUES ('a', 0), ('b', 0) ON CONFLICT (id) DO UPDATE SET times = 0"
        )
    sql = (
        "UPDATE public.seen s SET times = times + 1"
        " FROM jsonb_to_recordset(%(rows)s::jsonb) AS r(id text) WHERE s.id = r.id"
    )

    def counted(name: str) -> m.Unit:
        return unit(fund(WALLET, 1), statements=(m.Statement(sql, {"id": name}, together=True),))

    async with knowing(book) as writer:
        results = await asyncio.gather(*(writer.submit(counted(name)) for name in ("a", "b", "nobody")))
    assert [type(result) for result in results] == [m.Posted, m.Posted, errors.StatementRefused]
    async with await AsyncConnection.connect(book.database.owner_dsn) as owner:
        rows = await (await owner.execute("SELECT id, times FROM public.seen ORDER BY id")).fetchall()
    assert rows == [("a", 1), ("b", 1)]
