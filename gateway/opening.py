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
from ledger import wire

_Asked = tuple[UUID, bytes]  # the payment's id, and what is asked as JSON
Connect = Callable[[], Awaitable[AsyncConnection[Any]]]

_OPEN, _NAME = b"SELECT payment_id, stands FROM gateway.open_payments($1)", b"open_payments"
_JSONB, _JSONB_VERSION, _TRUE = 3802, b"\x01", b"\x01"  # type and forms in PostgreSQL's binary format


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
        about_one = (psycopg.IntegrityError, psycopg.DataError)
        self._gathered: Gathered[_Asked, Opened] = Gathered(self._open, about_one=about_one)

    async def __call__(self, opening: Opening) -> Opened:
        return await self._gathered((opening.payment.id, orjson.dumps(opening.as_asked())))

    async def close(self) -> None:
        """Write what is queued, then close the connection."""
        await self._gathered.ended()
        await self._drop()

    async def _open(self, openings: Sequence[_Asked]) -> list[Opened]:
        asked = b"[" + b",".join([asked for _, asked in openings]) + b"]"
        try:
            stands = await self._run(asked)
        except psycopg.errors.QueryCanceled:
            raise
        except (psycopg.OperationalError, psycopg.InterfaceError):
            # Perhaps a connection that was lost while nobody used it. If the first try stands all the same, its keys
            # are taken: nothing is sent then, and recovery looks after it.
            stands = await self._run(asked)
        outcomes = {True: Opened.STANDS, False: Opened.KEY_TAKEN, None: Opened.STALE}
        return [outcomes[stands.get(payment_id)] for payment_id, _ in openings]

    async def _run(self, asked: bytes) -> dict[UUID, bool]:
        """The payments whose terms are as they were, and whether each stands."""
        try:
            conn = self._conn or await self._prepared()
            made = await wire.execute(conn, _NAME, [_JSONB_VERSION + asked])
        except (psycopg.IntegrityError, psycopg.DataError):
            raise  # one of them cannot be written; the connection is as good as before
        except BaseException:
            await self._drop()
            raise
        rows = [(made.get_value(n, 0), made.get_value(n, 1)) for n in range(made.ntuples)]
        return {UUID(bytes=id): stands == _TRUE for id, stands in rows if id is not None}

    async def _prepared(self) -> AsyncConnection[Any]:
        conn = self._conn = await self._connect()
        await conn.set_autocommit(True)
        await wire.prepare(conn, _NAME, _OPEN, [_JSONB])
        return conn

    async def _drop(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            await conn.close()
