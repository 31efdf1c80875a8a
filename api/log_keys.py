"""The keys of the books' logs, opened for signing receipts and remembered for a minute at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from psycopg import AsyncConnection

from api.errors import LogNotBegun
from api.secrets import ApiSecrets
from ledger.log.keys import KeyRing, open_keys
from ledger.log.note import Signer

_REFRESH = timedelta(minutes=1)


class LogKeys:
    def __init__(self, secrets: ApiSecrets, clock: Callable[[], datetime]) -> None:
        self._secrets = secrets
        self._clock = clock
        self._known: dict[int, tuple[datetime, KeyRing]] = {}

    async def signers(self, conn: AsyncConnection[Any], book_id: int) -> Sequence[Signer]:
        """The keys that sign for a book's log now. Raises ``LogNotBegun`` and ``LogKeyUnusable``."""
        now = self._clock()
        loaded_at, ring = self._known.get(book_id, (now - _REFRESH, None))
        if ring is None or now - loaded_at >= _REFRESH or not ring.signers(now):
            ring = await open_keys(conn, book_id, self._secrets, now=now)
            if not ring.signers(now):
                raise LogNotBegun
            self._known[book_id] = (now, ring)
        return ring.signers(now)
