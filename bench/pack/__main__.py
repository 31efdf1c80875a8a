"""A large book: sealed as fast as it is posted in bulk, exported and verified in flat memory.

Posting and sealing take turns in one run, so that a ratio of the two means something on any machine. The export and the
stand-alone verifier are processes of their own. The figures go to ``bench/out/pack.json``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import uvloop
from psycopg import AsyncConnection
from rich.console import Console
from rich.table import Table

from bench.__main__ import OUT
from bench.growth.__main__ import ground
from bench.pairs import ACCOUNTS
from bench.targets import Outcome, is_met, keep, targets_table
from bench.workload import Columns, open_book
from khata.bootstrap import prepare
from khata.clock import utc_now
from khata.config import Settings
from khata.database import Database
from khata.packing import VERIFIER
from khata.sealing import Sealer
from khata.wiring import api_secrets
from ledger.bulk import Bulk, BulkResult
from ledger.ids import Ids

NAME, ELSEWHERE, BOOK = "khata_pack", "khata_pack_elsewhere", "bench"
TURNS = 10
IN_FLIGHT = 3
POLL_S = 0.02
MOST_BYTES = 300 * 2**20


@dataclass(frozen=True)
class Turn:
    """Journals posted and leaves sealed, one after the other, and the seconds of each."""

    journals: int
    posting_s: float
    leaves: int
    sealing_s: float


@dataclass(frozen=True)
class Done:
    """A process that has ended: its time, its processor time, the most memory it ever had."""

    seconds: float
    cpu_seconds: float
    most_bytes: int
    said: str


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.pack", description=__doc__)
    parser.add_argument("--journals", type=int, default=int(os.environ.get("JOURNALS") or 1_000_000))
    parser.add_argument("--accounts", type=int, default=ACCOUNTS)
    parser.add_argument("--batch", type=int, default=8000)
    parser.add_argument("--formats", default="none", help="as khata export has it (default: %(default)s)")
    parser.add_argument("--import-too", action="store_true", help="make the book again in another database")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--home", type=Path, default=Settings().home.absolute() / "bench-pack")
    return parser.parse_args(given)


async def fill(database: Database, home: Path, given: argparse.Namespace) -> list[Turn]:
    """A book of so many journals, all of it sealed."""

    async def analyze() -> None:
        async with await AsyncConnection.connect(database.owner_dsn, autocommit=True) as owner:
            await owner.execute(
                "VACUUM ANALYZE ledger.account, ledger.balance, ledger.journal, ledger.posting"
            )

    settings = Settings(home=home)
    sealer = Sealer(settings.log_origin, api_secrets(settings))
    connect = partial(AsyncConnection.connect, database.app_dsn)
    turns: list[Turn] = []
    async with await connect() as conn:
        book_id = await open_book(
            *(conn, Ids(utc_now), utc_now()), analyze=analyze, name=BOOK, accounts=given.accounts
        )
        await seal(conn, sealer, book_id)  # the accounts and their first money: not part of any turn
        columns = Columns(1, utc_now, hot=False, accounts=given.accounts)
        left = given.journals - given.accounts
        async with Bulk(connect, book_id, clock=utc_now) as bulk:
            for turn in range(TURNS, 0, -1):
                size = left // turn
                left -= size
                started = time.perf_counter()
                await post(bulk, columns, size, given.batch)
                posted = time.perf_counter()
                leaves = await seal(conn, sealer, book_id)
                turns.append(Turn(size, posted - started, leaves, time.perf_counter() - posted))
    await analyze()
    return turns


async def post(bulk: Bulk, columns: Columns, journals: int, batch: int) -> None:
    """Three batches at a time: two at the server, one being encoded."""
    under_way: deque[asyncio.Task[BulkResult]] = deque()
    for first in range(0, journals, batch):
        under_way.append(asyncio.create_task(bulk.post(columns.transfers(min(batch, journals - first)))))
        if len(under_way) == IN_FLIGHT:
            must_stand(await under_way.popleft())
        await asyncio.sleep(0)
    for task in under_way:
        must_stand(await task)


def must_stand(result: BulkResult) -> None:
    """A refusal would make the figures a lie."""
    if result.refused or result.replayed:
        raise RuntimeError(f"journals did not stand: {result}")


async def seal(conn: AsyncConnection[Any], sealer: Sealer, book_id: int) -> int:
    """Everything that is recorded; how many leaves."""
    leaves, more = 0, True
    while more:
        sealed = await sealer.seal(conn, book_id, now=utc_now())
        await conn.commit()
        leaves += sealed.leaves if sealed else 0
        more = sealed is not None and sealed.more
    return leaves


def run(arguments: Sequence[str], environment: dict[str, str]) -> Done:
    """Raises ``RuntimeError`` with what it said where it fails."""
    started, most = time.perf_counter(), 0
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [sys.executable, *arguments], env={**os.environ, **environment}, stdout=said, stderr=said
        )
        while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0:
            most = max(most, peak_bytes(process.pid))
            time.sleep(POLL_S)
        _, status, usage = ended
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        words = said.read().decode()
    if process.returncode:
        raise RuntimeError(f"{arguments} ended with {process.returncode}:\n{words}")
    return Done(time.perf_counter() - started, usage.ru_utime + usage.ru_stime, most, words)


def peak_bytes(pid: int) -> int:
    """The most memory in RAM that the process has had so far; what wait4 tells counts its parent's, too."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def judged(turns: Sequence[Turn], export: Done, verify: Done) -> list[Outcome]:
    ratios = [(t.leaves / t.sealing_s) / (t.journals / t.posting_s) for t in turns]
    memory = {"export": export.most_bytes / MOST_BYTES, "verifier": verify.most_bytes / MOST_BYTES}
    return [
        _outcome("sealing keeps up", "sealing", "bulk posting", ratios, at_least=1),
        *(
            _outcome(f"memory of the {name}", name, "300 MiB", [ratio], at_most=1)
            for name, ratio in memory.items()
        ),
    ]


