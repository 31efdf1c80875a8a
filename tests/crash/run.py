"""Kills PostgreSQL and its writers again and again while units are acknowledged, and judges what is left.

Two clerks (processes) write one book: a patient one waits for the database to come back, a hasty one soon gives up
and leaves its units unknown. The seed draws what dies in each cycle and when.
"""

from __future__ import annotations

import random
import secrets
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from psycopg import AsyncConnection

from khata.bootstrap import ROLES, database_urls, prepare
from khata.database import Database
from khata.secret_file import secrets_for
from ledger import model as m
from ledger.books import create_book, open_accounts
from ledger.post import post
from tests.crash.clerk import ACCOUNTS, Log, clock, unit
from tests.crash.judge import Verdict, assert_audited, judge
from tests.crash.power import Power
from tests.ledger.recompute import assert_sound

DATABASE = "crash"
PATIENCE_S = {"patient": 120.0, "hasty": 0.2}
STUCK_S = 180.0  # far beyond what a slow machine needs for one answer
FAULTS = ("database", "writer", "both")
WEIGHTS = (45, 45, 10)
JUDGED_EVERY = 50
NOTHING = Verdict(0, 0, 0, ())


@dataclass
class Clerk:
    kind: str
    process: subprocess.Popen[bytes]
    log: Path
    _read: int = 0
    acknowledged: int = 0

    def look(self) -> int:
        """Acknowledgements that its log holds by now."""
        with self.log.open("rb") as file:
            file.seek(self._read)
            new = file.read()
        new = new[: new.rfind(b"\n") + 1]
        self._read += len(new)
        self.acknowledged += new.count(b"ack ")
        return self.acknowledged

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@dataclass
class Run:
    """One server, one book, ``cycles`` of faults. ``done`` is told after each."""

    power: Power
    home: Path
    logs_at: Path
    cycles: int
    seed: int
    done: Callable[[Run], None] = lambda _: None
    judged_every: int = JUDGED_EVERY
    book_id: int = 0
    cycle: int = 0
    kills: Counter[str] = field(default_factory=Counter[str])
    verdict: Verdict = NOTHING
    audits: int = 0
    examined: int = 0
    restart_s: list[float] = field(default_factory=list[float])
    _clerks: list[Clerk] = field(default_factory=list[Clerk])
    _logs: list[Path] = field(default_factory=list[Path])

    @property
    def database(self) -> Database:
        return database_urls(self.power.admin_dsn, secrets_for(self.home, ROLES), DATABASE)

    async def open(self) -> None:
        """Server on, database made, a new book with its accounts."""
        self.power.on()
        prepare(self.power.admin_dsn, self.home, DATABASE)
        async with await self._connect() as conn:
            self.book_id = await create_book(conn, name=f"b{secrets.token_hex(8)}", now=clock())
            accounts = [m.NewAccount(path, "INR") for path in ACCOUNTS]
            await open_accounts(conn, self.book_id, accounts, now=clock())

    async def go(self) -> None:
        """Every cycle, with a judgement now and then and at the end. Asserts that nothing acknowledged is lost."""
        dice = random.Random(self.seed)
        while self.cycle < self.cycles:
            self.cycle += 1
            self._staff()
            self._await_acknowledgements(dice.randint(20, 250))
            time.sleep(dice.uniform(0, 0.01))  # anywhere in a transaction, not only right after one
            [fault] = dice.choices(FAULTS, WEIGHTS)
            self._strike(fault, dice)
            if self.cycle % self.judged_every == 0 or self.cycle == self.cycles:
                await self._judge()
            self.done(self)

    def close(self) -> None:
        self._dismiss()
        self.power.end()

    def _strike(self, fault: str, dice: random.Random) -> None:
        if fault != "writer":
            self.power.off()
            self.kills["database"] += 1
        if fault != "database":
            self._clerks.pop(dice.randrange(len(self._clerks))).kill()
            self.kills["writer"] += 1
        if fault != "writer":
            start = time.monotonic()
            self.power.on()
            self.restart_s.append(time.monotonic() - start)

    def _staff(self) -> None:
        """A clerk of each kind is at work."""
        for kind in PATIENCE_S:
            if all(clerk.kind != kind for clerk in self._clerks):
                log = self.logs_at / f"{kind}{len(self._logs)}"
                log.touch()
                self._logs.append(log)
                words = [self.database.app_dsn, self.book_id, log.name, log, PATIENCE_S[kind]]
                command = [sys.executable, "-m", "tests.crash.clerk", *map(str, words)]
                self._clerks.append(Clerk(kind, subprocess.Popen(command), log))

    def _await_acknowledgements(self, more: int) -> None:
        target = sum(clerk.look() for clerk in self._clerks) + more
        give_up_at = time.monotonic() + STUCK_S
        while sum(clerk.look() for clerk in self._clerks) < target:
            assert all(clerk.process.poll() is None for clerk in self._clerks), "a clerk has ended by itself"
            assert time.monotonic() < give_up_at, "nothing is acknowledged any more"
            time.sleep(0.002)

    def _dismiss(self) -> None:
        for clerk in self._clerks:
            clerk.kill()
        self._clerks.clear()

    async def _judge(self) -> None:
        """With every clerk killed, too: what they were about to learn is unknown like the rest."""
        self.kills["writer"] += len(self._clerks)
        self._dismiss()
        async with await self._connect() as conn:
            self.verdict = await judge(conn, self.book_id, self._logs, self.verdict)
            assert self.verdict.lost == (), f"acknowledged and lost: {self.verdict.lost[:9]}"
            if self.cycle == self.cycles:
                await assert_sound(conn, self.book_id)
        async with await AsyncConnection.connect(self.database.audit_dsn) as conn:
            self.examined = await assert_audited(conn, self.book_id)
        self.audits += 1

    async def control(self) -> Verdict:
        """Something is lost for certain: acknowledged before its COMMIT, and then the database dies."""
        log = Log(self.logs_at / "control")
        conn = await self._connect()
        log.write("try", "control-1")
        [result] = await post(conn, self.book_id, [unit("control-1")], now=clock())
        assert isinstance(result, m.Posted)
        log.write("ack", "control-1", *result.seqs)
        log.close()
        self.power.off()
        await conn.close()
        self.power.on()
        async with await self._connect() as conn:
            return await judge(conn, self.book_id, [*self._logs, log.path], self.verdict)

    async def _connect(self) -> AsyncConnection[Any]:
        return await AsyncConnection.connect(self.database.app_dsn)
