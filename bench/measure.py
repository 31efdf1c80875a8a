"""Cases, samples, and rounds in which every case takes its turn, so that a noisy minute hits all of them."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Sample:
    """What one turn of a case did. ``latencies_s`` is empty where a caller's wait has no meaning (bulk)."""

    done: int = 0
    seconds: float = 0.0
    latencies_s: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return self.done / self.seconds


@dataclass(frozen=True)
class Case:
    """``run(seconds)`` works for about that long and says what it did. ``unit``: what is counted."""

    name: str
    system: str
    run: Callable[[float], Awaitable[Sample]]
    unit: str = "transfers"


@dataclass(frozen=True)
class Figure:
    """One row of ``latest.json``: the median rate over the rounds, its extremes, and callers' waits."""

    case: str
    system: str
    unit: str
    rate_per_s: float
    min: float
    max: float
    p50_ms: float | None
    p99_ms: float | None
    rounds: int

    @classmethod
    def of(cls, case: Case, samples: Sequence[Sample]) -> Figure:
        rates = [s.rate for s in samples]
        waits = sorted(wait for s in samples for wait in s.latencies_s)
        return cls(
            case=case.name,
            system=case.system,
            unit=case.unit,
            rate_per_s=round(statistics.median(rates), 1),
            min=round(min(rates), 1),
            max=round(max(rates), 1),
            p50_ms=_percentile(waits, 0.50) if waits else None,
            p99_ms=_percentile(waits, 0.99) if waits else None,
            rounds=len(rates),
        )


def _percentile(ordered: Sequence[float], share: float) -> float:
    """In milliseconds, the nearest rank."""
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000, 3)


async def rounds(
    cases: Sequence[Case], *, count: int, seconds: float, after_each: Callable[[int, Case, Sample], None]
) -> list[Figure]:
    """``count`` interleaved rounds after one shorter round that warms caches and plans and is thrown away."""
    samples: dict[Case, list[Sample]] = {case: [] for case in cases}
    for number in range(count + 1):
        for case in cases:
            sample = await case.run(seconds if number else seconds / 2)
            if number:
                samples[case].append(sample)
            after_each(number, case, sample)
    return [Figure.of(case, samples[case]) for case in cases]


async def closed_loop(
    callers: Sequence[Callable[[], Awaitable[Any]]], seconds: float, counts: int = 1
) -> Sample:
    """Each caller asks again as soon as it has its answer; ``counts`` is what one answer is worth."""
    sample = Sample()
    start = time.perf_counter()
    end = start + seconds

    async def caller(ask: Callable[[], Awaitable[Any]]) -> None:
        before = time.perf_counter()
        while before < end:
            await ask()
            after = time.perf_counter()
            sample.latencies_s.append(after - before)
            before = after

    await asyncio.gather(*(caller(ask) for ask in callers))
    sample.seconds = time.perf_counter() - start
    sample.done = len(sample.latencies_s) * counts
    return sample
