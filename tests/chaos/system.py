"""The whole of Khata as real processes on a durable database, every part of it within reach of kill -9."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from psycopg import AsyncConnection

from gateway.core import Gateway
from khata.bootstrap import prepare
from khata.config import Settings
from khata.database import Database, EmbeddedServer
from khata.demo.cast import ROLES, Member, engage
from khata.homes import home_book
from khata.stage import Stage, environment, placed, run_stage
from khata.supervisor import free_port, listens
from khata.wiring import MERIDIAN, open_gateway
from ledger import model as m
from ledger.books import open_accounts
from ledger.points import VARIABLE
from tests.server import temporary_home

# A bank is given up on, and asked again, within a second or two. The last pauses are never reached.
PATIENCE = {"acquirer_timeout_s": 1.0, "lease_s": 4.0, "recovery_backoff_s": (1.0,) * 200}
LATE_MS = 2500
PATIENCE_S = 60.0
POLL_S = 0.05
DURABLE = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "shared_buffers": "64MB"}
BELOW_EPHEMERAL = (20_000, 32_000)
IN_A_WALLET = 1_000_000_000


class NeverHappened(AssertionError):
    """Something that had to happen did not, in all the time it was given."""


@dataclass
class System:
    """A stage on a database; ``server`` is None if the database is somebody else's to kill."""

    stage: Stage
    database: Database
    book_id: int
    members: tuple[Member, ...]
    wallets: tuple[str, ...]
    server: EmbeddedServer | None = None
    database_deaths: int = 0

    @property
    def settings(self) -> Settings:
        return self.stage.settings

    @property
    def bank_book(self) -> Path:
        return self.settings.home / MERIDIAN / "book.jsonl"

    def kill(self, name: str) -> None:
        """kill -9 of ``api``, ``worker`` or ``acquirer``; the supervisor starts it again."""
        self.stage.supervisor.kill(name)

    async def kill_and_arm(self, name: str, crash: str) -> None:
        """kill -9 now; the one that is started next dies at ``crash`` ("point:times", see ``ledger.points``)."""
        statuses = self.stage.supervisor.statuses(name)
        ended = len(statuses)
        self.stage.supervisor.next_start(name, {VARIABLE: crash})
        self.stage.supervisor.kill(name)
        await eventually(lambda: len(statuses) > ended, f"{name} is killed")

    async def dies(self, name: str, crash: str, following: str | None = None) -> None:
        """Wait until ``name``, armed with ``crash``, has died of it; arm the one after it with ``following``.

        One that ends otherwise before (it found no database to start with) is armed anew.
        """
        statuses = self.stage.supervisor.statuses(name)
        ended = len(statuses)
        if following:
            self.stage.supervisor.next_start(name, {VARIABLE: following})
        await eventually(lambda: len(statuses) > ended, f"{name} dies at {crash}")
        if statuses[ended] != -signal.SIGKILL:
            await self.kill_and_arm(name, crash)
            await self.dies(name, crash, following)

    async def kill_database(self, down_s: float = 0.0) -> None:
        """kill -9 of the postmaster and every process of its; after ``down_s`` it is started on the same files."""
        assert self.server is not None
        postmaster = self.server.pid
        assert postmaster is not None
        # Stopped first: it can start no process, and notice no death, while its children are being killed.
        os.kill(postmaster, signal.SIGSTOP)
        for pid in (*children(postmaster), postmaster):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.server.wait(10)
        self.database_deaths += 1
        await asyncio.sleep(down_s)
        self.server.start()  # on this thread: the kernel ties the child's life to it

    async def ready(self) -> None:
        """Wait until API and bank can be used."""
        await eventually(self._ready, "everything is up again")

    async def _ready(self) -> bool:
        try:
            async with (
                aiohttp.ClientSession() as http,
                http.get(f"{self.stage.api}/health/ready", timeout=aiohttp.ClientTimeout(2)) as answer,
            ):
                return answer.status == 200 and await listens(self.settings.acquirer_port)
        except (aiohttp.ClientError, OSError):
            return False

    async def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        async with await AsyncConnection.connect(self.database.audit_dsn) as conn:
            return await (await conn.execute(query.encode(), values)).fetchall()

    async def bank(self, method: str, path: str, **more: Any) -> Any:
        """Ask the acquirer's control port."""
        async with (
            aiohttp.ClientSession() as http,
            http.request(method, f"{self.stage.acquirer}{path}", **more) as answer,
        ):
            answer.raise_for_status()
            return await answer.json()

    def deaths(self) -> dict[str, int]:
        """How often each process has ended by force, or for want of a database to start with."""
        names = ("api", "worker", "acquirer")
        return {name: len(self.stage.supervisor.statuses(name)) for name in names} | {
            "database": self.database_deaths
        }

    def said(self, lines: int = 15) -> str:
        """The ends of the processes' logs, for whoever reads a failure."""
        logs = sorted((self.settings.home / "log").glob("*.log"))
        ends = {log.name: log.read_text(errors="replace").splitlines()[-lines:] for log in logs}
        return "\n".join(f"--- {name}\n" + "\n".join(end) for name, end in ends.items())


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def spare_port() -> int:
    """A free one that the kernel gives to nobody's outgoing connection while its owner is dead."""
    return free_port(random.randrange(*BELOW_EPHEMERAL))


