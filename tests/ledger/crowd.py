"""What each of several processes does to one book at the same time; run by ``multiprocessing`` (spawn)."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing import get_context
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection

from ledger import model as m
from ledger.errors import Refusal
from ledger.ids import Ids
from ledger.post import post
from ledger.transfers import Transfer, Transfers
from ledger.writer import Writer

NOBODY = "Liabilities:Customer:nobody:Wallet"


def clock() -> datetime:
    return datetime.now(UTC)


@contextlib.asynccontextmanager
async def carrying(dsn: str, *books: int) -> AsyncGenerator[tuple[Transfers, Callable[[int], Writer]]]:
    """Transfers between ``books`` and their writers, as one process has them."""

    async def open_connection() -> AsyncConnection[Any]:
        return await AsyncConnection.connect(dsn)

    @contextlib.asynccontextmanager
    async def connect() -> AsyncGenerator[AsyncConnection[Any]]:
        async with await open_connection() as conn:
            yield conn

    async with contextlib.AsyncExitStack() as stack:
        writers = {b: await stack.enter_async_context(Writer(open_connection, b, clock=clock)) for b in books}
        yield Transfers(writers.__getitem__, connect, Ids(clock), clock), writers.__getitem__


@dataclass(frozen=True)
class Errand:
    """Plain values, so that they pickle. ``name`` tells the processes apart, ``seed`` replays their choices."""

    dsn: str
    book_id: int
    name: str
    seed: int
    count: int

    async def connect(self) -> AsyncConnection[Any]:
        return await AsyncConnection.connect(self.dsn)

    def writer(self, **limits: Any) -> Writer:
        return Writer(self.connect, self.book_id, clock=clock, **limits)

    def transfer(self, debit: str, credit: str, amount: int, source: str) -> m.Unit:
        posting = m.Posting(debit, credit, amount, "INR")
        return m.Unit((m.Journal(Ids(clock)(), "transfer", m.Source("crowd", source, "done"), (posting,)),))


Report = Counter[str]


def outcome(result: m.Result) -> str:
    if isinstance(result, m.Posted):
        return "replayed" if result.replayed else "posted"
    return result.code


async def through_a_writer(errand: Errand, accounts: tuple[str, ...]) -> Report:
    """``count`` transfers between random accounts, all at once."""
    dice = random.Random(f"{errand.seed}-{errand.name}")
    async with errand.writer(batch_limit=50) as writer:
        units = [
            errand.transfer(*dice.sample(accounts, 2), dice.randint(1, 50), f"{errand.name}-{n}")
            for n in range(errand.count)
        ]
        return Counter(map(outcome, await asyncio.gather(*map(writer.submit, units))))


async def in_own_transactions(errand: Errand, accounts: tuple[str, ...]) -> Report:
    """The same with plain ``post`` in transactions of the caller's own, some of them rolled back."""
    dice = random.Random(f"{errand.seed}-{errand.name}")
    report: Report = Counter()
    async with await errand.connect() as conn:
        for n in range(errand.count):
            units = [
                errand.transfer(*dice.sample(accounts, 2), dice.randint(1, 50), f"{errand.name}-{n}-{k}")
                for k in range(dice.randint(1, 3))
            ]
            results = await post(conn, errand.book_id, units, now=clock())
            if dice.random() < 0.2:
                await conn.rollback()
                continue
            await conn.commit()
            report.update(map(outcome, results))
    return report


async def drain(errand: Errand, accounts: tuple[str, ...]) -> Report:
    """``count`` concurrent debits of 1 from the first account to the second."""
    debit, credit = accounts
    async with errand.writer(batch_limit=5) as writer:
        units = [errand.transfer(debit, credit, 1, f"{errand.name}-{n}") for n in range(errand.count)]
        return Counter(map(outcome, await asyncio.gather(*map(writer.submit, units))))


async def say_the_same(errand: Errand, accounts: tuple[str, ...]) -> Report:
    """Every process submits the same ``count`` units."""
    async with errand.writer(batch_limit=7) as writer:
        units = [errand.transfer(*accounts, 1, f"same-{n}") for n in range(errand.count)]
        return Counter(map(outcome, await asyncio.gather(*map(writer.submit, units))))


async def capture_one_hold(errand: Errand, accounts: tuple[str, ...]) -> Report:
    """``count`` concurrent captures of 1; ``accounts`` is the hold's id."""
    hold_id = UUID(accounts[0])
    async with errand.writer(batch_limit=5) as writer:
        units = [
            m.Unit(
                (
                    m.Journal(
                        Ids(clock)(), "capture", m.Source("crowd", f"{errand.name}-{n}", "done"), hold=capture
                    ),
                )
            )
            for n, capture in enumerate([m.Capture(hold_id, 1)] * errand.count)
        ]
        return Counter(map(outcome, await asyncio.gather(*map(writer.submit, units))))


async def between_books(errand: Errand, accounts: tuple[str, ...]) -> Report:
    """``count`` transfers to another book and back, at once; ``accounts``: that book's number, then those of both.

    Each process has writers of its own for both books, and now and then recovers what others have in flight.
    """
    dice = random.Random(f"{errand.seed}-{errand.name}")
    here, there = errand.book_id, int(accounts[0])
    async with carrying(errand.dsn, here, there) as (transfers, _):

        async def send(n: int) -> str:
            book, to_book = dice.sample((here, there), 2)
            account = dice.choice(accounts[1:])
            to_account = NOBODY if n % 5 == 0 else dice.choice(accounts[1:])
            t = Transfer(transfers.ids(), book, to_book, account, to_account, dice.randint(1, 50), "INR")
            if n % 10 == 0:
                await transfers.recover()
            sent = await transfers.send(t)
            return sent.code if isinstance(sent, Refusal) else sent.state.value

        return Counter(await asyncio.gather(*map(send, range(errand.count))))


async def hold_and_release(errand: Errand, accounts: tuple[str, ...]) -> Report:
    """``count`` holds between random accounts at once, each captured, in part or released as soon as it stands."""
    dice = random.Random(f"{errand.seed}-{errand.name}")
    ids = Ids(clock)
    async with errand.writer(batch_limit=20) as writer:

        async def act(name: str, kind: str, hold: m.HoldAction) -> str:
            return outcome(
                await writer.submit(
                    m.Unit((m.Journal(ids(), kind, m.Source("crowd", name, "done"), hold=hold),))
                )
            )

        async def live(n: int) -> list[str]:
            id_, amount = ids(), dice.randint(2, 50)
            placed = await act(
                f"{errand.name}-{n}-p", "hold", m.Place(id_, *dice.sample(accounts, 2), amount, "INR")
            )
            if placed != "posted":
                return [placed]
            ends = (m.Capture(id_, amount), m.Capture(id_, amount // 2, final=True), m.Release(id_))
            return [placed, await act(f"{errand.name}-{n}-e", "hold_end", dice.choice(ends))]

        lives = await asyncio.gather(*map(live, range(errand.count)))
        return Counter(word for life in lives for word in life)


Deed = Callable[[Errand, tuple[str, ...]], Coroutine[Any, Any, Report]]


def run(deed: Deed, errand: Errand, accounts: tuple[str, ...]) -> Report:
    return asyncio.run(deed(errand, accounts))


def all_at_once(deeds: list[tuple[Deed, Errand, tuple[str, ...]]]) -> Report:
    """Each deed in a process of its own; what they report, added up."""
    with ProcessPoolExecutor(len(deeds), mp_context=get_context("spawn")) as pool:
        return sum((future.result() for future in [pool.submit(run, *deed) for deed in deeds]), Counter())
