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
from psycopg import AsyncConnection

from ledger import read, wire

# What a merchant's figures stand on (accounting.md, "Chart"); * is its public id.
FIGURE_PATHS = (
    "Liabilities:Merchant:*:Pending",
    "Liabilities:Merchant:*:Available",
    "Liabilities:Merchant:*:Reserve",
    "Liabilities:Merchant:*:Disputed",
    "Assets:Receivable:Merchant:*",
)
_MOST = 200  # requests a statement
_NAME, _TEXT = b"figures", 25

Connect = Callable[[], Awaitable[AsyncConnection[Any]]]
# In one currency: [index in FIGURE_PATHS, posted, available] of each account that is there.
Figures = tuple[str, list[list[int]]]


class _Waiting(NamedTuple):
    book_id: int
    owner: str
    answer: asyncio.Future[list[Figures]]


class Reads:
    """Reads over one connection in autocommit mode, made by ``connect``, from the first read to ``close``.

    ``answer_s``: how long a read may take.
    """

    def __init__(self, connect: Connect, *, answer_s: float = 20.0) -> None:
        self._connect = connect
        self._answer_s = answer_s
        self._conn: AsyncConnection[Any] | None = None
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
        try:
            async with asyncio.timeout(self._answer_s):
                return await self._asked(*values)
        except TimeoutError:
            # Everybody's reads go this way: a database that says nothing must not hold them for ever.
            await self._hang_up()
            raise psycopg.OperationalError("the database does not answer") from None

    async def _asked(self, *values: str) -> bytes:
        if self._conn is not None:
            try:
                return await _value(self._conn, values)
            except psycopg.Error:  # lost since the last read, perhaps long ago: reading again does no harm
                await self._hang_up()
        conn = self._conn = await self._connect()
        # Planned once, by key even where a table is short still: planning each time would take longer than to read.
        await conn.execute("SET plan_cache_mode = force_generic_plan")
        await conn.execute("SET enable_seqscan = off")
        await wire.prepare(conn, _NAME, read.FIGURES.encode(), [_TEXT] * len(values))
        return await _value(conn, values)

    async def _hang_up(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            await conn.close()


async def _value(conn: AsyncConnection[Any], values: Sequence[str]) -> bytes:
    result = await wire.execute(conn, _NAME, [value.encode() for value in values])
    found = result.get_value(0, 0)
    assert found is not None
    return found
