"""Runs every case, prints the table, writes ``bench/out/latest.json`` and draws ``docs/bench.svg``."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import psycopg
import uvloop
from psycopg import sql
from rich.console import Console
from rich.progress import Progress

from bench.classic import classic_cases, prepare_classic
from bench.khata_cases import khata_cases
from bench.measure import Case, Figure, Sample, rounds
from bench.picture import draw
from bench.report import table
from khata.bootstrap import prepare
from khata.config import Settings
from khata.database import Database, EmbeddedServer
from khata.memory import collect_rarely

HERE = Path(__file__).parent
LATEST = HERE / "out" / "latest.json"
PICTURE = HERE.parent / "docs" / "bench.svg"
DATABASE = "khata_bench"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", default=os.environ.get("QUICK") == "1", help="under 90 s"
    )
    parser.add_argument("--only", default="", help="cases whose name contains this text; writes no files")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float, help="length of one turn of one case")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


@contextmanager
def bench_database() -> Generator[Database]:
    """A fresh database on ``KHATA_DATABASE_URL``, or on a server of our own with its own data directory; gone after."""
    url = Settings().database_url
    with tempfile.TemporaryDirectory(prefix="khata-bench-") as directory:
        home = Path(directory)
        home.chmod(0o755)  # the database's own user must be able to enter it
        if url is None:
            with EmbeddedServer(home) as server:
                yield prepare(server.admin_dsn, home, DATABASE)
            return
        home = Settings().home.absolute()
        _drop(url)
        try:
            yield prepare(url, home, DATABASE)
        finally:
            _drop(url)


def _drop(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(DATABASE)))


async def measure(database: Database, options: argparse.Namespace, console: Console) -> list[Figure]:
    count = options.rounds or 5
    seconds = options.seconds or (0.3 if options.quick else 2.5)
    prepare_classic(database)
    async with khata_cases(database, options.seed) as khata, classic_cases(database, options.seed) as classic:
        cases = [case for case in [*khata, *classic] if options.only in case.name]
        collect_rarely()  # as `khata serve` does; both systems run in this process
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task("", total=len(cases) * (count + 1))

            def after_each(number: int, case: Case, sample: Sample) -> None:
                what = f"round {number}/{count} · {case.system} {case.name} · {sample.rate:,.0f}/s"
                progress.update(task, advance=1, description=what)

            return await rounds(cases, count=count, seconds=seconds, after_each=after_each)


def main() -> None:
    options = arguments()
    console = Console()
    console = console if console.is_terminal else Console(width=100)
    with bench_database() as database:
        figures = uvloop.run(measure(database, options, console))
    console.print(table(figures))
    if options.only:
        return
    LATEST.parent.mkdir(exist_ok=True)
    LATEST.write_text(json.dumps([asdict(figure) for figure in figures], indent=1) + "\n")
    PICTURE.write_text(draw(figures))
    console.print(f"{LATEST.relative_to(HERE.parent)} and {PICTURE.relative_to(HERE.parent)} written")


if __name__ == "__main__":
    main()
