"""Whose each account is, kept in memory: an account's path, currency and owner never change once it is open (the
database refuses it), so what was read once stays true. Nothing is kept of accounts that are not there: they may come.
"""

from __future__ import annotations

from collections import OrderedDict

from psycopg_pool import AsyncConnectionPool

from ledger import read
from ledger.errors import AccountUnknown

_MOST = 100_000  # some 30 MB

Key = tuple[int, str, str]


class KnownAccounts:
    """Of the accounts asked for most recently, at most ``most``."""

    def __init__(self, pool: AsyncConnectionPool, most: int = _MOST) -> None:
        self._pool = pool
        self._most = most
        self._owners: OrderedDict[Key, str | None] = OrderedDict()

    async def owner_of(self, book_id: int, path: str, currency: str) -> str | None:
        """None: the platform's. Raises ``AccountUnknown``."""
        key = (book_id, path, currency)
        if key in self._owners:
            self._owners.move_to_end(key)
            return self._owners[key]
        async with self._pool.connection() as conn:
            found = await read.balance(conn, book_id, path, currency)
        if found is None:
            raise AccountUnknown(path, currency)
        self._owners[key] = found.owner
        if len(self._owners) > self._most:
            self._owners.popitem(last=False)
        return found.owner
