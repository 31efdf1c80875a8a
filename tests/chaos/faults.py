"""Faults, drawn from a seed: the API dies at a random moment and at every marked point, and beside each of its deaths
something else dies as well.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from time import perf_counter

from ledger.points import (
    RAIL_ANSWERED,
    RAIL_SENDING,
    RECOVERY_CLAIMED,
    WRITER_COMMITTED,
    WRITER_POSTED,
)
from tests.chaos.system import System

API_POINTS = (RAIL_SENDING, RAIL_ANSWERED, WRITER_POSTED, WRITER_COMMITTED)
LONGEST_WAIT_S, LONGEST_DOWN_S, MOST_TIMES = 2.5, 0.8, 6


async def database_dies(system: System, dice: random.Random) -> None:
    await system.kill_database(dice.uniform(0, LONGEST_DOWN_S))


async def bank_dies(system: System, dice: random.Random) -> None:
    system.kill("acquirer")


async def worker_dies_in_recovery(system: System, dice: random.Random) -> None:
    crash = f"{RECOVERY_CLAIMED}:{dice.randint(1, 2)}"
    await system.kill_and_arm("worker", crash)
    await system.dies("worker", crash)


async def everything_dies(system: System, dice: random.Random) -> None:
    for name in ("worker", "acquirer"):
        system.kill(name)
    await system.kill_database(dice.uniform(0, LONGEST_DOWN_S))


Fault = Callable[[System, random.Random], Awaitable[None]]
COMPANIONS: Sequence[Fault] = (database_dies, bank_dies, worker_dies_in_recovery, everything_dies)


@dataclass(frozen=True, slots=True)
class Strike:
    """The API dies at ``crash``; ``companion`` happens ``after_s`` it was started."""

    crash: str
    companion: Fault
    after_s: float


def drawn(dice: random.Random) -> list[Strike]:
    """Every point and every companion once, in some order and pairing."""
    points = dice.sample(API_POINTS, len(API_POINTS))
    companions = dice.sample(COMPANIONS, len(COMPANIONS))
    return [
        Strike(f"{point}:{dice.randint(1, MOST_TIMES)}", companion, dice.uniform(0.0, LONGEST_WAIT_S))
        for point, companion in zip(points, companions, strict=True)
    ]


async def cycle(system: System, dice: random.Random, report: Callable[[str], None]) -> None:
    """The API killed at a random moment, then at each point; everything else meanwhile. All is up at the end."""
    strikes = drawn(dice)
    await asyncio.sleep(dice.uniform(0.1, LONGEST_WAIT_S))
    await system.kill_and_arm("api", strikes[0].crash)
    for strike, following in zip_longest(strikes, strikes[1:]):
        began = perf_counter()
        async with asyncio.TaskGroup() as group:
            group.create_task(system.dies("api", strike.crash, following and following.crash))
            group.create_task(_later(system, strike, dice))
        report(f"{strike.crash}, {strike.companion.__name__}: {perf_counter() - began:.1f} s")
    await system.ready()


async def _later(system: System, strike: Strike, dice: random.Random) -> None:
    await asyncio.sleep(strike.after_s)
    await strike.companion(system, dice)
