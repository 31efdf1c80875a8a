"""Payments begin: key, card, payment, attempt, operation and event of many requests in one statement and one commit.

It is committed before any of them goes on to its bank. Each stands or falls alone: a key that someone else has, or
terms that have changed since they were read, keep one request's rows out and nobody else's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any
from uuid import UUID

import orjson
import psycopg
from psycopg import AsyncConnection

from gateway import store
from gateway.gathered import Gathered
from gateway.model import Payment
from gateway.store import Row

Connect = Callable[[], Awaitable[AsyncConnection[Any]]]

_OPEN = b"SELECT * FROM gateway.open_payments(%(asked)s::jsonb)"


class Opened(Enum):
    """What became of a payment that was to begin. Only what ``STANDS`` was written."""

    STANDS = "stands"
    KEY_TAKEN = "someone else has the request's key"
    STALE = "what it was made by has changed"


@dataclass(frozen=True, slots=True)
class Opening:
    """A payment about to begin. ``terms``: the version of what it was made by. ``key``: its claim of the request's
    key, with the answer if nothing follows. ``card``: the row of a card that is new to the vault.
    """

    payment: Payment
    terms: str
    event: tuple[Row, ...]
    key: tuple[Row, ...] = ()
    card: tuple[Row, ...] = ()

    def as_asked(self) -> dict[str, Any]:
        """As ``gateway.open_payments`` is given it."""
        payment = self.payment
        attempts, operations = store.new_rows(payment)
        return {
            "id": payment.id,
            "merchant_id": payment.merchant_id,
            "currency": payment.currency,
            "terms": self.terms,
            "key": self.key,
            "card": self.card,
            "payment": [store.new_payment_row(payment)],
            "attempt": attempts,
            "operation": operations,
            "event": self.event,
        }


class Openings:
    """``await openings(opening)`` returns once it is durable, or says why it was not written.

    ``connect`` makes a connection as khata_app. Raises ``psycopg.Error``: then it is not known whether it stands.
    """

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._conn: AsyncConnection[Any] | None = None
        self._gathered: Gathered[Opening, Opened] = Gathered(self._open)

    async def __call__(self, opening: Opening) -> Opened:
        return await self._gathered(opening)

    async def close(self) -> None:
        """Write what is queued, then close the connection."""
        await self._gathered.ended()
        await self._drop()

    async def _open(self, openings: Sequence[Opening]) -> list[Opened]:
        asked = orjson.dumps([opening.as_asked() for opening in openings]).decode()
        try:
            stands = await self._run(asked)
        except psycopg.errors.QueryCanceled:
            raise
        except (psycopg.OperationalError, psycopg.InterfaceError):
            # Perhaps a connection that was lost while nobody used it. If the first try stands all the same, its keys
            # are taken: nothing is sent then, and recovery looks after it.
            stands = await self._run(asked)
        outcomes = {True: Opened.STANDS, False: Opened.KEY_TAKEN, None: Opened.STALE}
        return [outcomes[stands.get(opening.payment.id)] for opening in openings]

    async def _run(self, asked: str) -> dict[UUID, bool]:
        if self._conn is None:
            self._conn = await self._connect()
            await self._conn.set_autocommit(True)
        try:
            cursor = await self._conn.execute(_OPEN, {"asked": asked}, prepare=True)
            return dict(await cursor.fetchall())
        except psycopg.errors.IntegrityError:
            raise  # one of them cannot be written; the connection is as good as before
        except BaseException:
            await self._drop()
            raise

    async def _drop(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            await conn.close()
