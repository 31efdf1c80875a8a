"""Clerks submit units for as long as they live and write down, outside the database, what they were told.

The log is fsynced before the next word: what it says was acknowledged, was. Run as a program, a clerk is a
process that can be killed: ``python -m tests.crash.clerk DSN BOOK NAME LOG``.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zlib import crc32

from psycopg import AsyncConnection

from ledger import errors
from ledger import model as m
from ledger.ids import Ids
from ledger.writer import Writer
from tests.ledger.words import ESCROW, PENDING_A, PENDING_B, WALLET

ACCOUNTS = (ESCROW, WALLET, PENDING_A, PENDING_B)
CALLERS = 12
Connect = Callable[[], Awaitable[AsyncConnection[Any]]]


def clock() -> datetime:
    return datetime.now(UTC)


new_id = Ids(clock)


def unit(source: str) -> m.Unit:
    """The unit of that name: the same content whenever and by whomever it is said."""
    dice = crc32(source.encode())
    debit = ACCOUNTS[dice % 4]
    credit = ACCOUNTS[(dice + 1 + dice // 4 % 3) % 4]
    posting = m.Posting(debit, credit, dice % 97 + 1, "INR")
    return m.Unit((m.Journal(new_id(), "transfer", m.Source("clerk", source, "done"), (posting,)),))


@dataclass
class Log:
    """Lines of ``try SOURCE`` and ``ack SOURCE SEQ`` (seq 0: refused), each on disk when ``write`` returns."""

    path: Path
    acknowledged: int = 0
    unknown: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    _file: int = field(init=False)

    def __post_init__(self) -> None:
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, *words: object) -> None:
        os.write(self._file, (" ".join(map(str, words)) + "\n").encode())
        os.fsync(self._file)
        self.changed.set()

    async def until(self, reached: Callable[[], bool]) -> None:
        while not reached():
            self.changed.clear()
            await self.changed.wait()

    def close(self) -> None:
        os.close(self._file)


def read_logs(*paths: Path) -> tuple[set[str], dict[str, int]]:
    """Sources tried, and the seq of those acknowledged."""
    tried: set[str] = set()
    acknowledged: dict[str, int] = {}
    for path in paths:
        for word, source, *seq in map(str.split, path.read_text().splitlines()):
            tried.add(source)
            if word == "ack":
                acknowledged[source] = int(seq[0])
    return tried, acknowledged


async def work(
    connect: Connect, book_id: int, name: str, log: Log, stop: asyncio.Event, *, settle_s: float
) -> None:
    """Several callers of one writer, each one unit after the other, until ``stop``."""

    async def caller(number: int) -> None:
        count = 0
        while not stop.is_set():
            count += 1
            source = f"{name}-{number}-{count}"
            log.write("try", source)
            try:
                result = await writer.submit(unit(source))
            except errors.LedgerUnavailable:
                log.unknown += 1
                log.changed.set()
                continue
            log.write("ack", source, result.seqs[0] if isinstance(result, m.Posted) else 0)
            log.acknowledged += 1

    async with Writer(connect, book_id, clock=clock, settle_s=settle_s) as writer:
        await asyncio.gather(*map(caller, range(CALLERS)))


async def main(dsn: str, book_id: int, name: str, path: Path) -> None:
    await work(lambda: AsyncConnection.connect(dsn), book_id, name, Log(path), asyncio.Event(), settle_s=30)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])))
