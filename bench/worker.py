"""A system's client process: set up once, then told what to run. Every system that is measured runs in such a one.

It reads a line of JSON for each turn, ``{"run": case, "seconds": s}``, and answers with what it did. Standard library
only, for it also runs in the environments of other systems (``bench.environments``).
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Sample:
    """What one turn of a case did. ``waits_us``: how long each caller waited; empty where that has no meaning.

    ``client_s`` and ``server_s``: CPU time of the client process and of the server; None: not known.
    """

    done: int = 0
    seconds: float = 0.0
    waits_us: list[int] = field(default_factory=list[int])
    client_s: float | None = None
    server_s: float | None = None

    @property
    def rate(self) -> float:
        return self.done / self.seconds


Run = Callable[[float], Awaitable[Sample]]
RunSync = Callable[[float], Sample]


class Line:
    """The worker's end. What others print goes to standard error, so that it cannot be taken for an answer."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)

    def ready(self, cases: Sequence[str]) -> None:
        gc.collect()  # for all systems alike: a client whose objects have no cycles need not search for them
        gc.freeze()
        gc.set_threshold(100_000, 50, 1_000)
        self._say({"cases": list(cases)})

    def asked(self) -> tuple[str, float] | None:
        """The next case and for how long; None when there is no more to do. Waits for it."""
        said = sys.stdin.readline()
        if not said:
            return None
        order = json.loads(said)
        return order["run"], order["seconds"]

    def answer(self, sample: Sample) -> None:
        self._say(asdict(sample))

    def _say(self, words: Mapping[str, Any]) -> None:
        self._out.write(json.dumps(words) + "\n")


async def serve(opened: AbstractAsyncContextManager[Mapping[str, Run]]) -> None:
    """Open the cases, run those that are asked for until the caller hangs up, close them."""
    line = Line()
    async with opened as runs:
        line.ready(list(runs))
        while (order := await asyncio.to_thread(line.asked)) is not None:
            name, seconds = order
            before = time.process_time()
            sample = await runs[name](seconds)
            sample.client_s = time.process_time() - before
            line.answer(sample)


def serve_sync(runs: Mapping[str, RunSync], line: Line) -> None:
    """The same for a system without asyncio."""
    line.ready(list(runs))
    while (order := line.asked()) is not None:
        name, seconds = order
        before = time.process_time()
        sample = runs[name](seconds)
        sample.client_s = time.process_time() - before
        line.answer(sample)


async def closed_loop(callers: Sequence[Callable[[], Awaitable[Any]]], seconds: float) -> Sample:
    """Each caller asks again as soon as it has its answer."""
    sample = Sample()
    start = time.perf_counter()
    end = start + seconds

    async def caller(ask: Callable[[], Awaitable[Any]]) -> None:
        before = time.perf_counter()
        while before < end:
            await ask()
            after = time.perf_counter()
            sample.waits_us.append(int((after - before) * 1e6))
            before = after

    await asyncio.gather(*(caller(ask) for ask in callers))
    sample.seconds = time.perf_counter() - start
    sample.done = len(sample.waits_us)
    return sample


def closed_loop_sync(ask: Callable[[], Any], seconds: float) -> Sample:
    """One caller."""
    sample = Sample()
    start = before = time.perf_counter()
    while before < start + seconds:
        ask()
        after = time.perf_counter()
        sample.waits_us.append(int((after - before) * 1e6))
        before = after
    sample.seconds = before - start
    sample.done = len(sample.waits_us)
    return sample


async def batches(
    run: Callable[[Any], Coroutine[Any, Any, Any]], build: Callable[[], Any], counts: int, seconds: float
) -> Sample:
    """Run batch after batch, at least one, building the next while the last is under way; each counts ``counts``."""
    sample = Sample()
    batch = build()
    start = time.perf_counter()
    while not sample.done or time.perf_counter() < start + seconds:
        running = asyncio.create_task(run(batch))
        await asyncio.sleep(0)  # let it send
        batch = build()
        await running
        sample.done += counts
    sample.seconds = time.perf_counter() - start
    return sample
