"""kill -9 of the whole database, and of writing processes, while units are acknowledged: none may be lost.

``CYCLES`` (default 4) sets the number of kills.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from psycopg import AsyncConnection

from khata.bootstrap import ROLES, database_urls, prepare
from khata.database import EmbeddedServer
from khata.secret_file import secrets_for
from ledger import model as m
from ledger.books import create_book, open_accounts
from ledger.post import post
from tests.crash.clerk import ACCOUNTS, Log, clock, read_logs, unit, work
from tests.ledger.recompute import assert_sound
from tests.server import temporary_home

CYCLES = int(os.environ.get("CYCLES", "4"))
pytestmark = [
    pytest.mark.timeout(max(300, CYCLES * 30)),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds the server's processes in /proc"),
]


@dataclass
class Bench:
    """A durable server of our own, with one book. ``server`` keeps its port over restarts if nobody takes it."""

    server: EmbeddedServer
    home: Path
    book_id: int = 0

    async def connect(self) -> AsyncConnection[Any]:
        return await AsyncConnection.connect(self.dsn)

    @property
    def dsn(self) -> str:
        return database_urls(self.server.admin_dsn, secrets_for(self.home, ROLES), "crash").app_dsn

    def kill(self) -> None:
        """Every process of the server dies at once: the postmaster, held still, cannot tidy up or notice."""
        postmaster = self.server.pid
        assert postmaster is not None
        os.kill(postmaster, signal.SIGSTOP)
        for pid in [*children(postmaster), postmaster]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.server.wait()


def children(parent: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


@pytest.fixture(scope="module")
def durable() -> Iterator[Bench]:
    binaries = os.environ.get("KHATA_TEST_PG_BIN")
    with temporary_home() as home:
        server = EmbeddedServer(
            home, binaries=Path(binaries) if binaries else None, settings={"shared_buffers": "64MB"}
        )
        with server:
            bench = Bench(server, home)
            prepare(server.admin_dsn, home, "crash")
            yield bench


@pytest.fixture
async def bench(durable: Bench) -> Bench:
    async with await durable.connect() as conn:
        durable.book_id = await create_book(conn, name=f"b{secrets.token_hex(8)}", now=clock())
        await open_accounts(
            conn, durable.book_id, [m.NewAccount(path, "INR") for path in ACCOUNTS], now=clock()
        )
    return durable


@pytest.fixture
def seed() -> int:
    seed = int(os.environ.get("SEED", random.SystemRandom().randrange(2**32)))
    print(f"seed {seed}")
    return seed


async def acknowledgements(log: Log, more: int) -> None:
    """Returns after ``more`` of them."""
    target = log.acknowledged + more
    await log.until(lambda: log.acknowledged >= target)


async def settle(bench: Bench, *logs: Path) -> str:
    """Nothing acknowledged is lost; what is unknown is said again and stands once; the book recomputes."""
    tried, acknowledged = read_logs(*logs)
    unknown = sorted(tried - acknowledged.keys())
    async with await bench.connect() as conn:
        cursor = await conn.execute(
            "SELECT source_id, seq FROM ledger.journal WHERE book_id = %s AND source_type = 'clerk'",
            [bench.book_id],
        )
        stored = dict(await cursor.fetchall())
        await conn.rollback()
        assert {source: stored.get(source) for source in acknowledged} == acknowledged
        assert stored.keys() <= tried
        committed = sum(source in stored for source in unknown)
        results = await post(conn, bench.book_id, [unit(source) for source in unknown], now=clock())
        await conn.commit()
        replayed = [isinstance(r, m.Posted) and r.replayed for r in results]
        assert replayed == [source in stored for source in unknown]
        await assert_sound(conn, bench.book_id)
        cursor = await conn.execute("SELECT head FROM ledger.book WHERE book_id = %s", [bench.book_id])
        assert await cursor.fetchone() == (len(tried),)
    return f"{len(acknowledged)} acknowledged, {len(unknown)} unknown of which {committed} had been committed"


async def test_no_acknowledged_unit_is_lost_when_the_database_is_killed(
    bench: Bench, tmp_path: Path, seed: int
) -> None:
    """One writer waits for the database to come back, another gives up at once and leaves its units unknown."""
    dice, stop = random.Random(seed), asyncio.Event()
    patient, hasty = Log(tmp_path / "patient"), Log(tmp_path / "hasty")
    clerks = [
        asyncio.create_task(work(bench.connect, bench.book_id, "patient", patient, stop, settle_s=60)),
        asyncio.create_task(work(bench.connect, bench.book_id, "hasty", hasty, stop, settle_s=0)),
    ]
    for _ in range(CYCLES):
        await acknowledgements(dice.choice([patient, hasty]), dice.randint(20, 250))
        await asyncio.sleep(dice.uniform(0, 0.01))  # anywhere in a transaction, not only right after one
        bench.kill()
        before = hasty.unknown
        await hasty.until(lambda: hasty.unknown > before)  # noqa: B023 - waited for here
        bench.server.start()
        await acknowledgements(patient, 1)
    stop.set()
    await asyncio.gather(*clerks)
    for log in (patient, hasty):
        log.close()
    print(f"{CYCLES} kills:", await settle(bench, patient.path, hasty.path))


async def test_no_acknowledged_unit_is_lost_when_writers_are_killed(
    bench: Bench, tmp_path: Path, seed: int
) -> None:
    """Two processes write one book; again and again one of them dies and another takes its place."""
    dice = random.Random(seed)
    clerks: list[tuple[subprocess.Popen[bytes], Path]] = []
    logs: list[Path] = []

    def hire() -> None:
        path = tmp_path / f"clerk{len(logs)}"
        path.touch()
        logs.append(path)
        command = [
            sys.executable,
            "-m",
            "tests.crash.clerk",
            bench.dsn,
            str(bench.book_id),
            path.name,
            str(path),
        ]
        clerks.append((subprocess.Popen(command), path))

    hire()
    for _ in range(CYCLES):
        hire()
        _, newest = clerks[-1]
        lines = dice.randint(50, 400)
        while newest.read_bytes().count(b"\n") < lines:
            assert clerks[-1][0].poll() is None
            await asyncio.sleep(0.001)
        victim, _ = clerks.pop(dice.randrange(2))
        victim.kill()
        victim.wait()
    for clerk, _ in clerks:
        clerk.kill()
        clerk.wait()
    async with (
        await bench.connect() as conn
    ):  # the dead ones' last transactions have ended once the lock is ours
        await conn.execute(
            "UPDATE ledger.book SET recorded_at = recorded_at WHERE book_id = %s", [bench.book_id]
        )
    print(f"{CYCLES + 1} kills:", await settle(bench, *logs))
