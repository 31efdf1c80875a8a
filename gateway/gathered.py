"""Group commit for what is no journal: concurrent callers share one run of the same work.

There is no timer: what has queued while the last run was on its way is the next one (as ``ledger.writer`` does).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Gathered(Generic[Item, Result]):
    """``await gathered(item)`` is ``item``'s place in what ``work`` made of the items it was run with.

    ``work`` does all of its items or, raising, none. After an error of ``about_one`` they are done again in halves, so
    that it reaches the one it is about; any other reaches all of them. ``most``: items a run. A caller that stops
    waiting does not stop its item.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]],
        *,
        about_one: tuple[type[Exception], ...] = (),
        most: int = 256,
    ) -> None:
        self._work = work
        self._about_one = about_one
        self._most = most
        self._queue: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._running: asyncio.Task[None] | None = None

    async def __call__(self, item: Item) -> Result:
        result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._queue.append((item, result))
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())
        return await result

    async def ended(self) -> None:
        """Return when nothing is queued or under way."""
        while self._running is not None and not self._running.done():
            await asyncio.wait((self._running,))

    async def _run(self) -> None:
        while self._queue:
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), self._most))]
            try:
                await self._do(batch)
            except BaseException:  # cancelled: nobody may wait for ever
                for _, result in (*batch, *self._queue):
                    result.cancel()
                self._queue.clear()
                raise

    async def _do(self, batch: Sequence[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._work([item for item, _ in batch])
        except Exception as error:
            if len(batch) > 1 and isinstance(error, self._about_one):
                middle = len(batch) // 2
                await self._do(batch[:middle])
                await self._do(batch[middle:])
                return
            for _, result in batch:
                if not result.done():
                    result.set_exception(error)
        else:
            for (_, result), made in zip(batch, results, strict=True):
                if not result.done():
                    result.set_result(made)
