"""Khata: the group-commit writer with concurrent callers, and bulk batches through ``ledger.post``.

CONFIG: ``dsn`` (khata_app), ``owner_dsn``, ``book`` (made if it is not there), ``seed``, ``accounts``.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any

import uvloop
from psycopg import AsyncConnection

from bench.pairs import LOADS, Pairs
from bench.worker import Run, batches, closed_loop, serve
from bench.workload import Units, must_stand, open_book
from ledger import model as m
from ledger.ids import Ids
from ledger.post import post
from ledger.writer import Writer

CALLERS = (1, 16, 64, 256)
BATCHES = (100, 1000, 8000)
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
        runs: dict[str, Run] = {}
        for load, hot in LOADS.items():
            units = Units(Pairs(random.Random(config["seed"]), hot=hot, accounts=accounts), ids)
            runs |= _writer_runs(writer, units, load)
            runs |= _bulk_runs(partial(_post, conn, book_id), units, load)
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


def _bulk_runs(
    run: Callable[[Batches], Coroutine[Any, Any, None]], units: Units, load: str
) -> dict[str, Run]:
    def transfers(size: int) -> Batches:
        return [[units.transfer() for _ in range(size)]]

    def payments(size: int) -> Batches:
        return [[units.payment() for _ in range(size)]]

    def pairs(size: int) -> Batches:
        places, captures = zip(*(units.place() for _ in range(size)), strict=True)
        return places, captures

    def case(build: Callable[[int], Batches], size: int) -> Run:
        return partial(batches, run, partial(build, size), size)

    runs = {f"bulk/{load}/{size}": case(transfers, size) for size in BATCHES}
    runs |= {f"bulk-hold+capture/{load}/{size}": case(pairs, size) for size in BATCHES[1:]}
    runs[f"bulk-payment+fee/{load}/1000"] = case(payments, 1000)
    return runs


if __name__ == "__main__":
    uvloop.run(serve(opened(json.loads(sys.argv[1]))))
