"""Concurrent requests share a read: whoever asks while one is under way has its answer from the next.

Waiting for the database costs a process more than asking it something, and one statement for thirty costs little
more than one for one. There is no timer, as in ``ledger.writer``: a lone request is sent at once. A read is sent only
after all whose answer it is have asked, so each sees what was committed before its request came.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import orjson
import psycopg
from psycopg import AsyncConnection, pq
from psycopg.errors import error_from_result

from ledger import read

# What a merchant's figures stand on (accounting.md, "Chart"); * is its public id.
FIGURE_PATHS = (
    "Liabilities:Merchant:*:Pending",
    "Liabilities:Merchant:*:Available",
    "Liabilities:Merchant:*:Reserve",
    "Liabilities:Merchant:*:Disputed",
    "Assets:Receivable:Merchant:*",
)
_MOST = 200  # requests a statement

Connect = Callable[[], Awaitable[AsyncConnection[Any]]]
# In one currency: [index in FIGURE_PATHS, posted, available] of each account that is there.
Figures = tuple[str, list[list[int]]]


class _Waiting(NamedTuple):
    book_id: int
    owner: str
    answer: asyncio.Future[list[Figures]]


class Reads:
    """Reads over one connection in autocommit mode, made by ``connect``, from the first read to ``close``."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._asked: _Prepared | None = None
        self._waiting: list[_Waiting] = []
        self._task: asyncio.Task[None] | None = None

    async def figures(self, book_id: int, owner: str) -> list[Figures]:
        """A merchant's figures, an element a currency. Raises what the database raises, after a second try on a
        new connection."""
        waiting = _Waiting(book_id, owner, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="reads")
        return await waiting.answer

    async def close(self) -> None:
        """Answer who waits, then close the connection."""
        if self._task is not None:
            await self._task
        await self._hang_up()

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
                await self._answer(batch)
        finally:
            self._task = None

    async def _answer(self, batch: Sequence[_Waiting]) -> None:
        try:
            found = await self._read(batch)
        except BaseException as error:
            for waiting in batch:
                if not waiting.answer.done():
                    waiting.answer.set_exception(error)
            if not isinstance(error, Exception):
                await self._hang_up()  # cancelled: what comes now would be taken for the next answer
                raise
            return
        for waiting, own in zip(batch, found, strict=True):
            if not waiting.answer.done():  # it is, if its request was given up
                waiting.answer.set_result(own)

    async def _read(self, batch: Sequence[_Waiting]) -> list[list[Figures]]:
        books = "\n".join([str(waiting.book_id) for waiting in batch])
        owners = "\n".join([waiting.owner for waiting in batch])
        found: list[list[Figures]] = [[] for _ in batch]
        for index, currency, figures in orjson.loads(await self._ask(books, owners, "\n".join(FIGURE_PATHS))):
            found[index].append((currency, figures))
        return found

    async def _ask(self, *values: str) -> bytes:
        if self._asked is not None:
            try:
                return await self._asked.value(*values)
            except (psycopg.OperationalError, psycopg.InterfaceError):
                await (
                    self._hang_up()
                )  # lost since the last read, perhaps long ago: reading again does no harm
        self._asked = await _Prepared.on(await self._connect(), read.FIGURES)
        return await self._asked.value(*values)

    async def _hang_up(self) -> None:
        asked, self._asked = self._asked, None
        if asked is not None:
            await asked.close()


class _Prepared:
    """A statement that yields one value, prepared on a connection that is used for nothing else.

    Spoken to through libpq: psycopg makes a cursor, and a reader and a timer of the event loop, for each time.
    """

    _NAME = b"asked"

    def __init__(self, conn: AsyncConnection[Any]) -> None:
        self._conn = conn
        self._pq = conn.pgconn
        self._loop = asyncio.get_running_loop()
        self._result: asyncio.Future[pq.abc.PGresult] | None = None
        self._socket = self._pq.socket
        self._loop.add_reader(self._socket, self._readable)

    @classmethod
    async def on(cls, conn: AsyncConnection[Any], sql: str) -> _Prepared:
        try:
            # Planned once: a plan for the values at hand would be the same, and take longer than to read.
            await conn.execute("SET plan_cache_mode = force_generic_plan")
            await conn.execute(b"PREPARE " + cls._NAME + b" (text, text, text) AS " + sql.encode())
        except BaseException:
            await conn.close()
            raise
        return cls(conn)

    async def value(self, *values: str) -> bytes:
        """Raises ``psycopg.Error``. One call at a time."""
        self._result = self._loop.create_future()
        self._pq.send_query_prepared(self._NAME, [value.encode() for value in values])
        if self._pq.flush():  # some kilobytes at most, and nothing else was sent that is not answered
            raise psycopg.OperationalError("the connection takes nothing")
        result = await self._result
        if result.status != pq.ExecStatus.TUPLES_OK:
            raise error_from_result(result)
        found = result.get_value(0, 0)
        assert found is not None
        return found

    def _readable(self) -> None:
        """Something has come: the result, a notice, or the end of the connection."""
        waiting = self._result
        try:
            self._pq.consume_input()
            if waiting is None or waiting.done() or self._pq.is_busy():
                return
            result = self._pq.get_result()
            while self._pq.get_result() is not None:
                pass
        except psycopg.Error as error:
            self._forget_socket()
            if waiting is not None and not waiting.done():
                waiting.set_exception(error)
        else:
            if result is not None:
                waiting.set_result(result)

    async def close(self) -> None:
        self._forget_socket()
        await self._conn.close()

    def _forget_socket(self) -> None:
        """Once: when it is closed, its number may be another's."""
        if self._socket >= 0:
            self._loop.remove_reader(self._socket)
            self._socket = -1
