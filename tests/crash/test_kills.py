"""The short form of ``make crash``: none of what is acknowledged may be lost when PostgreSQL and writers are killed.

``CYCLES`` (default 20) sets the number of cycles, ``SEED`` replays a run.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.power import Namespace, Power, Tree, refusal
from tests.crash.run import Run
from tests.server import temporary_home

CYCLES = int(os.environ.get("CYCLES") or 20)
pytestmark = [
    pytest.mark.timeout(max(1800, CYCLES * 30)),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds processes in /proc"),
]


@pytest.fixture
def seed() -> int:
    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(2**32))
    print(f"seed {seed}")
    return seed


async def killed(make: Callable[[Path], Power], cycles: int, seed: int, logs: Path) -> Run:
    """A run of ``cycles``, judged in the middle and at the end; then the control, which must be found out."""
    with temporary_home() as home:
        run = Run(make(home), home, logs, cycles, seed, judged_every=max(cycles // 2, 1))
        try:
            await run.open()
            await run.go()
            control = await run.control()
        finally:
            run.close()
    print(f"{cycles} cycles, kills {dict(run.kills)}: {run.verdict}")
    assert control.lost == ("control-1",)  # acknowledged before its COMMIT: the judge can tell
    return run


async def test_nothing_acknowledged_is_lost_when_the_database_and_writers_are_killed(
    tmp_path: Path, seed: int
) -> None:
    if (why := refusal()) is not None:
        pytest.skip(f"no PID namespace here: {why}")
    run = await killed(Namespace, CYCLES, seed, tmp_path)
    assert run.verdict.acknowledged >= 20 * CYCLES
    assert run.audits == 2


async def test_nothing_acknowledged_is_lost_without_a_namespace_either(tmp_path: Path, seed: int) -> None:
    await killed(Tree, 3, seed, tmp_path)
