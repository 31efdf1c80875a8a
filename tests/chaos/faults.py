"""Faults, drawn from a seed. A cycle kills the API at a random moment, then at a marked point, and meanwhile
something else: every point and every companion comes once before any comes again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ledger.points import (
    RAIL_ANSWERED,
    RAIL_SENDING,
    RECOVERY_CLAIMED,
    WRITER_COMMITTED,
    WRITER_POSTED,
)
from tests.chaos.system import System

API_POINTS = (RAIL_SENDING, RAIL_ANSWERED, WRITER_POSTED, WRITER_COMMITTED)
SHORT = len(API_POINTS)
LONGEST_QUIET_S, LONGEST_DOWN_S, MOST_TIMES = 0.8, 0.8, 6
T = TypeVar("T")


async def database_dies(system: System, dice: random.Random) -> None:
    await system.kill_database(dice.uniform(0, LONGEST_DOWN_S))


async def bank_dies(system: System, dice: random.Random) -> None:
    system.kill("acquirer")


async def worker_dies_in_recovery(system: System, dice: random.Random) -> None:
    await system.kill_at("worker", RECOVERY_CLAIMED, dice.randint(1, 2))


async def everything_dies(system: System, dice: random.Random) -> None:
    for name in ("worker", "acquirer"):
        system.kill(name)
    await system.kill_database(dice.uniform(0, LONGEST_DOWN_S))


Fault = Callable[[System, random.Random], Awaitable[None]]
COMPANIONS: Sequence[Fault] = (database_dies, bank_dies, worker_dies_in_recovery, everything_dies)


@dataclass(frozen=True, slots=True)
class Cycle:
    """``companion`` happens ``after_s`` the armed API has been started."""

    quiet_s: float
    point: str
    times: int
    companion: Fault
    after_s: float


def cycles(seed: int, count: int) -> Iterator[tuple[Cycle, random.Random]]:
    """The same ``seed`` gives the same cycles, each with dice of its own."""
    dice = random.Random(seed)
    points, companions = _shuffled(API_POINTS, dice), _shuffled(COMPANIONS, dice)
    for _ in range(count):
        quiet_s, after_s = dice.uniform(0.1, LONGEST_QUIET_S), dice.uniform(0.0, 3.0)
        times = dice.randint(1, MOST_TIMES)
        cycle = Cycle(quiet_s, next(points), times, next(companions), after_s)
        yield cycle, random.Random(dice.random())


def _shuffled(cards: Sequence[T], dice: random.Random) -> Iterator[T]:
    while True:
        yield from dice.sample(cards, len(cards))


async def strike(system: System, cycle: Cycle, dice: random.Random) -> None:
    """Carry out one cycle; everything is up again at its end."""
    await asyncio.sleep(cycle.quiet_s)

    async def companion() -> None:
        await asyncio.sleep(cycle.after_s)
        await cycle.companion(system, dice)

    async with asyncio.TaskGroup() as group:
        group.create_task(system.kill_at("api", cycle.point, cycle.times))
        group.create_task(companion())
    await system.ready()
