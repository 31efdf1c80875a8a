"""What was recorded is sealed into the books' logs (``ledger.log``), signed by keys that only this home can open."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from psycopg import AsyncConnection

from api.secrets import ApiSecrets
from gateway.core import Gateway
from khata.each_book import each_book
from ledger.log import keys
from ledger.log.leaves import book_name
from ledger.log.note import Verifier
from ledger.log.proofs import last_checkpoint
from ledger.log.seal import Sealed, books_to_seal, seal

_TAKE_TURN = "SELECT pg_try_advisory_xact_lock(hashtext('ledger.seal'), %s)"
OVERLAP = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Sealer:
    """``origin``: what the logs' names begin with, before the books' names (``KHATA_LOG_ORIGIN``)."""

    origin: str
    secrets: ApiSecrets

    async def seal(self, conn: AsyncConnection[Any], book_id: int, *, now: datetime) -> Sealed | None:
        """The next batch of a book; the first one begins its log. None: nothing to do, or another sealer is at it.

        Never commits. Raises ``LogKeyUnusable``.
        """
        turn = await (await conn.execute(_TAKE_TURN, [book_id])).fetchone()
        if turn != (True,):
            return None
        last = await last_checkpoint(conn, book_id)
        at = max(now, last.sealed_at) if last else now  # this host's clock may be behind another's
        ring = await self.keys(conn, book_id, now=at)
        at = max(at, ring.keys[0].signs_from)
        return await seal(conn, book_id, ring.signers(at), at)

    async def keys(self, conn: AsyncConnection[Any], book_id: int, *, now: datetime) -> keys.KeyRing:
        """A book's keys; a log that has none yet gets its first one. Never commits."""
        ring = await keys.open_keys(conn, book_id, self.secrets, now=now)
        if ring.keys:
            return ring
        origin = f"{self.origin}/{await book_name(conn, book_id)}"
        await keys.begin_log(conn, book_id, origin, Ed25519PrivateKey.generate(), self.secrets, now=now)
        return await keys.open_keys(conn, book_id, self.secrets, now=now)

    async def rotate(
        self, conn: AsyncConnection[Any], book_id: int, *, overlap: timedelta, now: datetime
    ) -> Verifier:
        """A new key, endorsed by the last one, which signs for ``overlap`` still. Never commits."""
        await self.keys(conn, book_id, now=now)
        private = Ed25519PrivateKey.generate()
        return await keys.rotate(conn, book_id, private, self.secrets, overlap=overlap, now=now)


async def seal_books(gw: Gateway, sealer: Sealer, limit: int) -> int:
    """A batch of each book that has something to seal, in its own transaction; ``limit`` or more: there is more."""
    return await each_book(gw, "seal", books_to_seal, partial(_seal_one, gw, sealer, limit))


async def _seal_one(gw: Gateway, sealer: Sealer, limit: int, conn: AsyncConnection[Any], book_id: int) -> int:
    sealed = await sealer.seal(conn, book_id, now=gw.clock())
    if sealed is None:
        return 0
    return limit if sealed.more else 1
