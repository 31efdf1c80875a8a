"""``make crash CYCLES=500``: every cycle with a progress bar, then the figures. Exit code 1 if anything was lost."""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.crash.power import power
from tests.crash.run import Run
from tests.server import temporary_home

console = Console(highlight=False)


async def main(cycles: int, seed: int, logs: Path) -> None:
    columns = BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.fields[said]}")
    bar = Progress(TextColumn("kill -9"), *columns, console=console, transient=True)
    with temporary_home() as home, bar:
        task = bar.add_task("", total=cycles, said="")
        server, how = power(home)
        console.print(f"seed {seed}; PostgreSQL is {how}")
        run = Run(server, home, logs, cycles, seed)
        run.done = lambda run: bar.update(task, completed=run.cycle, said=str(run.verdict))
        start = time.monotonic()
        try:
            await run.open()
            await run.go()
            took_s = time.monotonic() - start
            control = await run.control()
        finally:
            run.close()
    console.print(table(run, took_s))
    if control.lost != ("control-1",):
        console.print(
            "[red]✗[/] the control was acknowledged before its COMMIT, and the judge did not miss it"
        )
        raise SystemExit(1)
    console.print("control: acknowledged before its COMMIT, then killed: found lost, as it must be")


def table(run: Run, took_s: float) -> Table:
    verdict, restarts = run.verdict, run.restart_s or [0.0]
    rows = Table("figure", "value", title=f"make crash CYCLES={run.cycles} SEED={run.seed}")
    for name, value in (
        ("kills of PostgreSQL", f"{run.kills['database']:,}"),
        ("kills of writers", f"{run.kills['writer']:,}"),
        ("acknowledged", f"{verdict.acknowledged:,}"),
        ("acknowledged and lost", f"{len(verdict.lost)}"),
        ("unknown, settled by saying it again", f"{verdict.unknown:,}"),
        ("… of which had been committed", f"{verdict.stood:,}"),
        ("audits, all clean", f"{run.audits} (the last of {run.examined:,} rows)"),
        (
            "PostgreSQL back after, median / most",
            f"{statistics.median(restarts):.2f} s / {max(restarts):.2f} s",
        ),
        ("time", f"{took_s:.0f} s, {took_s / run.cycles:.2f} s a cycle"),
    ):
        rows.add_row(name, value)
    return rows


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="khata-crash-") as logs:
        seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(2**32))
        asyncio.run(main(int(os.environ.get("CYCLES") or 500), seed, Path(logs)))
