"""Group commit: concurrent callers are gathered while the last batch is being committed, and share one transaction.

There is no timer: a batch is what has queued meanwhile, up to a bound. Several writers, in this process or on other
hosts, may write one book: its lock orders them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg import AsyncConnection

from ledger.errors import (
    BookUnknown,
    DatabaseRefused,
    LedgerUnavailable,
    Overloaded,
    StatementRefused,
    WriterClosed,
)
from ledger.model import Result, Unit
from ledger.points import WRITER_COMMITTED, WRITER_POSTED, reach
from ledger.post import post

Connect = Callable[[], Awaitable[AsyncConnection[Any]]]
Clock = Callable[[], datetime]

RETRY_FIRST_S = 0.05
RETRY_MOST_S = 1.0

# After these the connection is still good once it is rolled back.
_ROLLED_BACK = (StatementRefused, DatabaseRefused, psycopg.DatabaseError)


@dataclass(frozen=True, slots=True)
class _Waiting:
    unit: Unit
    answer: asyncio.Future[Result]


class Writer:
    """Posts units to one book; ``await writer.submit(unit)`` returns after COMMIT has returned.

    ``connect`` makes a connection that is not in autocommit mode. ``settle_s``: how long a batch is tried again
    when the database is lost, before its callers get ``LedgerUnavailable``.
    """

    def __init__(
        self,
        connect: Connect,
        book_id: int,
        *,
        clock: Clock,
        queue_limit: int = 10_000,
        batch_limit: int = 1_000,
        settle_s: float = 30.0,
    ) -> None:
        self._connect = connect
        self._book_id = book_id
        self._clock = clock
        self._queue_limit = queue_limit
        self._batch_limit = batch_limit
        self._settle_s = settle_s
        self._queue: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._closing = False
        self._conn: AsyncConnection[Any] | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to post, on the running event loop; ``close`` ends it."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"ledger-writer-{self._book_id}")

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Post what is queued, then close the connection."""
        self._closing = True
        self._arrived.set()
        if self._task is not None:
            await self._task
        await self._drop_connection()

    async def submit(self, unit: Unit) -> Result:
        """Post ``unit``: ``Posted`` once durable, or its ``Refusal``.

        Raises ``Overloaded`` and ``WriterClosed`` (nothing was written) and ``LedgerUnavailable`` (unknown: submit
        the same unit again). A caller that stops waiting does not stop its unit.
        """
        if self._closing or self._task is None or self._task.done():
            raise WriterClosed
        if len(self._queue) >= self._queue_limit:
            raise Overloaded(len(self._queue))
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._queue.append(_Waiting(unit, answer))
        self._arrived.set()
        return await answer

    async def _run(self) -> None:
        batch: list[_Waiting] = []
        try:
            while self._queue or not self._closing:
                if not self._queue:
                    self._arrived.clear()
                    await self._arrived.wait()
                    continue
                size = min(len(self._queue), self._batch_limit)
                batch = [self._queue.popleft() for _ in range(size)]
                await self._post(batch)
        except BaseException:
            # Cancelled, perhaps at COMMIT: nobody may wait for ever.
            _fail(batch, LedgerUnavailable())
            _fail(self._queue, WriterClosed())
            raise

    async def _post(self, batch: Sequence[_Waiting]) -> None:
        try:
            results = await self._post_until_known([w.unit for w in batch])
        except (LedgerUnavailable, BookUnknown) as error:
            _fail(batch, error)
        except Exception as error:
            if len(batch) > 1:
                # One unit spoiled the transaction: halve until the culprit stands alone.
                middle = len(batch) // 2
                await self._post(batch[:middle])
                await self._post(batch[middle:])
            elif isinstance(error, StatementRefused):
                _answer(batch[0], error)
            else:
                _fail(batch, error)
        else:
            for waiting, result in zip(batch, results, strict=True):
                _answer(waiting, result)

    async def _post_until_known(self, units: Sequence[Unit]) -> list[Result]:
        """Post in one transaction; when the connection is lost, also at COMMIT, post the same again.

        The book's lock makes the second try wait for the end of the first, and the source keys then say
        whether that one stood: what was committed comes back as a replay.
        """
        loop = asyncio.get_running_loop()
        give_up_at, pause = loop.time() + self._settle_s, RETRY_FIRST_S
        while True:
            try:
                return await self._transaction(units)
            except psycopg.errors.QueryCanceled:
                raise  # one unit's statement took too long: not a lost connection
            except (psycopg.OperationalError, psycopg.InterfaceError, OSError) as error:
                await self._drop_connection()
                if loop.time() >= give_up_at:
                    raise LedgerUnavailable from error
            await asyncio.sleep(pause)
            pause = min(pause * 2, RETRY_MOST_S)

    async def _transaction(self, units: Sequence[Unit]) -> list[Result]:
        if self._conn is None:
            self._conn = await self._connect()
        try:
            results = await post(self._conn, self._book_id, units, now=self._clock())
            reach(WRITER_POSTED)
            await self._conn.commit()
            reach(WRITER_COMMITTED)
        except _ROLLED_BACK:
            if not self._conn.closed:
                await self._conn.rollback()
            raise
        except BaseException:
            await self._drop_connection()  # in doubt: let the server roll back
            raise
        return results

    async def _drop_connection(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            await conn.close()


def _answer(waiting: _Waiting, result: Result) -> None:
    if not waiting.answer.done():
        waiting.answer.set_result(result)


def _fail(batch: Iterable[_Waiting], error: Exception) -> None:
    for waiting in batch:
        if not waiting.answer.done():
            waiting.answer.set_exception(error)
