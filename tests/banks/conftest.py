"""A running acquirer, rails to it, and references that need no database."""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from banks.card.connection import Endpoint
from banks.card.rail import CardRail
from banks.references import BankReference, reference
from tests.banks.acquirer import ACQUIRER_ID, AcquirerProcess

TIMEOUT_S = 1.0  # generous: tests share two cores; only the unanswered wait it out
LATE_MS = 1800

Rail = Callable[..., AbstractAsyncContextManager[CardRail]]
NewReference = Callable[[], BankReference]
_numbers = itertools.count(1)


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def acquirer(tmp_path: Path) -> Iterator[AcquirerProcess]:
    """An acquirer of this test's own."""
    yield from _running(tmp_path)


@pytest.fixture(scope="module")
def shared_acquirer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AcquirerProcess]:
    """An acquirer that tests share which look only at their own references."""
    yield from _running(tmp_path_factory.mktemp("acquirer"))


def _running(home: Path) -> Iterator[AcquirerProcess]:
    process = AcquirerProcess(home, ("--late-ms", str(LATE_MS)))
    process.start()
    yield process
    process.stop()


@pytest.fixture
def rail(acquirer: AcquirerProcess) -> Rail:
    """``async with rail() as card_rail``; keywords change the endpoint."""
    return partial(_connect, acquirer.port)


@pytest.fixture
def shared_rail(shared_acquirer: AcquirerProcess) -> Rail:
    return partial(_connect, shared_acquirer.port)


@asynccontextmanager
async def _connect(port: int, **settings: float) -> AsyncGenerator[CardRail]:
    patience = {"response_timeout_s": TIMEOUT_S, "ready_timeout_s": 5.0, "backoff_first_s": 0.02} | settings
    endpoint = Endpoint("127.0.0.1", port, **patience)  # type: ignore[arg-type]
    chance = random.Random(7)
    async with CardRail(
        "meridian", endpoint, acquirer=ACQUIRER_ID, clock=now, random=chance.random
    ) as card_rail:
        yield card_rail


@pytest.fixture
def new_ref() -> NewReference:
    """References that never come twice in this run, as those of the database never do."""
    return lambda: reference(next(_numbers), now())
