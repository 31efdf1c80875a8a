"""Group commit: concurrent callers are gathered while the last batches are being committed, and share a transaction.

There is no timer: a batch is what has queued meanwhile, up to a bound. Two connections take batches in turn, each
decided upon what the one before leaves and sent before that is committed (``ledger.optimistic``). Several writers, in
this process or on other hosts, may write one book: one that finds it written by another posts that batch under the
book's lock, and goes on from there.
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
from ledger.optimistic import Batch, confirm, judge, lead, send, written
from ledger.points import WRITER_COMMITTED, WRITER_POSTED, reach
from ledger.post import post_and_know
from ledger.state import State
from ledger.store import prepare_append
from ledger.wire import rolled_back

Connect = Callable[[], Awaitable[AsyncConnection[Any]]]
Clock = Callable[[], datetime]

RETRY_FIRST_S = 0.05
RETRY_MOST_S = 1.0

# After these the connection is still good once it is rolled back.
_ROLLED_BACK = (StatementRefused, DatabaseRefused, psycopg.DatabaseError)


LANES = 2
MOST_LOCKED = 64
"""Batches posted under the lock, at most, before it is tried again without: others may write the book all the time."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    unit: Unit
    answer: asyncio.Future[Result]


@dataclass(slots=True)
class _Lane:
    """A connection in autocommit mode, made when it is first needed and again when it was lost."""

    conn: AsyncConnection[Any] | None = None


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
        self._task: asyncio.Task[None] | None = None
        self._lanes = [_Lane() for _ in range(LANES)]
        self._free = asyncio.Semaphore(LANES)
        self._idle = list(self._lanes)
        self._under_way: dict[asyncio.Task[None], int] = {}
        self._spoiled: deque[list[_Waiting]] = deque()  # to be posted under the lock
        self._state: State | None = None
        self._versions: deque[int] = deque(maxlen=2 * LANES)  # that this writer gave the book
        self._leader: _Lane | None = None  # whose connection makes this writer the book's leader
        self._locked, self._lock_next = 0, 0

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
        """Post what is queued, then close the connections."""
        self._closing = True
        self._arrived.set()
        if self._task is not None:
            await self._task
        for lane in self._lanes:
            await self._drop(lane)

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
            while self._queue or self._spoiled or self._under_way or not self._closing:
                if not self._queue and not self._spoiled:
                    self._arrived.clear()
                    await self._arrived.wait()
                    continue
                if self._under_way and not self._spoiled and self._queue[0].unit.statements:
                    await asyncio.wait(list(self._under_way))
                lane = await self._lane()
                spoiled = bool(self._spoiled)
                batch = self._spoiled.popleft() if spoiled else self._take()
                if spoiled or not await self._send(lane, batch):
                    await self._post_alone(lane, batch)
                batch = []
        except BaseException:
            # Cancelled, perhaps at COMMIT: nobody may wait for ever.
            for task in self._under_way:
                task.cancel()
            for waiting in (batch, *self._spoiled):
                _fail(waiting, LedgerUnavailable())
            _fail(self._queue, WriterClosed())
            raise

    def _take(self) -> list[_Waiting]:
        """The next batch: half of those who are waiting or under way, so that the lanes have equal work.

        All of them under the lock, and where there are statements: run for twice as many they cost hardly more, and
        their callers have work of their own for the other core.
        """
        queued = len(self._queue)
        halves = self._knows() and not self._queue[0].unit.statements
        share = (queued + sum(self._under_way.values()) + 1) // 2 if halves else queued
        size = min(queued, share, self._batch_limit)
        return [self._queue.popleft() for _ in range(size)]

    def _knows(self) -> bool:
        """Whether it is worth trying without the lock."""
        return self._state is not None and self._locked == 0 and self._leader is not None

    async def _lane(self) -> _Lane:
        await self._free.acquire()
        return self._idle.pop()

    def _put_back(self, lane: _Lane) -> None:
        self._idle.append(lane)
        self._free.release()

    # ------------------------------------------------------------ upon what is known

    async def _send(self, lane: _Lane, batch: list[_Waiting]) -> bool:
        """Decide in memory and write beside what is under way; False if that cannot be done."""
        state = self._state
        if state is None or not self._knows():
            return False
        try:
            conn = await self._connected(lane)
            judged = await judge(conn, state, [w.unit for w in batch], now=self._clock())
            if judged is None or self._state is not state:
                self._state = None
                return False
            await send(conn, judged)
        except Exception:  # whatever it is, under the lock it is found out, and who is to blame
            self._state = None
            await self._drop(lane)
            return False
        if judged.rows is not None:
            self._versions.append(judged.version)
        before = next(reversed(self._under_way), None)
        task = asyncio.create_task(self._finish(lane, judged, batch, before))
        self._under_way[task] = len(batch)
        task.add_done_callback(self._landed)
        return True

    def _landed(self, task: asyncio.Task[None]) -> None:
        del self._under_way[task]
        self._arrived.set()

    async def _finish(
        self, lane: _Lane, judged: Batch, batch: list[_Waiting], before: asyncio.Task[None] | None
    ) -> None:
        results: Sequence[Result] | None = None
        try:
            conn = await self._connected(lane)
            await written(conn, judged)
            reach(WRITER_COMMITTED)
            if judged.rows is None and before is not None:
                await asyncio.wait([before])
            results = await confirm(conn, judged, self._versions_from(judged.version))
        except Exception:  # as above
            await self._drop_or_roll_back(lane)
        except BaseException:
            self._forget(judged.state)
            _fail(batch, LedgerUnavailable())
            await self._drop(lane)
            raise
        finally:
            self._put_back(lane)
        if results is None:
            self._forget(judged.state)
            self._spoiled.append(batch)
            return
        self._lock_next = 0
        for waiting, result in zip(batch, results, strict=True):
            _answer(waiting, result)

    def _versions_from(self, version: int) -> Sequence[int]:
        """``version`` and what this writer made of it since."""
        known = list(self._versions)
        return known[known.index(version) :] if version in known else [version]

    def _forget(self, state: State) -> None:
        """What follows from ``state`` never was. Each time it happens, twice as many batches go under the lock."""
        if self._state is state:
            self._state = None
            self._locked = self._lock_next
            self._lock_next = min(2 * self._lock_next + 1, MOST_LOCKED)

    # ------------------------------------------------------------ under the lock

    async def _post_alone(self, lane: _Lane, batch: list[_Waiting]) -> None:
        """Post under the lock, with nothing else under way."""
        others = [await self._lane() for _ in self._lanes[1:]]
        self._locked = max(self._locked - 1, 0)
        try:
            await self._post(lane, batch)
        finally:
            for each in (*others, lane):
                self._put_back(each)

    async def _post(self, lane: _Lane, batch: Sequence[_Waiting]) -> None:
        try:
            results = await self._post_until_known(lane, [w.unit for w in batch])
        except (LedgerUnavailable, BookUnknown) as error:
            _fail(batch, error)
        except Exception as error:
            if len(batch) > 1:
                # One unit spoiled the transaction: halve until the culprit stands alone.
                middle = len(batch) // 2
                await self._post(lane, batch[:middle])
                await self._post(lane, batch[middle:])
            elif isinstance(error, StatementRefused):
                _answer(batch[0], error)
            else:
                _fail(batch, error)
        else:
            for waiting, result in zip(batch, results, strict=True):
                _answer(waiting, result)

    async def _post_until_known(self, lane: _Lane, units: Sequence[Unit]) -> list[Result]:
        """Post in one transaction; when the connection is lost, also at COMMIT, post the same again.

        The book's lock makes the second try wait for the end of the first, and the source keys then say
        whether that one stood: what was committed comes back as a replay.
        """
        loop = asyncio.get_running_loop()
        give_up_at, pause = loop.time() + self._settle_s, RETRY_FIRST_S
        while True:
            try:
                return await self._transaction(lane, units)
            except psycopg.errors.QueryCanceled:
                raise  # one unit's statement took too long: not a lost connection
            except (psycopg.OperationalError, psycopg.InterfaceError, OSError) as error:
                await self._drop(lane)
                if loop.time() >= give_up_at:
                    raise LedgerUnavailable from error
            await asyncio.sleep(pause)
            pause = min(pause * 2, RETRY_MOST_S)

    async def _transaction(self, lane: _Lane, units: Sequence[Unit]) -> list[Result]:
        conn = await self._connected(lane)
        self._state = None
        await conn.set_autocommit(False)
        try:
            state, results = await post_and_know(conn, self._book_id, units, now=self._clock())
            reach(WRITER_POSTED)
            await conn.commit()
            reach(WRITER_COMMITTED)
        except _ROLLED_BACK:
            if not conn.closed:
                await _roll_back(conn)
                await conn.set_autocommit(True)
            raise
        except BaseException:
            await self._drop(lane)  # in doubt: let the server roll back
            raise
        await conn.set_autocommit(True)
        self._state = state
        self._versions.clear()
        self._versions.append(state.version)
        if self._leader is None and self._locked == 0:
            if await lead(conn, self._book_id):
                self._leader = lane
            else:
                self._locked = MOST_LOCKED
        return results

    async def _drop(self, lane: _Lane) -> None:
        conn, lane.conn = lane.conn, None
        if self._leader is lane:
            self._leader = None
        if conn is not None:
            await conn.close()

    async def _drop_or_roll_back(self, lane: _Lane) -> None:
        """After an error of a statement the connection is still good, if the server says so."""
        try:
            if lane.conn is not None:
                await _roll_back(lane.conn)
        except psycopg.Error:
            await self._drop(lane)

    async def _connected(self, lane: _Lane) -> AsyncConnection[Any]:
        if lane.conn is None:
            lane.conn = await self._connect()
            await lane.conn.set_autocommit(True)
        await prepare_append(
            lane.conn
        )  # now, so that batches are sent in the order in which they were decided
        return lane.conn


async def _roll_back(conn: AsyncConnection[Any]) -> None:
    await conn.rollback()
    rolled_back(conn)


def _answer(waiting: _Waiting, result: Result) -> None:
    if not waiting.answer.done():
        waiting.answer.set_result(result)


def _fail(batch: Iterable[_Waiting], error: Exception) -> None:
    for waiting in batch:
        if not waiting.answer.done():
            waiting.answer.set_exception(error)
