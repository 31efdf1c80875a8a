"""Khata: the group-commit writer with concurrent callers, bulk transfers as columns, other batches of units.

CONFIG: ``dsn`` (khata_app), ``owner_dsn``, ``book`` (made if it is not there), ``seed``, ``accounts``.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any

import uvloop
from psycopg import AsyncConnection

from bench.pairs import LOADS, Pairs
from bench.worker import Run, Sample, batches, closed_loop, serve
from bench.workload import Columns, Units, must_stand, open_book
from ledger import model as m
from ledger.bulk import Batch, Bulk, BulkResult
from ledger.ids import Ids
from ledger.post import post
from ledger.writer import Writer

CALLERS = (1, 16, 64, 256)
BATCHES = (100, 1000, 8000)
IN_FLIGHT = 3  # two at the server, one being encoded
TABLES = ("account", "balance", "journal", "posting", "hold")

Batches = Sequence[Sequence[m.Unit]]


def clock() -> datetime:
    return datetime.now(UTC)


@asynccontextmanager
async def opened(config: Mapping[str, Any]) -> AsyncGenerator[dict[str, Run]]:
    """Cases on one book of funded accounts; every guarantee of the ledger is on."""
    async with AsyncExitStack() as stack:
        connect = partial(AsyncConnection.connect, config["dsn"])
        conn = await stack.enter_async_context(await connect())
        ids = Ids(clock)
        name, accounts = config["book"], config["accounts"]
        analyze = partial(_analyze, config["owner_dsn"])
        book_id = await open_book(conn, ids, clock(), analyze=analyze, name=name, accounts=accounts)
        await analyze()
        writer = await stack.enter_async_context(Writer(connect, book_id, clock=clock))
        bulk = await stack.enter_async_context(Bulk(connect, book_id, clock=clock))
        runs: dict[str, Run] = {}
        for load, hot in LOADS.items():
            units = Units(Pairs(random.Random(config["seed"]), hot=hot, accounts=accounts), ids)
            columns = Columns(config["seed"], clock, hot=hot, accounts=accounts)
            runs |= _writer_runs(writer, units, load)
            runs |= _bulk_runs(bulk, columns, load)
            runs |= _unit_runs(partial(_post, conn, book_id), units, load)
        yield runs


async def _analyze(owner_dsn: str) -> None:
    async with await AsyncConnection.connect(owner_dsn, autocommit=True) as owner:
        for table in TABLES:
            await owner.execute(f"VACUUM ANALYZE ledger.{table}".encode())


def _writer_runs(writer: Writer, units: Units, load: str) -> dict[str, Run]:
    async def transfer() -> None:
        must_stand([await writer.submit(units.transfer())])

    async def payment() -> None:
        must_stand([await writer.submit(units.payment())])

    async def hold_and_capture() -> None:
        place, capture = units.place()
        must_stand([await writer.submit(place)])
        must_stand([await writer.submit(capture)])

    def run(ask: Callable[[], Awaitable[None]], callers: int) -> Run:
        return partial(closed_loop, [ask] * callers)

    runs = {f"single/{load}/{callers}": run(transfer, callers) for callers in CALLERS}
    runs[f"hold+capture/{load}/64"] = run(hold_and_capture, 64)
    runs[f"payment+fee/{load}/64"] = run(payment, 64)
    return runs


async def _post(conn: AsyncConnection[Any], book_id: int, work: Batches) -> None:
    """One commit a batch."""
    for units in work:
        must_stand(await post(conn, book_id, units, now=clock()))
        await conn.commit()


async def _in_flight(
    bulk: Bulk, build: Callable[[int], Sequence[Batch]], size: int, seconds: float
) -> Sample:
    """Batch after batch, ``IN_FLIGHT`` of them under way: the next is built while they are.

    What is built together counts once.
    """
    sample = Sample()
    posting: deque[asyncio.Task[BulkResult]] = deque()
    start = time.perf_counter()
    while time.perf_counter() < start + seconds or not sample.done:
        for batch in build(size):
            posting.append(asyncio.create_task(bulk.post(batch)))
            await asyncio.sleep(0)  # let it be encoded
            if len(posting) == IN_FLIGHT:
                _all_stand(await posting.popleft())
        sample.done += size
    for task in posting:
        _all_stand(await task)
    sample.seconds = time.perf_counter() - start
    return sample


def _all_stand(result: BulkResult) -> None:
    """A refusal would make the figures a lie."""
    if result.refused or result.replayed:
        raise RuntimeError(f"a benchmark's batch did not stand: {result}")


def _bulk_runs(bulk: Bulk, columns: Columns, load: str) -> dict[str, Run]:
    def transfers(size: int) -> Sequence[Batch]:
        return (columns.transfers(size),)

    runs = {f"bulk/{load}/{size}": partial(_in_flight, bulk, transfers, size) for size in BATCHES}
    for size in BATCHES[1:]:
        runs[f"bulk-hold+capture/{load}/{size}"] = partial(_in_flight, bulk, columns.holds, size)
    return runs


def _unit_runs(
    run: Callable[[Batches], Coroutine[Any, Any, None]], units: Units, load: str
) -> dict[str, Run]:
    def payments(size: int) -> Batches:
        return [[units.payment() for _ in range(size)]]

    return {f"bulk-payment+fee/{load}/1000": partial(batches, run, partial(payments, 1000), 1000)}


if __name__ == "__main__":
    uvloop.run(serve(opened(json.loads(sys.argv[1]))))
