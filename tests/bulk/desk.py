"""A fresh book for bulk posting, short words for columns, and the same rows posted one unit each."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from psycopg import AsyncConnection
from psycopg.rows import dict_row

from khata.database import Database
from ledger import model as m
from ledger.audit import audit
from ledger.books import create_book, open_accounts
from ledger.bulk import Batch, Bulk, BulkResult, Captures, Paths, Places, Transfers, uuid7s
from ledger.post import post
from tests.ledger.conftest import ACCOUNTS
from tests.ledger.recompute import differences
from tests.ledger.words import ESCROW, FEES, NOW, PENDING_A, PENDING_B, WALLET

PATHS = Paths([ESCROW, WALLET, PENDING_A, PENDING_B, FEES])
ROW = tuple[str, str, int]  # credited ("from"), debited ("to"), amount: as ``words.pay``
_numbers = itertools.count(1)


def transfers(
    rows: Sequence[ROW], paths: Paths = PATHS, sources: Sequence[str] | None = None, **more: Any
) -> Transfers:
    """Fresh ids and, unless they are given, source keys."""
    return Transfers(**(_pairs(rows, paths) | _journals(len(rows), sources) | more))


def places(
    rows: Sequence[ROW], paths: Paths = PATHS, sources: Sequence[str] | None = None, **more: Any
) -> Places:
    """The same as holds."""
    given = (
        _pairs(rows, paths) | _journals(len(rows), sources) | {"kind": "hold", "hold_ids": fresh(len(rows))}
    )
    return Places(**(given | more))


def captures(
    of: Places | Sequence[tuple[bytes, int]], sources: Sequence[str] | None = None, **more: Any
) -> Captures:
    """All of every hold, or those given, each with its amount."""
    pairs = (
        [(i.tobytes(), n) for i, n in zip(of.hold_ids, of.amount, strict=True)]
        if isinstance(of, Places)
        else of
    )
    ids = np.frombuffer(b"".join(id_ for id_, _ in pairs), np.uint8).reshape(-1, 16)
    amount = np.array([amount for _, amount in pairs], np.int64)
    given = _journals(len(pairs), sources) | {"kind": "capture", "hold_ids": ids, "amount": amount}
    return Captures(**(given | more))


def fresh(count: int) -> np.ndarray:
    return uuid7s(NOW, secrets.token_bytes(10 * count))


def _pairs(rows: Sequence[ROW], paths: Paths) -> dict[str, Any]:
    return {
        "paths": paths,
        "currency": "INR",
        "debit": np.array([paths.place(debit) for _, debit, _ in rows], np.int32),
        "credit": np.array([paths.place(credit) for credit, _, _ in rows], np.int32),
        "amount": np.array([amount for _, _, amount in rows], np.int64),
    }


def _journals(count: int, sources: Sequence[str] | None) -> dict[str, Any]:
    return {
        "kind": "transfer",
        "source_type": "test",
        "source_event": "done",
        "source_ids": sources or [f"bulk-{next(_numbers)}" for _ in range(count)],
        "ids": fresh(count),
    }


def funding(*amounts: int, account: str = WALLET) -> Transfers:
    return transfers([(account, ESCROW, amount) for amount in amounts])


@dataclass
class Desk:
    """``bulk()`` posts to the book; ``conn`` looks at it and gets in the way. Its clock ticks with every reading."""

    database: Database
    conn: AsyncConnection[Any]
    book_id: int
    now: datetime = NOW
    tick: timedelta = timedelta(milliseconds=1)
    pids: list[int] = field(default_factory=list)

    async def connect(self) -> AsyncConnection[Any]:
        conn = await AsyncConnection.connect(self.database.app_dsn)
        self.pids.append(conn.info.backend_pid)
        return conn

    def clock(self) -> datetime:
        self.now += self.tick
        return self.now

    def bulk(self, connect: Callable[[], Any] | None = None, **more: Any) -> Bulk:
        return Bulk(connect or self.connect, self.book_id, clock=self.clock, **more)

    async def one_by_one(self, given: Batch, now: datetime | None = None) -> BulkResult:
        """The reference: every row a unit, posted under the book's lock."""
        units = [given.unit(row) for row in range(len(given))]
        results = await post(self.conn, self.book_id, units, now=now or self.clock())
        await self.conn.commit()
        return BulkResult(
            np.array([r.seqs[0] if isinstance(r, m.Posted) else 0 for r in results], np.int64),
            {row: r for row, r in enumerate(results) if not isinstance(r, m.Posted)},
            frozenset(row for row, r in enumerate(results) if isinstance(r, m.Posted) and r.replayed),
        )

    async def head(self) -> int:
        [row] = await self.rows("SELECT head FROM ledger.book WHERE book_id = %s")
        return row["head"]

    async def rows(self, query: str) -> list[dict[str, Any]]:
        cursor = self.conn.cursor(row_factory=dict_row)
        await cursor.execute(query, [self.book_id])  # type: ignore[arg-type]
        found = await cursor.fetchall()
        await self.conn.rollback()
        return found

    async def check(self) -> None:
        """Every figure and every line, by the audit and by the tests' own reckoning."""
        assert await differences(self.conn, self.book_id) == []
        results = await audit(self.conn, self.book_id)
        assert [finding for result in results for finding in result.findings] == []


@asynccontextmanager
async def opened(database: Database) -> AsyncGenerator[Desk]:
    async with await AsyncConnection.connect(database.app_dsn) as conn:
        book_id = await create_book(conn, name=f"b{secrets.token_hex(8)}", now=NOW)
        await open_accounts(conn, book_id, ACCOUNTS, now=NOW)
        await conn.commit()
        desk = Desk(database, conn, book_id)
        yield desk
        await desk.check()


def told(result: BulkResult) -> tuple[list[int], dict[int, m.Result], set[int]]:
    """A result in values that compare."""
    return result.seqs.tolist(), dict(result.refused), set(result.replayed)
