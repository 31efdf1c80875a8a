"""Clerks submit units for as long as they live and write down, outside the database, what they were told.

The log is fsynced before the next word: what it says was acknowledged, was. Run as a program, a clerk is a
process that can be killed: ``python -m tests.crash.clerk DSN BOOK NAME LOG SETTLE_S``.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
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
    _file: int = field(init=False)

    def __post_init__(self) -> None:
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, *words: object) -> None:
        os.write(self._file, (" ".join(map(str, words)) + "\n").encode())
        os.fsync(self._file)

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


async def work(connect: Connect, book_id: int, name: str, log: Log, *, settle_s: float) -> None:
    """Several callers of one writer, each one unit after the other, for ever."""

    async def caller(number: int) -> None:
        for count in itertools.count(1):
            source = f"{name}-{number}-{count}"
            log.write("try", source)
            try:
                result = await writer.submit(unit(source))
            except errors.LedgerUnavailable:
                continue
            log.write("ack", source, result.seqs[0] if isinstance(result, m.Posted) else 0)

    async with Writer(connect, book_id, clock=clock, settle_s=settle_s) as writer:
        await asyncio.gather(*map(caller, range(CALLERS)))


async def main(dsn: str, book_id: int, name: str, path: Path, settle_s: float) -> None:
    await work(lambda: AsyncConnection.connect(dsn), book_id, name, Log(path), settle_s=settle_s)


if __name__ == "__main__":
    logging.getLogger("psycopg").setLevel(logging.ERROR)  # connections are lost all the time here
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], Path(sys.argv[4]), float(sys.argv[5])))
