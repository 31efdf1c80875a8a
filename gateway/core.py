"""What every use case of the gateway is handed: database, books, banks, vault, time, ids and policy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID
from weakref import WeakValueDictionary

from psycopg import AsyncConnection as PsycopgConnection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from banks.card.rail import CardRail
from banks.references import Numbers
from gateway.errors import BankUnavailable
from gateway.opening import Openings
from gateway.vault import Vault
from ledger.writer import Writer

if TYPE_CHECKING:
    from gateway.terms import Terms

PRODUCTION_BACKOFF = tuple(timedelta(seconds=s) for s in (30, 120, 300, 900, 3600))


@dataclass(frozen=True, slots=True)
class Policy:
    """Times and limits. ``lease``: how long an operation belongs to who sends it, longer than any bank's time-out;
    ``backoff``: the pauses between checks of an unknown outcome, then the review queue.
    """

    lease: timedelta = timedelta(seconds=60)
    backoff: tuple[timedelta, ...] = PRODUCTION_BACKOFF
    hold_valid: timedelta = timedelta(days=7)
    payment_valid: timedelta = timedelta(hours=24)
    session_valid: timedelta = timedelta(minutes=30)
    max_attempts: int = 5

    def pause(self, tries: int) -> timedelta:
        """How long to wait after the ``tries``-th try, counted from 1."""
        return self.backoff[min(tries, len(self.backoff)) - 1]

    def exhausted(self, tries: int) -> bool:
        return tries > len(self.backoff)


@dataclass(frozen=True)
class Gateway:
    """``engine`` connects as khata_app; ``writers`` gives the writer of a book, ``openings`` begins payments;
    ``rails`` are by bank code.

    ``random(n)``: n random bytes fit for secrets.
    """

    engine: AsyncEngine
    writers: Callable[[int], Writer]
    openings: Openings
    rails: Mapping[str, CardRail]
    vault: Vault
    clock: Callable[[], datetime]
    ids: Callable[[], UUID]
    random: Callable[[int], bytes]
    policy: Policy = Policy()
    known_terms: dict[tuple[UUID, str], Terms] = field(
        default_factory=dict["tuple[UUID, str]", "Terms"], repr=False, compare=False
    )
    numbers: Numbers = field(default_factory=Numbers, repr=False, compare=False)
    _locks: WeakValueDictionary[UUID, asyncio.Lock] = field(
        default_factory=WeakValueDictionary[UUID, asyncio.Lock], repr=False, compare=False
    )

    def rail(self, bank: str) -> CardRail:
        rail = self.rails.get(bank)
        if rail is None:
            raise BankUnavailable(bank)
        return rail

    def turn(self, payment_id: UUID) -> asyncio.Lock:
        """Whose turn it is to book for this payment in this process.

        Spares retries only; that two never book at once is the version's doing (``gateway.store``).
        """
        return self._locks.setdefault(payment_id, asyncio.Lock())


async def driver(conn: AsyncConnection) -> PsycopgConnection[Any]:
    """The psycopg connection beneath, in the same transaction."""
    connection = (await conn.get_raw_connection()).driver_connection
    assert isinstance(connection, PsycopgConnection)
    return connection