def _outcome(
    title: str,
    case: str,
    beside: str,
    ratios: list[float],
    *,
    at_least: float | None = None,
    at_most: float | None = None,
) -> Outcome:
    ratio = statistics.median(ratios)
    met = is_met(ratio, at_least, at_most)
    spread = (min(ratios), max(ratios), len(ratios))
    return Outcome("pack", title, case, beside, ratio, *spread, at_least, at_most, met)


def figures_table(journals: int, turns: Sequence[Turn], processes: dict[str, Done]) -> Table:
    out = Table(title=f"{journals:,} journals")
    out.add_column("what")
    for name in ("journals/s", "seconds", "CPU s", "most MiB"):
        out.add_column(name, justify="right", no_wrap=True)
    posting = statistics.median(t.journals / t.posting_s for t in turns)
    sealing = statistics.median(t.leaves / t.sealing_s for t in turns)
    out.add_row("bulk posting", f"{posting:,.0f}", f"{sum(t.posting_s for t in turns):,.1f}", "", "")
    out.add_row("sealing", f"{sealing:,.0f}", f"{sum(t.sealing_s for t in turns):,.1f}", "", "")
    for name, done in processes.items():
        figures = (f"{done.seconds:,.1f}", f"{done.cpu_seconds:,.1f}", f"{done.most_bytes / 2**20:,.0f}")
        out.add_row(name, f"{journals / done.seconds:,.0f}", *figures)
    return out


def main(given_arguments: Sequence[str] | None = None) -> None:
    given = arguments(given_arguments)
    console = Console()
    console = console if console.is_terminal else Console(width=130)
    shutil.rmtree(given.home, ignore_errors=True)
    with ground(given.home) as place:
        database = prepare(place.admin_dsn, place.home, NAME)
        try:
            turns = uvloop.run(fill(database, place.home, given))
            pack = given.home / "bench.zip"
            environment = {"KHATA_DATABASE_URL": place.admin_dsn, "KHATA_DATABASE_NAME": NAME}
            environment |= {"KHATA_HOME": str(place.home), "KHATA_BOOK": BOOK}
            asked = ("export", "--out", str(pack), "--formats", given.formats, "--json")
            export = run(("-m", "khata", *asked), environment)
            verify = run((str(VERIFIER), str(pack)), {})
            processes = {"export": export, "verifier": verify}
            if given.import_too:
                elsewhere = environment | {"KHATA_DATABASE_NAME": ELSEWHERE}
                processes["import"] = run(("-m", "khata", "import-pack", str(pack), "--json"), elsewhere)
            size = pack.stat().st_size
        finally:
            with psycopg.connect(place.admin_dsn, autocommit=True) as admin:
                for name in (NAME, ELSEWHERE):
                    admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())
    shutil.rmtree(given.home)
    outcomes = judged(turns, export, verify)
    console.print(figures_table(given.journals, turns, processes))
    console.print(targets_table(outcomes))
    console.print(f"the pack: {size / 2**20:,.0f} MiB, {size / given.journals:,.0f} bytes a journal")
    given.out.mkdir(parents=True, exist_ok=True)
    result = {"journals": given.journals, "turns": [asdict(t) for t in turns], "pack_bytes": size}
    result |= {name: asdict(done) for name, done in processes.items()}
    (given.out / "pack.json").write_text(json.dumps(result, indent=1) + "\n")
    keep(given.out / "targets.json", outcomes)


if __name__ == "__main__":
    main()
