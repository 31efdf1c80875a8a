"""Runs every case of the API, prints the tables, writes ``bench/out/{api,targets}.json``."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console
from rich.progress import Progress

from bench.__main__ import OUT
from bench.measure import Case, Measured, Plan, rounds
from bench.processes import ServerClock, Worker
from bench.report import table
from bench.server import BenchServer, bench_server
from bench.targets import Target, judge, keep, targets_table
from bench.web.stage import WebStage, web_stage
from bench.worker import Sample

LOAD_PROCESSES = 2
FULL_S, QUICK_S = 300.0, 60.0
BARE = ("bare/1/32",)
TARGETS = (
    Target("balance, one worker", ("balance/1/32",), "litestar", BARE, 0.6),
    Target("hold, one worker", ("hold/1/32",), "litestar", BARE, 0.3),
    Target("payment, one worker", ("payment/1/32",), "litestar", BARE, 0.2),
)
UNITS = {"balance": "reads", "hold": "holds", "payment": "payments"}


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.web", description=__doc__)
    quick = os.environ.get("QUICK") == "1"
    parser.add_argument("--quick", action="store_true", default=quick, help="about a minute")
    parser.add_argument("--only", default="", help="cases whose name contains this text")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, help="longest turn of one case")
    parser.add_argument("--warm", type=float, default=2.0, help="first turn: connections, keys, plans")
    parser.add_argument("--connections", type=int, default=32, help="of all load processes together")
    parser.add_argument("--workers", type=int, default=2, help="API processes at most")
    parser.add_argument("--wallets", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=OUT)
    return parser.parse_args(given)


def what_is_asked(stage: WebStage) -> dict[str, dict[str, Any]]:
    """By kind / workers; the number of connections completes a case's name."""
    asked: dict[str, dict[str, Any]] = {}
    for workers in range(1, len(stage.api) + 1):
        api, bare = stage.api[:workers], stage.bare[:workers]
        for kind, status in (("balance", 200), ("hold", 201), ("payment", 201)):
            asked[f"{kind}/{workers}"] = {"ports": api, "request": kind, "status": status}
        asked[f"bare/{workers}"] = {"ports": bare, "request": "balance", "status": 200}
    asked["socket/1"] = {"ports": [stage.raw], "request": "balance", "status": 200}
    return asked


def cases(
    stage: WebStage, workers: Sequence[Worker], asked: dict[str, dict[str, Any]], size: int
) -> list[Case]:
    systems = {"bare": "litestar", "socket": "raw"}
    made: list[Case] = []
    for name, case in asked.items():
        kind = name.partition("/")[0]
        clock = ServerClock(tuple(stage.pids[port] for port in case["ports"]))
        unit = UNITS.get(kind, "requests")
        made.append(Case(f"{name}/{size}", systems.get(kind, "khata"), tuple(workers), name, unit, clock))
    return made


async def run(
    server: BenchServer, given: argparse.Namespace, console: Console, started: float
) -> list[Measured]:
    plan = Plan(
        count=given.rounds,
        seconds=given.seconds or (0.5 if given.quick else 3.0),
        deadline=started + (QUICK_S if given.quick else FULL_S),
        seed=given.seed,
        warm=given.warm,
    )
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("setting up", total=None)
        async with (
            web_stage(
                server, workers=given.workers, clients=given.connections, wallets=given.wallets
            ) as stage,
            AsyncExitStack() as stack,
        ):
            asked = what_is_asked(stage)
            workers = [await load_worker(stack, stage, asked, given, n) for n in range(LOAD_PROCESSES)]
            chosen = [c for c in cases(stage, workers, asked, given.connections) if given.only in c.name]
            progress.update(task, total=len(chosen) * (plan.count + 1))

            def on_turn(number: int, case: Case, sample: Sample) -> None:
                what = f"round {number}/{plan.count} · {case.system} {case.name} · {sample.rate:,.0f}/s"
                progress.update(task, advance=1, description=what)

            return await rounds(chosen, plan, on_turn)


async def load_worker(
    stack: AsyncExitStack,
    stage: WebStage,
    asked: dict[str, dict[str, Any]],
    given: argparse.Namespace,
    number: int,
) -> Worker:
    """One load process with its share of the connections and of the tokens."""
    share = given.connections // LOAD_PROCESSES
    config = {
        "cases": asked,
        "tokens": stage.tokens[number * share : (number + 1) * share],
        "connections": share,
        "seed": given.seed + number,
        "merchant": stage.merchant,
        "wallets": given.wallets,
    }
    worker = await Worker.start("bench.web.load", config)
    stack.push_async_callback(worker.close)
    return worker


def busy(measured: Sequence[Measured]) -> str:
    """How much of its time a load process computes: well below 1, or it is what bounds the figures."""
    shares = {
        f"{m.case}": max((s.client_s or 0.0) / s.seconds / LOAD_PROCESSES for s in m.samples)
        for m in measured
    }
    words = (f"{case} {share:.0%}" for case, share in shares.items())
    return "CPU of a load process, most of any round: " + ", ".join(words)


def main(arguments_given: Sequence[str] | None = None) -> None:
    started = time.monotonic()
    given = arguments(arguments_given)
    console = Console()
    console = console if console.is_terminal else Console(width=130)
    with bench_server() as server:
        measured = uvloop.run(run(server, given, console, started))
    figures = [m.figure for m in measured]
    outcomes = judge("api", TARGETS, measured)
    console.print(table(figures, f"HTTP, {given.connections} connections; kind / workers / connections"))
    console.print(targets_table(outcomes))
    console.print(busy(measured))
    if not given.only:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / "api.json").write_text(json.dumps([asdict(f) for f in figures], indent=1) + "\n")
        keep(given.out / "targets.json", outcomes)
        console.print(f"written: {given.out / 'api.json'}, {given.out / 'targets.json'}")
    console.print(f"{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
