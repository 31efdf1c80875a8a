"""Posts batches one after the other, two under way at a time.

A batch is decided upon what the one before it leaves, and sent while that one is still being written; ``ledger.append``
puts them in order. Whatever cannot be decided so, or is refused, goes the exact way: by the book's lock, row by row.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus

from ledger import wire
from ledger.bulk.batches import Batch, Captures
from ledger.bulk.book import Known, Wanted, each, load, load_more
from ledger.bulk.decide import stand
from ledger.bulk.rows import SQL, TYPES, encode
from ledger.errors import LedgerUnavailable, Refusal, WriterClosed
from ledger.model import Posted, Result
from ledger.post import post_and_know

Connect = Callable[[], Awaitable[AsyncConnection[Any]]]
Clock = Callable[[], datetime]

LANES = 2
MOST_LOCKED = 1
"""So many batches go under the book's lock once somebody else has written it: in turn, not in each other's way."""
RETRY_FIRST_S = 0.05
RETRY_MOST_S = 1.0
MOST_KNOWN = 1_000_000  # accounts and holds, at some 200 bytes each
_NAME = b"ledger_bulk"
_LOCK = "UPDATE ledger.book SET recorded_at = greatest(recorded_at, %s) WHERE book_id = %s"
_MOVED = ("KH036", "55P03", "40P01", "40001")  # another version, or taken; deadlock; serialization
_NUMBERED = ("journal_pkey", "posting_pkey", "posting_debit", "posting_credit")


@dataclass(frozen=True, slots=True, eq=False)
class BulkResult:
    """``seqs``: of each row's journal, 0 where it was refused. ``replayed``: rows that stood before they came."""

    seqs: NDArray[np.int64]
    refused: Mapping[int, Refusal] = field(default_factory=dict[int, Refusal])
    replayed: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class _Sent:
    """A batch that the server has: journals ``first`` and those after it; the book is at ``version`` then."""

    version: int
    lane: AsyncConnection[Any]
    first: int
    count: int


class _Stale(Exception):
    """The batch cannot go ahead on what is known. ``moved``: another look at the book may help."""

    def __init__(self, *, moved: bool) -> None:
        super().__init__()
        self.moved = moved


