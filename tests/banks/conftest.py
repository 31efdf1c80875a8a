"""A running acquirer, rails to it, and references that need no database."""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from banks.card.connection import Endpoint
from banks.card.rail import CardRail
from banks.references import BankReference, reference
from tests.banks.acquirer import ACQUIRER_ID, AcquirerProcess

LATE_MS = 900
TIMEOUT_S = 0.5

Rail = Callable[..., AbstractAsyncContextManager[CardRail]]
NewReference = Callable[[], BankReference]


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def acquirer(tmp_path: Path) -> Iterator[AcquirerProcess]:
    process = AcquirerProcess(tmp_path, ("--late-ms", str(LATE_MS)))
    process.start()
    yield process
    process.stop()


@pytest.fixture
def rail(acquirer: AcquirerProcess) -> Rail:
    """``async with rail() as card_rail``; keywords change the endpoint."""

    @asynccontextmanager
    async def connect(**settings: float) -> AsyncIterator[CardRail]:
        patience = {
            "response_timeout_s": TIMEOUT_S,
            "ready_timeout_s": 3.0,
            "backoff_first_s": 0.02,
        } | settings
        endpoint = Endpoint("127.0.0.1", acquirer.port, **patience)  # type: ignore[arg-type]
        chance = random.Random(7)
        async with CardRail(
            "meridian", endpoint, acquirer=ACQUIRER_ID, clock=now, random=chance.random
        ) as card_rail:
            yield card_rail

    return connect


@pytest.fixture
def new_ref() -> NewReference:
    numbers = itertools.count(1)
    return lambda: reference(next(numbers), now())
