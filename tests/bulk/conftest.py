from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from khata.database import Database
from tests.bulk.desk import Desk, opened


@pytest.fixture
async def desk(shared_database: Database) -> AsyncIterator[Desk]:
    async with opened(shared_database) as desk:
        yield desk