async def eventually(
    happened: Callable[[], bool | Awaitable[bool]], what: str, patience_s: float = PATIENCE_S
) -> None:
    """Return once ``happened``; raise ``NeverHappened`` if it does not."""
    deadline = asyncio.get_running_loop().time() + patience_s
    while True:
        found = happened()
        if found if isinstance(found, bool) else await found:
            return
        if asyncio.get_running_loop().time() > deadline:
            raise NeverHappened(what)
        await asyncio.sleep(POLL_S)


@contextlib.asynccontextmanager
async def durable_system() -> AsyncGenerator[System]:
    """A system on a PostgreSQL of its own that can be killed and loses nothing it has committed."""
    binaries = os.environ.get("KHATA_TEST_PG_BIN")
    with temporary_home() as home:
        made = EmbeddedServer(
            home, binaries=Path(binaries) if binaries else None, port=spare_port(), settings=DURABLE
        )
        with made as server:
            async with system_on(server.admin_dsn, home, server=server) as system:
                yield system


@contextlib.asynccontextmanager
async def system_on(
    admin_dsn: str, home: Path, *, name: str = "khata", server: EmbeddedServer | None = None
) -> AsyncGenerator[System]:
    """Simulator, API and worker on database ``name``, three merchants with clients and a customer's wallet each."""
    ports = {name: spare_port() for name in ("api_port", "acquirer_port", "acquirer_control_port")}
    settings = placed(Settings(home=home, database_url=admin_dsn, database_name=name), **ports, **PATIENCE)
    database = prepare(admin_dsn, home, name)
    async with run_stage(settings, late_ms=LATE_MS) as stage:
        async with open_gateway(settings, database) as gw:
            book_id = await home_book(database, settings.book)
            members = [await engage(settings, database, gw, role) for role in ROLES]
            wallets = [await _wallet(database, gw, book_id, member) for member in members]
        yield System(stage, database, book_id, tuple(members), tuple(wallets), server)


async def _wallet(database: Database, gw: Gateway, book_id: int, member: Member) -> str:
    """A customer's wallet at this merchant, full of money."""
    path, id_ = f"Liabilities:Customer:{member.merchant.owner}:Wallet", gw.ids()
    accounts = [
        m.NewAccount(path, member.currency, floor=0, owner=member.merchant.owner),
        m.NewAccount("Equity:Opening", member.currency),
    ]
    async with await AsyncConnection.connect(database.app_dsn) as conn:
        await open_accounts(conn, book_id, accounts, now=gw.clock())
    posting = m.Posting("Equity:Opening", path, IN_A_WALLET, member.currency)
    journal = m.Journal(id_, "opening", m.Source("chaos", str(id_), "opened"), (posting,))
    assert isinstance(await gw.writers(book_id).submit(m.Unit((journal,))), m.Posted)
    return path


async def khata(system: System, *arguments: str, once: dict[str, str] | None = None) -> tuple[int, str]:
    """Run the ``khata`` command; its exit status and what it said."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "khata", *arguments),
        env={**os.environ, **environment(system.settings), **(once or {})},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()
