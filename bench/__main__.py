"""Runs every case, prints the tables, writes ``bench/out/{latest,targets}.json`` and draws ``docs/bench.svg``."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import uvloop
from rich.console import Console
from rich.progress import Progress

from bench.lineup import Lineup, Options, lineup
from bench.measure import Case, Measured, Plan, rounds
from bench.pairs import ACCOUNTS
from bench.picture import draw
from bench.report import table
from bench.server import BenchServer, bench_database, bench_server
from bench.targets import TARGETS, judge, keep, targets_table
from bench.worker import Sample

__all__ = ["bench_database"]

HERE = Path(__file__).parent
OUT = HERE / "out"
PICTURE = HERE.parent / "docs" / "bench.svg"
SYSTEMS = Options(size="full", seed=1).systems
FULL_S, QUICK_S = 540.0, 75.0  # setting up included; the rest of the time is for stopping
TURN_S, QUICK_TURN_S = 2.5, 0.3
LEAD_S, QUICK_LEAD_S = 0.4, 0.0


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    quick = os.environ.get("QUICK") == "1"
    parser.add_argument("--quick", action="store_true", default=quick, help="under 90 s")
    parser.add_argument(
        "--smoke", action="store_true", help="the shortest form there is: does it run at all?"
    )
    parser.add_argument("--only", default="", help="cases whose name contains this text; writes no picture")
    parser.add_argument("--systems", default=",".join(SYSTEMS), help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, help="longest turn of one case")
    parser.add_argument("--accounts", type=int, default=ACCOUNTS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=OUT)
    return parser.parse_args(given)


def options_of(arguments: argparse.Namespace) -> Options:
    """``PGLEDGER_SQL``: files in order, ``:`` between them. ``TIGERBEETLE``: a binary."""
    files, binary = os.environ.get("PGLEDGER_SQL"), os.environ.get("TIGERBEETLE")
    return Options(
        size="smoke" if arguments.smoke else "quick" if arguments.quick else "full",
        seed=arguments.seed,
        accounts=arguments.accounts,
        systems=[name for name in arguments.systems.split(",") if name],
        pgledger=[Path(file) for file in files.split(os.pathsep)] if files else None,
        tigerbeetle=Path(binary) if binary else None,
    )


async def run(
    server: BenchServer, given: argparse.Namespace, console: Console, started: float
) -> tuple[list[Measured], Lineup]:
    seconds = given.seconds or (QUICK_TURN_S if given.quick else TURN_S)
    plan = Plan(
        count=given.rounds,
        seconds=seconds,
        deadline=started + (QUICK_S if given.quick else FULL_S),
        seed=given.seed,
        warm=min(0.5, seconds),
        lead=QUICK_LEAD_S if given.quick else LEAD_S,
    )
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("setting up", total=None)
        async with lineup(server, options_of(given)) as line:
            names = [case.name for case in line.cases]
            line.cases = [case for case in line.cases if given.only in case.name]
            if not line.cases:
                raise SystemExit(f"no case's name contains {given.only!r}; there are: {', '.join(names)}")
            progress.update(task, total=len(line.cases) * (plan.count + 1))

            def on_turn(number: int, case: Case, sample: Sample) -> None:
                what = f"round {number}/{plan.count} · {case.system} {case.name} · {sample.rate:,.0f}/s"
                progress.update(task, advance=1, description=what)

            return await rounds(line.cases, plan, on_turn), line


def report(measured: Sequence[Measured], line: Lineup, given: argparse.Namespace, console: Console) -> None:
    figures = [m.figure for m in measured]
    outcomes = judge("bench", TARGETS, measured)
    console.print(table(figures))
    console.print(targets_table(outcomes))
    for system, reason in line.absent.items():
        console.print(f"{system} was not run: {reason}")
    if given.only:
        return
    given.out.mkdir(parents=True, exist_ok=True)
    latest = given.out / "latest.json"
    latest.write_text(json.dumps([asdict(figure) for figure in figures], indent=1) + "\n")
    keep(given.out / "targets.json", outcomes)
    written = [latest, given.out / "targets.json"]
    if given.out == OUT:
        PICTURE.write_text(draw(figures))
        written.append(PICTURE)
    console.print("written:", ", ".join(str(path) for path in written))


def main(arguments_given: Sequence[str] | None = None) -> None:
    started = time.monotonic()
    given = arguments(arguments_given)
    console = Console()
    console = console if console.is_terminal else Console(width=130)
    with bench_server() as server:
        measured, line = uvloop.run(run(server, given, console, started))
    report(measured, line, given, console)
    console.print(f"{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
