"""Where one case's time goes: ``python -m bench.profile CASE``: CPU of client and server, statements, Python functions.

CASE is one of Khata's in ``bench.lineup`` (``single/uniform/64``), or ``balance``, ``hold``, ``payment`` over HTTP with
one API process. Statements come from pg_stat_statements (elapsed time, nested ones too, so they do not add up);
functions from py-spy when ``--py-spy`` names it. Other work on the machine stretches what is elapsed, not CPU time.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import uvloop
from rich.console import Console
from rich.table import Table

from bench.measure import Case, percentile_ms
from bench.processes import ServerClock, Worker
from bench.server import BenchServer, bench_server
from bench.web.__main__ import load_worker, what_is_asked
from bench.web.stage import web_stage
from bench.worker import Sample

SETTINGS = {
    "shared_preload_libraries": "pg_stat_statements",
    "pg_stat_statements.track": "all",
    "pg_stat_statements.max": "10000",
}
PLANS = {
    "shared_preload_libraries": "pg_stat_statements,auto_explain",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_buffers": "on",
    "auto_explain.log_triggers": "on",
    "auto_explain.log_nested_statements": "on",
}
HTTP = ("balance", "hold", "payment")
WARM_S = 3.0
_STATEMENTS = """
SELECT toplevel, calls, total_exec_time * 1000, regexp_replace(query, '\\s+', ' ', 'g') FROM pg_stat_statements
 WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND query NOT LIKE '%%pg_stat_%%'
 ORDER BY total_exec_time DESC LIMIT %s"""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.profile", description=__doc__)
    parser.add_argument("case")
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--connections", type=int, default=32, help="over HTTP")
    parser.add_argument("--accounts", type=int, default=10_000)
    parser.add_argument("--wallets", type=int, default=1000, help="over HTTP: of the merchant's customers")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--top", type=int, default=20)
    parser.add_argument("--py-spy", type=Path)
    parser.add_argument(
        "--plans", type=Path, help="write the server's log with every plan and trigger's time there"
    )
    return parser.parse_args()


@asynccontextmanager
async def subject(server: BenchServer, given: argparse.Namespace) -> AsyncGenerator[tuple[Case, int]]:
    """The case, and the process that is looked into."""
    async with AsyncExitStack() as stack:
        if given.case in HTTP:
            made = web_stage(server, workers=1, clients=given.connections, wallets=given.wallets)
            stage = await stack.enter_async_context(made)
            worker = await load_worker(stack, stage, what_is_asked(stage), _load_options(given), 0)
            pid = stage.pids[stage.api[0]]
            yield Case(given.case, "khata", (worker,), f"{given.case}/1", server=ServerClock((pid,))), pid
            return
        config = {
            "dsn": server.database.app_dsn,
            "owner_dsn": server.database.owner_dsn,
            "book": "bench",
            "seed": given.seed,
            "accounts": given.accounts,
        }
        worker = await Worker.start("bench.systems.khata", config)
        stack.push_async_callback(worker.close)
        yield Case(given.case, "khata", (worker,), given.case, server=server.clock), worker.pid


def _load_options(given: argparse.Namespace) -> argparse.Namespace:
    """One load process has all connections (``load_worker`` shares them out among two)."""
    return argparse.Namespace(connections=2 * given.connections, seed=given.seed, wallets=given.wallets)


async def run(server: BenchServer, given: argparse.Namespace, console: Console) -> None:
    with psycopg.connect(server.database.admin_dsn, autocommit=True) as admin:
        admin.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        async with subject(server, given) as (case, pid):
            await case.run(WARM_S)
            admin.execute("SELECT pg_stat_statements_reset()")
            database = server.clock.seconds() if server.clock else 0.0
            with tempfile.TemporaryDirectory() as directory:
                stacks = Path(directory) / "stacks"
                spy = _spy(given, pid, stacks)
                sample = await case.run(given.seconds)
                if spy is not None:
                    spy.wait()
                    console.print(_functions(stacks, given.top))
            spent = server.clock.seconds() - database if server.clock else 0.0
        console.print(_statements(admin, sample, given.top))
        console.print(_summary(given, sample, spent))


def _spy(given: argparse.Namespace, pid: int, stacks: Path) -> subprocess.Popen[bytes] | None:
    if given.py_spy is None:
        return None
    command = [given.py_spy, "record", "--pid", str(pid), "--rate", "250", "--duration"]
    command += [str(int(given.seconds)), "--format", "raw", "--output", stacks, "--function", "--gil"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _functions(stacks: Path, top: int) -> Table:
    """Share of samples in each function itself, and with what it called."""
    own, below = Counter[str](), Counter[str]()
    for line in stacks.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        own[frames[-1]] += int(count)
        for frame in set(frames):
            below[frame] += int(count)
    total = sum(own.values())
    out = Table(title=f"Python functions, share of {total} samples with the interpreter's lock held")
    for name in ("with callees", "itself", "function"):
        out.add_column(name, justify="left" if name == "function" else "right", no_wrap=True)
    chosen = {frame for frame, _ in below.most_common(2 * top)} | {frame for frame, _ in own.most_common(top)}
    for frame in sorted(chosen, key=lambda frame: -below[frame]):
        out.add_row(f"{below[frame] / total:.1%}", f"{own[frame] / total:.1%}", frame)
    return out


def _statements(admin: psycopg.Connection[Any], sample: Sample, top: int) -> Table:
    out = Table(title="Statements, elapsed µs for each that was done (> : inside a function or trigger)")
    for name in ("µs", "calls", "statement"):
        out.add_column(name, justify="left" if name == "statement" else "right", no_wrap=True)
    for toplevel, calls, micros, text in admin.execute(_STATEMENTS, [top]):
        words = ("" if toplevel else "> ") + text[:110]
        out.add_row(f"{micros / sample.done:,.1f}", f"{calls / sample.done:.2f}", words)
    return out


def _summary(given: argparse.Namespace, sample: Sample, database_s: float) -> str:
    waits = sorted(sample.waits_us)
    over_http = given.case in HTTP
    client = sample.server_s if over_http else sample.client_s
    parts = {"API process" if over_http else "client": client or 0.0, "database": database_s}
    cpu = ", ".join(f"{name} {seconds / sample.done * 1e6:,.0f}" for name, seconds in parts.items())
    return (
        f"{given.case}: {sample.done:,} done, {sample.rate:,.0f}/s, p50 {percentile_ms(waits, 0.5)} ms,"
        f" p99 {percentile_ms(waits, 0.99)} ms; CPU µs for each: {cpu}"
    )


def main() -> None:
    given = arguments()
    console = Console()
    console = console if console.is_terminal else Console(width=150)
    started = time.monotonic()
    with bench_server(SETTINGS | PLANS if given.plans else SETTINGS) as server:
        uvloop.run(run(server, given, console))
        if given.plans and server.log:
            shutil.copyfile(server.log, given.plans)
    console.print(f"{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
