"""Loads a book by the bulk path, and at each size compares it with a young book, round by round on one server.

Data and progress stay in ``<home>/bench-growth`` until the run is complete; started again, it goes on. The figures
go to ``bench/out/growth.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psycopg
import uvloop
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from bench.__main__ import OUT
from bench.growth.store import Level, Point, Store, head, sizes, wal_position
from bench.measure import Case, Figure, Plan, rounds
from bench.pairs import ACCOUNTS
from bench.processes import ServerClock, Worker, resident_bytes
from bench.report import table
from bench.targets import Outcome, Target, judge, keep, targets_table
from bench.worker import Sample
from khata.bootstrap import prepare
from khata.config import Settings
from khata.database import Database, EmbeddedServer

LEVELS = (10_000, 100_000, 1_000_000, 10_000_000)
QUICK_LEVELS = (10_000, 100_000)
GROWN, YOUNG = "khata_growth", "khata_growth_young"
STRETCH_S = 5.0
PATIENCE_S = 3600.0  # a level is measured in full, however long it takes


@dataclass(frozen=True)
class Ground:
    """The server of the run. ``clock``: None when it is not ours."""

    admin_dsn: str
    home: Path
    clock: ServerClock | None


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__)
    quick = os.environ.get("QUICK") == "1"
    most = int(os.environ.get("POSTINGS") or (QUICK_LEVELS[-1] if quick else LEVELS[-1]))
    parser.add_argument("--postings", type=int, default=most, help="how far (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5 if quick else 2.0)
    parser.add_argument("--accounts", type=int, default=ACCOUNTS)
    parser.add_argument("--batch", type=int, default=8000, choices=(100, 1000, 8000))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--home", type=Path, default=Settings().home.absolute() / "bench-growth")
    parser.add_argument("--keep", action="store_true", help="leave the grown database there")
    return parser.parse_args(given)


@contextmanager
def ground(home: Path) -> Generator[Ground]:
    """An embedded server in ``home``, or ``KHATA_DATABASE_URL``."""
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o755)
    url = Settings().database_url
    if url is not None:
        yield Ground(url, Settings().home.absolute(), None)
        return
    with EmbeddedServer(home) as server:
        yield Ground(server.admin_dsn, home, ServerClock((server.pid,)) if server.pid else None)


def levels_up_to(most: int) -> list[int]:
    """10^4, 10^6, 10^7 of a full run; every power of ten on a short one; and ``most`` itself."""
    chosen = [level for level in LEVELS if level < most and (most < 1_000_000 or level != 100_000)]
    return [*chosen, most]


class Growth:
    """One run on one server."""

    def __init__(self, given: argparse.Namespace, place: Ground, console: Console) -> None:
        self._given = given
        self._place = place
        self._console = console
        self._bulk = f"bulk/uniform/{given.batch}"
        self._store = Store(given.home)
        self._database = prepare(place.admin_dsn, place.home, GROWN)

    async def run(self) -> None:
        """Every level that is not there yet."""
        known = {level.postings for level in self._store.levels}
        columns = (
            *(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()),
            *(TimeElapsedColumn(), TimeRemainingColumn()),
        )
        grown = await self._worker(self._database, self._given.seed)
        try:
            with (
                Progress(*columns, console=self._console) as progress,
                psycopg.connect(self._database.admin_dsn, autocommit=True) as admin,
            ):
                task = progress.add_task("postings", total=self._given.postings, completed=head(admin))
                for level in levels_up_to(self._given.postings):
                    await self._load(level, grown, admin, progress, task)
                    if level not in known:
                        progress.update(task, description=f"measuring at {level:,}")
                        self._store.add_level(await self._measure(level, grown, admin))
                        progress.update(task, description="postings", completed=head(admin))
        finally:
            await grown.close()

    async def _worker(self, database: Database, seed: int) -> Worker:
        config = {
            "dsn": database.app_dsn,
            "owner_dsn": database.owner_dsn,
            "book": "bench",
            "seed": seed,
            "accounts": self._given.accounts,
        }
        return await Worker.start("bench.systems.khata", config)

    async def _load(
        self, level: int, worker: Worker, admin: psycopg.Connection[Any], progress: Progress, task: Any
    ) -> None:
        while (before := head(admin)) < level:
            wal = wal_position(admin)
            # One batch a turn near the end, so as not to overshoot.
            near = level - before < 100_000
            sample = await worker.run(self._bulk, 0.0 if near else STRETCH_S)
            after = head(admin)
            grown = Point(
                after, sample.done, sample.seconds, wal_position(admin) - wal, resident_bytes(worker.pid)
            )
            self._store.add_point(grown)
            progress.update(task, completed=after)

    async def _measure(self, level: int, grown: Worker, admin: psycopg.Connection[Any]) -> Level:
        """The grown book beside a young one in a database of its own, made anew."""
        held, bytes_of = head(admin), sizes(admin)
        young = await self._worker(self._young(), self._given.seed)
        try:
            cases = [
                Case(_name(asks, level), system, (worker,), asks, server=self._place.clock)
                for asks in (self._bulk, "single/uniform/64", "single/uniform/1")
                for system, worker in (("khata", grown), ("young", young))
            ]
            given = self._given
            plan = Plan(
                count=given.rounds,
                seconds=given.seconds,
                deadline=time.monotonic() + PATIENCE_S,
                seed=given.seed,
                warm=min(0.5, given.seconds),
            )
            measured = await rounds(cases, plan, _quiet)
        finally:
            await young.close()
        outcomes = judge(f"growth {level}", _targets(level, given.batch), measured)
        figures = [asdict(m.figure) for m in measured]
        return Level(level, held, figures, [asdict(o) for o in outcomes], bytes_of)

    def _young(self) -> Database:
        with psycopg.connect(self._place.admin_dsn, autocommit=True) as server:
            server.execute(f"DROP DATABASE IF EXISTS {YOUNG} WITH (FORCE)".encode())
        return prepare(self._place.admin_dsn, self._place.home, YOUNG)

    def report(self) -> None:
        """Tables, and ``growth.json`` with everything."""
        levels, points = self._store.levels, self._store.points
        figures = [Figure(**figure) for level in levels for figure in level.figures]
        outcomes = [Outcome(**outcome) for level in levels for outcome in level.targets]
        self._console.print(table(figures, "A grown book (khata) beside a young one; case / postings / size"))
        self._console.print(targets_table(outcomes))
        self._console.print(_size_table(levels))
        rss = [point.writer_rss_bytes for point in points]
        memory = {"first": rss[0], "last": rss[-1], "most": max(rss)} if rss else {}
        loaded, wal = sum(p.loaded for p in points), sum(p.wal_bytes for p in points)
        if loaded:
            self._console.print(f"write-ahead log: {wal / loaded:,.0f} bytes a posting")
            words = ", ".join(f"{name} {value / 2**20:,.0f} MiB" for name, value in memory.items())
            self._console.print(f"memory of the writer's process while loading: {words}")
        out: Path = self._given.out
        out.mkdir(parents=True, exist_ok=True)
        result = {
            "levels": [asdict(level) for level in levels],
            "wal_bytes_per_posting": wal / loaded if loaded else None,
            "writer_rss_bytes": memory,
            "loading": [point._asdict() for point in points],
        }
        (out / "growth.json").write_text(json.dumps(result, indent=1) + "\n")
        keep(out / "targets.json", outcomes)


def _name(asks: str, level: int) -> str:
    kind, _, size = asks.split("/")
    return f"{kind}/{level}/{size}"


def _targets(level: int, batch: int) -> list[Target]:
    """Of the largest book; at smaller ones they should hold all the more."""
    bulk, many, one = (
        f"{kind}/{level}/{size}" for kind, size in (("bulk", batch), ("single", 64), ("single", 1))
    )
    return [
        Target(f"bulk, {level:,} postings", (bulk,), "young", (bulk,), 0.8),
        Target(f"64 callers, {level:,} postings", (many,), "young", (many,), 0.8),
        Target(f"64 callers, p99, {level:,} postings", (many,), "young", (many,), at_most=1.5, of="p99"),
        Target(f"one caller, p99, {level:,} postings", (one,), "young", (one,), at_most=1.5, of="p99"),
    ]


def _quiet(number: int, case: Case, sample: Sample) -> None:
    """Rounds of a level show no progress of their own."""


def _size_table(levels: Sequence[Level]) -> Table:
    out = Table(title="Disk, bytes a posting (journals of one posting)")
    out.add_column("relation", no_wrap=True)
    for level in levels:
        out.add_column(f"{level.postings:,}", justify="right")
    names = sorted({name for level in levels for name in level.sizes})
    for name in names:
        out.add_row(name, *(f"{level.sizes.get(name, 0) / level.held:,.0f}" for level in levels))
    out.add_row("all", *(f"{sum(level.sizes.values()) / level.held:,.0f}" for level in levels))
    return out


def main(arguments_given: Sequence[str] | None = None) -> None:
    given = arguments(arguments_given)
    console = Console()
    console = console if console.is_terminal else Console(width=130)
    with ground(given.home) as place:
        growth = Growth(given, place, console)
        uvloop.run(growth.run())
        growth.report()
        if place.clock is None and not given.keep:
            _drop(place)
    if not given.keep:
        shutil.rmtree(given.home)


def _drop(place: Ground) -> None:
    with psycopg.connect(place.admin_dsn, autocommit=True) as server:
        for name in (GROWN, YOUNG):
            server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())


if __name__ == "__main__":
    main()