class Bulk:
    """Posts transfers to one book; ``await bulk.post(batch)`` returns after they are committed.

    ``connect`` makes a connection; two are kept. ``settle_s``: how long a batch is tried again when the database is
    lost, before ``LedgerUnavailable``.
    """

    def __init__(self, connect: Connect, book_id: int, *, clock: Clock, settle_s: float = 30.0) -> None:
        self._connect = connect
        self._book_id = book_id
        self._clock = clock
        self._settle_s = settle_s
        self._known: Known | None = None
        self._committed = 0  # the version that the last batch of ours made
        self._locked = 0  # so many batches are to go under the lock at once
        self._turn = asyncio.Lock()
        self._lanes: asyncio.Queue[AsyncConnection[Any] | None] = asyncio.Queue()
        for _ in range(LANES):
            self._lanes.put_nowait(None)
        self._last: asyncio.Task[BulkResult] | None = None
        self._closing = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Wait for what is under way, then close the connections."""
        self._closing = True
        await _settled(self._last)
        for _ in range(LANES):
            lane = await self._lanes.get()
            if lane is not None:
                await lane.close()

    async def post(self, batch: Batch) -> BulkResult:
        """Post the rows in order, after those of every batch that came before. Several calls may be under way.

        Rows that stand are durable when it returns. Raises ``BookUnknown``, ``WriterClosed`` and ``DatabaseRefused``
        (nothing of the batch stands) and ``LedgerUnavailable`` (unknown: post the same batch again, its source keys
        decide). A caller that stops waiting does not stop its batch.
        """
        if self._closing:
            raise WriterClosed
        task = asyncio.create_task(self._post(batch, self._last))
        self._last = task
        return await asyncio.shield(task)

    async def _post(self, batch: Batch, previous: asyncio.Task[BulkResult] | None) -> BulkResult:
        try:
            result = await self._ahead(batch, previous)
        except BaseException as error:
            self._known = None  # so that none goes ahead until this one is settled, too
            if not isinstance(error, _Stale | psycopg.Error | OSError):
                raise
            await _settled(previous)
            return await self._until_known(batch, again=_moved(error))
        await _settled(previous)  # so that what is settled has nothing unsettled before it
        return result

    async def _ahead(self, batch: Batch, previous: asyncio.Task[BulkResult] | None) -> BulkResult:
        """Decide and send while batches before this one are under way."""
        async with self._turn:
            if self._locked:
                self._locked -= 1
                raise _Stale(moved=True)
            if self._known is not None and self._known.accounts.count + self._known.holds.count > MOST_KNOWN:
                self._known = None
            if self._known is None:
                await _settled(previous)
            sent = await self._send(batch)
        return await self._answered(sent)

    async def _until_known(self, batch: Batch, *, again: bool) -> BulkResult:
        """Post when all batches before are settled: whole, if ``again``, as the book is now; then row by row.

        Also when it is unknown whether it stands: the source keys say so.
        """
        loop = asyncio.get_running_loop()
        give_up_at, pause = loop.time() + self._settle_s, RETRY_FIRST_S
        if again:
            with suppress(_Stale, psycopg.Error, OSError):
                return await self._under_lock(batch)
        while True:
            try:
                return await self._exactly(batch)
            except psycopg.errors.QueryCanceled:
                raise  # it takes too long, and would again
            except (psycopg.OperationalError, psycopg.InterfaceError, OSError) as error:
                if loop.time() >= give_up_at:
                    raise LedgerUnavailable from error
            await asyncio.sleep(pause)
            pause = min(pause * 2, RETRY_MOST_S)

    async def _send(self, batch: Batch) -> _Sent:
        """Decide the batch and send the whole of it; the answer is still to come.

        Raises ``_Stale`` and ``psycopg.Error``.
        """
        known = await self._load(batch)
        first = known.head + 1
        params = await self._decided(known, batch)
        version = known.version
        lane = await self._lane()
        try:
            if self._known is not known:
                raise _Stale(moved=True)  # a batch that this one follows has failed meanwhile
            await wire.send(lane, _NAME, params)
        except BaseException:
            await self._give_back(lane)
            raise
        return _Sent(version, lane, first, len(batch))

    async def _decided(self, known: Known, batch: Batch) -> list[bytes | None]:
        """The parameters of ``append``; ``known`` is then what the book will be. Raises ``_Stale`` if not all stand."""
        recorded_at = max(known.recorded_at, self._clock())
        lines = stand(known, batch, recorded_at)
        if lines is None:
            raise _Stale(moved=False)
        params, version = await encode(known, batch, lines, recorded_at=recorded_at)
        known.follows, known.version = known.version, version
        known.head, known.recorded_at = known.head + len(batch), recorded_at
        return params

    async def _answered(self, sent: _Sent) -> BulkResult:
        try:
            await wire.answer(sent.lane)
        finally:
            await self._give_back(sent.lane)
        self._committed = sent.version
        return BulkResult(np.arange(sent.first, sent.first + sent.count))

    async def _load(self, batch: Batch) -> Known:
        """The book, with the accounts and holds of ``batch`` as far as there are such."""
        known = self._known
        wanted = _wanted(known, batch)
        if known is not None and not wanted:
            return known
        lane = await self._lane()
        try:
            if known is None:
                known = self._known = await load(lane, self._book_id, wanted)
            else:
                await load_more(lane, known, wanted)
        finally:
            await self._give_back(lane)
        if not isinstance(batch, Captures):
            known.accounts.look_again(batch.paths, batch.currency, wanted.paths)
        return known

    async def _under_lock(self, batch: Batch) -> BulkResult:
        """The batch as a whole, in turn with others who write the book. Raises ``_Stale`` and ``psycopg.Error``."""
        lane = await self._lane()
        try:
            async with lane.transaction():
                await lane.execute(_LOCK, [self._clock(), self._book_id])
                known = await load(lane, self._book_id, _wanted(None, batch))
                first, others = known.head + 1, known.version != self._committed + 1  # one by the lock itself
                await wire.execute(lane, _NAME, await self._decided(known, batch))
        except BaseException:
            await lane.close()  # after a rollback psycopg forgets what was prepared
            raise
        finally:
            await self._give_back(lane)
        self._committed = known.version
        if others:
            self._locked = MOST_LOCKED
        return BulkResult(np.arange(first, first + len(batch)))

    async def _exactly(self, batch: Batch) -> BulkResult:
        """Row by row under the book's lock, in one transaction."""
        units = [batch.unit(row) for row in range(len(batch))]
        lane = await self._lane()
        try:
            async with lane.transaction():
                state, results = await post_and_know(lane, self._book_id, units, now=self._clock())
        except BaseException:
            await lane.close()
            raise
        finally:
            await self._give_back(lane)
        self._committed = state.version
        return _result(results)

    async def _lane(self) -> AsyncConnection[Any]:
        """A connection in autocommit mode, with the statement prepared."""
        lane = await self._lanes.get()
        try:
            if lane is None or lane.closed:
                lane = await self._connect()
                await lane.set_autocommit(True)
                await wire.prepare(lane, _NAME, SQL, TYPES)
        except BaseException:
            self._lanes.put_nowait(None)
            raise
        return lane

    async def _give_back(self, lane: AsyncConnection[Any]) -> None:
        if lane.info.transaction_status is not TransactionStatus.IDLE:
            await lane.close()  # lost, or cancelled half-way: let the server roll back
        self._lanes.put_nowait(lane)


def _wanted(known: Known | None, batch: Batch) -> Wanted:
    """What ``batch`` touches and is not known."""
    if isinstance(batch, Captures):
        ids = each(batch.hold_ids)
        if known is None:
            return Wanted(holds=ids)
        return Wanted(
            holds=[id_ for id_, n in zip(ids, known.holds.numbers(batch.hold_ids), strict=True) if n < 0]
        )
    places = np.concatenate([batch.debit, batch.credit])
    if known is not None:
        places = places[known.accounts.numbers(batch.paths, batch.currency)[places] < 0]
    return Wanted([batch.paths[place] for place in np.unique(places).tolist()])


def _result(results: Sequence[Result]) -> BulkResult:
    """Of a batch that was posted as units, one a row."""
    return BulkResult(
        np.array([result.seqs[0] if isinstance(result, Posted) else 0 for result in results], np.int64),
        {row: result for row, result in enumerate(results) if isinstance(result, Refusal)},
        frozenset(row for row, r in enumerate(results) if isinstance(r, Posted) and r.replayed),
    )


async def _settled(task: asyncio.Task[BulkResult] | None) -> None:
    """Wait for the end of a batch and of all before it, whatever it is."""
    if task is not None:
        await asyncio.wait({task})


def _moved(error: Exception) -> bool:
    """Whether the batch was refused because the book is not what it was decided upon: not for what is in it.

    A number that is taken, too: by rows of somebody who was quicker.
    """
    match error:
        case _Stale():
            return error.moved
        case psycopg.errors.UniqueViolation():
            return error.diag.constraint_name in _NUMBERED
        case psycopg.Error():
            return error.sqlstate in _MOVED
        case _:
            return False
