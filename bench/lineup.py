"""Who takes part: each system's workers, started once, and the cases they are asked for.

Every system has the same process model: its client is a process of its own that is idle while others have their turn
(8 of them for django-hordak, which is synchronous; for Khata one a way in, 2 for its cases of several writers).
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.environments import EnvironmentFailed, environment
from bench.measure import Case
from bench.pairs import ACCOUNTS
from bench.processes import ServerClock, Worker
from bench.server import BenchServer
from khata.process import die_with_parent
from khata.supervisor import free_port, listens

HORDAK = ("django-hordak==2.0.0", "psycopg[binary]==3.3.9")
HORDAK_PROCESSES = 8
START_S = 120.0  # it lays out its cache first; on a busy machine that takes a while

# By size of the run.
KHATA = {
    "full": (
        *(f"single/uniform/{callers}" for callers in (1, 16, 64, 256)),
        *("single/hot/64", "bulk/hot/8000"),
        *(f"bulk/uniform/{size}" for size in (100, 1000, 8000)),
        *("hold+capture/uniform/64", "bulk-hold+capture/uniform/8000"),
        *("payment+fee/uniform/64", "bulk-payment+fee/uniform/1000"),
    ),
    "quick": (
        *("single/uniform/1", "single/uniform/64", "single/hot/64"),
        *("bulk/uniform/1000", "bulk/uniform/8000", "bulk/hot/8000"),
        *("hold+capture/uniform/64", "bulk-hold+capture/uniform/1000", "payment+fee/uniform/64"),
    ),
    "smoke": ("single/uniform/1", "bulk/hot/100", "hold+capture/uniform/64", "payment+fee/uniform/64"),
}
TWO_WRITERS = {
    "full": ("bulk/uniform/8000", "single/uniform/64"),
    "quick": ("bulk/uniform/8000",),
    "smoke": ("bulk/uniform/100",),
}
CLASSIC = {
    "full": (*(f"single/uniform/{clients}" for clients in (1, 16, 64)), "single/hot/16", "single/hot/64"),
    "quick": ("single/uniform/16", "single/uniform/64", "single/hot/16"),
    "smoke": ("single/uniform/16",),
}
PGLEDGER = CLASSIC | {"full": ("single/uniform/16", "single/uniform/64", "single/hot/16")}
TIGERBEETLE = (
    *("bulk/uniform/8189", "bulk/hot/8189", "bulk-hold+capture/uniform/8189", "hold+capture/uniform/64"),
    *("single/uniform/1", "single/uniform/64", "single/hot/64"),
)


@dataclass(frozen=True)
class Options:
    """``size``: ``full``, ``quick`` or ``smoke``.

    ``pgledger``: its SQL files in order; ``tigerbeetle``: its binary; None: not given.
    """

    size: str
    seed: int
    accounts: int = ACCOUNTS
    systems: Sequence[str] = ("khata", "classic", "hordak", "pgledger", "tigerbeetle")
    pgledger: Sequence[Path] | None = None
    tigerbeetle: Path | None = None


@dataclass
class Lineup:
    """``absent``: systems that do not take part, and why."""

    cases: list[Case] = field(default_factory=list[Case])
    absent: dict[str, str] = field(default_factory=dict[str, str])


class Absent(Exception):
    """Why a system does not take part."""


@asynccontextmanager
async def lineup(server: BenchServer, options: Options) -> AsyncGenerator[Lineup]:
    """Everybody set up and waiting; all stopped at the end of the block."""
    line = Lineup()
    makers = {
        "khata": _khata,
        "classic": _classic,
        "pgledger": _pgledger,
        "hordak": _hordak,
        "tigerbeetle": _tigerbeetle,
    }
    async with AsyncExitStack() as stack:
        made = [makers[name](stack, server, options) for name in options.systems]
        for name, cases in zip(
            options.systems, await asyncio.gather(*made, return_exceptions=True), strict=True
        ):
            if isinstance(cases, Absent | EnvironmentFailed):
                line.absent[name] = str(cases)
            elif isinstance(cases, BaseException):
                raise cases
            else:
                line.cases += cases
        yield line


async def _start(stack: AsyncExitStack, module: str, config: dict[str, Any], **more: Any) -> Worker:
    worker = await Worker.start(f"bench.systems.{module}", config, **more)
    stack.push_async_callback(worker.close)
    return worker


def _unit(name: str) -> str:
    return {"hold+capture": "pairs", "payment+fee": "payments"}.get(
        name.partition("/")[0].removeprefix("bulk-"), "transfers"
    )


def _cases(system: str, worker: Worker, names: Sequence[str], clock: ServerClock | None) -> list[Case]:
    return [Case(name, system, (worker,), name, _unit(name), clock) for name in names]


async def _khata(stack: AsyncExitStack, server: BenchServer, options: Options) -> list[Case]:
    """A process and a book for each way in, and three processes on two books for the cases of several writers.

    A writer whose book somebody else has written reads it anew: no case may do that to another.
    """
    ways = list(dict.fromkeys(map(_way, KHATA[options.size])))
    books = (*ways, "shared", "shared", "second")
    workers = await asyncio.gather(
        *(
            _start(stack, "khata", _config(server, options, book=book, seed=options.seed + number))
            for number, book in enumerate(books)
        )
    )
    by_way = dict(zip(ways, workers, strict=False))
    cases = [
        Case(name, "khata", (by_way[_way(name)],), name, _unit(name), server.clock)
        for name in KHATA[options.size]
    ]
    first, same, other = workers[-3:]
    for asks in TWO_WRITERS[options.size]:
        kind, _, rest = asks.partition("/")
        for name, second in (("2p1b", same), ("2p2b", other)):
            cases.append(Case(f"{kind}-{name}/{rest}", "khata", (first, second), asks, server=server.clock))
    return cases


def _way(case: str) -> str:
    """How the case's journals get in, which its book is called by: by the writer, as columns, as a batch of units."""
    kind = case.partition("/")[0]
    if kind == "bulk-payment+fee":
        return "units"
    return "columns" if kind.startswith("bulk") else "singles"


