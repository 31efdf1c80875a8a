"""Khata's cases: the group-commit writer with concurrent callers, and bulk batches through ``ledger.post``."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any

import psycopg
from psycopg import AsyncConnection

from bench.measure import Case, Sample, closed_loop
from bench.workload import Pairs, Units, must_stand, open_book
from khata.database import Database
from ledger import model as m
from ledger.ids import Ids
from ledger.post import post
from ledger.writer import Writer

CALLERS = (1, 16, 64, 256)
BATCHES = (100, 1000, 8000)


def clock() -> datetime:
    return datetime.now(UTC)


@asynccontextmanager
async def khata_cases(database: Database, seed: int) -> AsyncGenerator[list[Case]]:
    """Cases on one book of 10,000 funded accounts; every guarantee of the ledger is on."""
    async with AsyncExitStack() as stack:
        connect = partial(AsyncConnection.connect, database.app_dsn)
        conn = await stack.enter_async_context(await connect())
        ids = Ids(clock)
        book_id = await open_book(conn, ids, clock())
        await _analyze(database)
        writer = await stack.enter_async_context(Writer(connect, book_id, clock=clock))
        cases: list[Case] = []
        for load, hot in (("uniform", False), ("hot", True)):
            units = Units(Pairs(random.Random(seed), hot=hot), ids)
            cases += _writer_cases(writer, units, load)
            cases += _bulk_cases(_Bulk(conn, book_id), units, load)
        yield cases


async def _analyze(database: Database) -> None:
    async with await psycopg.AsyncConnection.connect(database.owner_dsn, autocommit=True) as owner:
        for table in ("account", "balance", "journal", "posting"):
            await owner.execute(f"VACUUM ANALYZE ledger.{table}".encode())


def _writer_cases(writer: Writer, units: Units, load: str) -> list[Case]:
    async def transfer() -> None:
        must_stand([await writer.submit(units.transfer())])

    async def payment() -> None:
        must_stand([await writer.submit(units.payment())])

    async def hold_and_capture() -> None:
        place, capture = units.place()
        must_stand([await writer.submit(place)])
        must_stand([await writer.submit(capture)])

    def case(name: str, ask: Callable[[], Awaitable[None]], callers: int, unit: str) -> Case:
        return Case(f"{name}/{load}/{callers}", "khata", partial(closed_loop, [ask] * callers), unit)

    if load == "hot":
        return [case("single", transfer, callers, "transfers") for callers in (1, 16, 64)]
    return [
        *(case("single", transfer, callers, "transfers") for callers in CALLERS),
        case("hold+capture", hold_and_capture, 64, "pairs"),
        case("payment+fee", payment, 64, "payments"),
    ]


class _Bulk:
    """Posts batch after batch, one commit each, building the next while the database works on the last."""

    def __init__(self, conn: AsyncConnection[Any], book_id: int) -> None:
        self._conn = conn
        self._book_id = book_id

    async def run(
        self, build: Callable[[], Sequence[Sequence[m.Unit]]], counts: int, seconds: float
    ) -> Sample:
        """``build`` makes the batches of one turn, ``counts`` is what a turn is worth. At least one turn."""
        sample = Sample()
        batches = build()
        start = time.perf_counter()
        while not sample.done or time.perf_counter() < start + seconds:
            posting = asyncio.create_task(self._post(batches))
            await asyncio.sleep(0)  # let it lock and load
            batches = build()
            await posting
            sample.done += counts
        sample.seconds = time.perf_counter() - start
        return sample

    async def _post(self, batches: Sequence[Sequence[m.Unit]]) -> None:
        for units in batches:
            must_stand(await post(self._conn, self._book_id, units, now=clock()))
            await self._conn.commit()


def _bulk_cases(bulk: _Bulk, units: Units, load: str) -> list[Case]:
    def transfers(size: int) -> Sequence[Sequence[m.Unit]]:
        return [[units.transfer() for _ in range(size)]]

    def payments(size: int) -> Sequence[Sequence[m.Unit]]:
        return [[units.payment() for _ in range(size)]]

    def pairs(size: int) -> Sequence[Sequence[m.Unit]]:
        places, captures = zip(*(units.place() for _ in range(size)), strict=True)
        return places, captures

    def case(name: str, build: Callable[[int], Sequence[Sequence[m.Unit]]], size: int, unit: str) -> Case:
        return Case(f"{name}/{load}/{size}", "khata", partial(bulk.run, partial(build, size), size), unit)

    cases = [case("bulk", transfers, size, "transfers") for size in BATCHES]
    if load == "uniform":
        cases.append(case("bulk-hold+capture", pairs, 1000, "pairs"))
        cases.append(case("bulk-payment+fee", payments, 1000, "payments"))
    return cases
