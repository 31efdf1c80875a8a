"""Cases and rounds: every case takes its turn in every round, so that a noisy minute hits all of them."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.processes import ServerClock, Worker
from bench.worker import Sample


@dataclass(frozen=True)
class Case:
    """``asks``: what is run, in all of ``workers`` at once. ``unit``: what is counted. ``server``: whose CPU time."""

    name: str
    system: str
    workers: tuple[Worker, ...]
    asks: str
    unit: str = "transfers"
    server: ServerClock | None = None

    async def run(self, seconds: float) -> Sample:
        """Work for about that long; the workers' answers as one sample."""
        before = self.server.seconds() if self.server else 0.0
        samples = await asyncio.gather(*(worker.run(self.asks, seconds) for worker in self.workers))
        return Sample(
            done=sum(s.done for s in samples),
            seconds=max(s.seconds for s in samples),
            waits_us=sorted(wait for s in samples for wait in s.waits_us),
            client_s=sum(s.client_s or 0.0 for s in samples),
            server_s=self.server.seconds() - before if self.server else None,
        )


@dataclass(frozen=True)
class Figure:
    """One row of ``latest.json``: the median rate over the rounds with its extremes, and what a caller waits.

    ``client_cpu_us``, ``server_cpu_us``: CPU time for each that was done; other work on the machine hardly moves them.
    """

    case: str
    system: str
    unit: str
    rate_per_s: float
    min: float
    max: float
    p50_ms: float | None
    p99_ms: float | None
    client_cpu_us: float | None
    server_cpu_us: float | None
    rounds: int


@dataclass(frozen=True)
class Measured:
    """A case with its samples, one a round: those of two cases can be compared round by round."""

    case: str
    system: str
    unit: str
    samples: tuple[Sample, ...]

    @property
    def rates(self) -> list[float]:
        return [s.rate for s in self.samples]

    @property
    def p99s(self) -> list[float]:
        """Of each round, in milliseconds; empty without waits."""
        return [p for s in self.samples if (p := percentile_ms(s.waits_us, 0.99)) is not None]

    @property
    def figure(self) -> Figure:
        waits = sorted(wait for s in self.samples for wait in s.waits_us)
        return Figure(
            case=self.case,
            system=self.system,
            unit=self.unit,
            rate_per_s=round(statistics.median(self.rates), 1),
            min=round(min(self.rates), 1),
            max=round(max(self.rates), 1),
            p50_ms=percentile_ms(waits, 0.50),
            p99_ms=percentile_ms(waits, 0.99),
            client_cpu_us=_cpu_us([(s.client_s, s.done) for s in self.samples]),
            server_cpu_us=_cpu_us([(s.server_s, s.done) for s in self.samples]),
            rounds=len(self.samples),
        )


def percentile_ms(ordered: Sequence[int], share: float) -> float | None:
    """Of microseconds in order, the nearest rank, in milliseconds; None when there are none."""
    if not ordered:
        return None
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))] / 1000, 3)


def _cpu_us(spent: Sequence[tuple[float | None, int]]) -> float | None:
    each = [seconds / done * 1e6 for seconds, done in spent if seconds is not None and done]
    return round(statistics.median(each), 1) if len(each) == len(spent) else None


@dataclass(frozen=True)
class Plan:
    """``count`` rounds of turns of ``seconds``, shortened so that all is over by ``deadline`` (``time.monotonic``).

    ``warm``: length of the turns of the first round, which is thrown away. ``lead``: how long each turn runs before
    it is measured: whoever was idle while others had theirs finds its caches cold and what another case left.
    """

    count: int
    seconds: float
    deadline: float
    seed: int
    warm: float = 0.5
    lead: float = 0.0


SHORTEST_S = 0.1
OnTurn = Callable[[int, Case, Sample], None]


async def rounds(cases: Sequence[Case], plan: Plan, on_turn: OnTurn) -> list[Measured]:
    """Interleaved rounds, each in an order of its own, after a first one that warms up and is thrown away."""
    samples: dict[str, list[Sample]] = {f"{case.system} {case.name}": [] for case in cases}
    order = random.Random(plan.seed)
    seconds, warm = plan.seconds, plan.warm
    start = time.monotonic()
    for number in range(plan.count + 1):
        for case in order.sample(list(cases), len(cases)):
            if number and plan.lead:
                await case.run(plan.lead)
            sample = await case.run(seconds if number else warm)
            if number:
                samples[f"{case.system} {case.name}"].append(sample)
            on_turn(number, case, sample)
        if not number:
            extra = time.monotonic() - start - len(cases) * warm  # batches do not stop on the second
            seconds = _affordable(plan, len(cases), extra)
    return [Measured(c.name, c.system, c.unit, tuple(samples[f"{c.system} {c.name}"])) for c in cases]


def _affordable(plan: Plan, cases: int, extra: float) -> float:
    left = (plan.deadline - time.monotonic()) / plan.count - (2 * extra if plan.lead else extra)
    return min(plan.seconds, max(SHORTEST_S, left / cases - plan.lead))
