"""Faults, drawn from a seed: the API dies at a random moment and at every marked point, and beside each of its deaths
something else dies as well.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from itertools import zip_longest

from ledger.points import (
    RAIL_ANSWERED,
    RAIL_SENDING,
    RECOVERY_CLAIMED,
    WRITER_COMMITTED,
    WRITER_POSTED,
)
from tests.chaos.system import System

API_POINTS = (RAIL_SENDING, RAIL_ANSWERED, WRITER_POSTED, WRITER_COMMITTED)
LONGEST_WAIT_S, LONGEST_DOWN_S, MOST_TIMES = 2.5, 0.8, 10


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


async def cycle(system: System, dice: random.Random, report: Callable[[str], None]) -> None:
    """Everything dies: the API at a random moment and at each point, the others meanwhile. All is up at the end."""
    crashes = [f"{point}:{dice.randint(1, MOST_TIMES)}" for point in dice.sample(API_POINTS, len(API_POINTS))]
    others = dice.sample(COMPANIONS, len(COMPANIONS))
    theirs = random.Random(dice.random())
    async with asyncio.TaskGroup() as group:
        group.create_task(_api_dies(system, crashes, dice, report))
        group.create_task(_others_die(system, others, theirs, report))
    await system.ready()


async def _api_dies(
    system: System, crashes: Sequence[str], dice: random.Random, report: Callable[[str], None]
) -> None:
    await asyncio.sleep(dice.uniform(0.1, LONGEST_WAIT_S))
    await system.kill_and_arm("api", crashes[0])
    for crash, following in zip_longest(crashes, crashes[1:]):
        await system.dies("api", crash, following)
        report(f"api died at {crash}")


async def _others_die(
    system: System, faults: Sequence[Fault], dice: random.Random, report: Callable[[str], None]
) -> None:
    for fault in faults:
        await asyncio.sleep(dice.uniform(0.1, LONGEST_WAIT_S))
        await fault(system, dice)
        report(fault.__name__.replace("_", " "))
