"""What each of several processes does to one book at the same time; run by ``multiprocessing`` (spawn)."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing import get_context
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection

from ledger import model as m
from ledger.ids import Ids
from ledger.post import post
from ledger.writer import Writer


def clock() -> datetime:
    return datetime.now(UTC)


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


Deed = Callable[[Errand, tuple[str, ...]], Coroutine[Any, Any, Report]]


def run(deed: Deed, errand: Errand, accounts: tuple[str, ...]) -> Report:
    return asyncio.run(deed(errand, accounts))


def all_at_once(deeds: list[tuple[Deed, Errand, tuple[str, ...]]]) -> Report:
    """Each deed in a process of its own; what they report, added up."""
    with ProcessPoolExecutor(len(deeds), mp_context=get_context("spawn")) as pool:
        return sum((future.result() for future in [pool.submit(run, *deed) for deed in deeds]), Counter())
