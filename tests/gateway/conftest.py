"""A fresh world for each test: its own database, its own acquirer process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from khata.database import Database
from tests.banks.acquirer import AcquirerProcess
from tests.gateway.world import PATIENT_S, World
from tests.gateway.world import world as make_world

LATE_MS = 2000


@pytest.fixture
def acquirer(tmp_path: Path) -> Iterator[AcquirerProcess]:
    process = AcquirerProcess(tmp_path, ("--late-ms", str(LATE_MS)))
    process.start()
    yield process
    process.stop()


@pytest.fixture
async def world(database: Database, acquirer: AcquirerProcess) -> AsyncIterator[World]:
    async with make_world(database, acquirer) as made:
        yield made


@pytest.fixture
async def patient_world(database: Database, acquirer: AcquirerProcess) -> AsyncIterator[World]:
    async with make_world(database, acquirer, timeout_s=PATIENT_S) as made:
        yield made