def _config(server: BenchServer, options: Options, **more: Any) -> dict[str, Any]:
    database = server.database
    given = {"dsn": database.app_dsn, "owner_dsn": database.owner_dsn, "seed": options.seed}
    return given | {"accounts": options.accounts} | more


async def _classic(stack: AsyncExitStack, server: BenchServer, options: Options) -> list[Case]:
    worker = await _start(stack, "classic", _config(server, options))
    return _cases("classic", worker, CLASSIC[options.size], server.clock)


async def _pgledger(stack: AsyncExitStack, server: BenchServer, options: Options) -> list[Case]:
    if not options.pgledger:
        raise Absent("PGLEDGER_SQL is not given")
    missing = [str(file) for file in options.pgledger if not file.exists()]
    if missing:
        raise Absent(f"PGLEDGER_SQL: no file {', '.join(missing)}")
    files = [str(file.absolute()) for file in options.pgledger]
    config = _config(server, options, dsn=server.guest("pgledger"), sql=files)
    worker = await _start(stack, "pgledger", config)
    return _cases("pgledger", worker, PGLEDGER[options.size], server.clock)


async def _hordak(stack: AsyncExitStack, server: BenchServer, options: Options) -> list[Case]:
    python = await asyncio.to_thread(environment, "hordak", HORDAK)
    dsn = server.guest("hordak")

    def config(number: int) -> dict[str, Any]:
        return _config(server, options, dsn=dsn, seed=options.seed + number, prepare=number == 0)

    first = await _start(stack, "hordak", config(0), python=python)
    others = [_start(stack, "hordak", config(number), python=python) for number in range(1, HORDAK_PROCESSES)]
    workers = (first, *await asyncio.gather(*others))
    asks = "single/uniform/1"
    return [
        Case(f"single/uniform/{count}", "hordak", workers[:count], asks, server=server.clock)
        for count in (1, HORDAK_PROCESSES)
    ]


async def _tigerbeetle(stack: AsyncExitStack, server: BenchServer, options: Options) -> list[Case]:
    if options.tigerbeetle is None:
        raise Absent("TIGERBEETLE is not given")
    binary = options.tigerbeetle.absolute()
    if not os.access(binary, os.X_OK):
        raise Absent(f"TIGERBEETLE: {binary} is no program")
    version = _version(binary)
    packages = (f"tigerbeetle=={version}", "uvloop")
    python = await asyncio.to_thread(environment, "tigerbeetle", packages)
    address, pid = await _replica(stack, binary)
    config = _config(server, options, address=address)
    worker = await _start(stack, "tigerbeetle", config, python=python)
    return _cases("tigerbeetle", worker, TIGERBEETLE, ServerClock((pid,)))


def _version(binary: Path) -> str:
    """A client must be of its server's version."""
    said = subprocess.run([binary, "version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"\d+\.\d+\.\d+", said)
    if found is None:
        raise Absent(f"TIGERBEETLE: {binary} does not tell its version")
    return found[0]


async def _replica(stack: AsyncExitStack, binary: Path) -> tuple[str, int]:
    """Address and process id of a cluster of one, with data in a temporary directory and its own defaults."""
    directory = Path(tempfile.mkdtemp(prefix="khata-bench-tigerbeetle-"))
    stack.callback(shutil.rmtree, directory, ignore_errors=True)
    address, log = f"127.0.0.1:{free_port()}", directory / "log"
    process = _start_replica(binary, directory / "0_0.tigerbeetle", address, log)
    stack.callback(_stop, process)
    deadline = asyncio.get_running_loop().time() + START_S
    while not await listens(int(address.rpartition(":")[2])):
        if process.poll() is not None or asyncio.get_running_loop().time() > deadline:
            raise Absent(f"TIGERBEETLE: start failed: {log.read_text(errors='replace')[-300:].strip()}")
        await asyncio.sleep(0.1)
    return address, process.pid


def _start_replica(binary: Path, data: Path, address: str, log: Path) -> subprocess.Popen[bytes]:
    shape = ("--cluster=0", "--replica=0", "--replica-count=1")
    done = subprocess.run([binary, "format", *shape, data], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Absent(f"TIGERBEETLE: format failed: {done.stderr[-300:].strip()}")
    with log.open("wb") as output:
        return subprocess.Popen(
            [binary, "start", f"--addresses={address}", data],
            stdout=output,
            stderr=output,
            preexec_fn=die_with_parent(signal.SIGTERM),
        )


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
