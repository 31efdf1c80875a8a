"""What the API stands on, handed in by the wiring."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING
from uuid import UUID

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from api.access import AccessLog
from api.known_accounts import KnownAccounts
from api.limits import RateLimit
from api.log_keys import LogKeys
from api.oauth.keys import KeyRing
from api.oauth.tokens import Authority, TokenVerifier
from api.reads import Reads
from api.secrets import ApiSecrets
from api.streams import Places

if TYPE_CHECKING:
    from api.books import Sight
    from gateway.core import Gateway


@dataclass(frozen=True)
class AppDependencies:
    """``pool``: connections as ``khata_app`` for reading books and keeping clients. ``issuer``: the public URL
    that tokens are issued by and for, without a slash at its end; ``base_url``: where links to pages begin.
    ``book_id``: the book a platform client reads when it names none.

    ``per_second``/``burst``: each client's rate; ``token_per_second``/``token_burst``: each address's at the
    token endpoint; ``stranger_per_second``/``stranger_burst``: each address's without a token. All in this process.

    ``send_s``: how long a caller may take to read a part of an answer; ``stream_s``: to read a whole statement.
    """

    gateway: Gateway
    pool: AsyncConnectionPool
    secrets: ApiSecrets
    issuer: str
    base_url: str
    book_id: int
    clock: Callable[[], datetime]
    per_second: float = 500.0
    burst: int = 1000
    token_per_second: float = 5.0
    token_burst: int = 50
    stranger_per_second: float = 100.0
    stranger_burst: int = 1000
    send_s: float = 30.0
    stream_s: float = 900.0

    @cached_property
    def authority(self) -> Authority:
        return Authority(issuer=self.issuer, audience=self.issuer)

    @cached_property
    def keys(self) -> KeyRing:
        return KeyRing(self.pool, self.secrets, self.clock)

    @cached_property
    def verifier(self) -> TokenVerifier:
        return TokenVerifier(self.keys, self.authority, self.clock)

    @cached_property
    def reads(self) -> Reads:
        """On a connection of its own, as those of the pool are."""
        return Reads(partial(AsyncConnection.connect, str(self.pool.conninfo), autocommit=True))

    @cached_property
    def accounts(self) -> KnownAccounts:
        return KnownAccounts(self.pool)

    @cached_property
    def rate(self) -> RateLimit:
        return RateLimit(per_second=self.per_second, burst=self.burst, clock=self.clock)

    @cached_property
    def token_rate(self) -> RateLimit:
        return RateLimit(per_second=self.token_per_second, burst=self.token_burst, clock=self.clock)

    @cached_property
    def stranger_rate(self) -> RateLimit:
        """Of each address, for what needs no token or comes without a good one."""
        return RateLimit(per_second=self.stranger_per_second, burst=self.stranger_burst, clock=self.clock)

    @cached_property
    def access(self) -> AccessLog:
        return AccessLog(self.pool, self.gateway.ids, self.clock)

    @cached_property
    def log_keys(self) -> LogKeys:
        return LogKeys(self.secrets, self.clock)

    @cached_property
    def exporting(self) -> asyncio.Semaphore:
        """How many exports may stream at a time."""
        return asyncio.Semaphore(3)

    @cached_property
    def documents(self) -> Places:
        """How many statements may be written at a time: each keeps a connection for as long as somebody reads it."""
        return Places(most=4, each=2)

    @cached_property
    def sights(self) -> dict[UUID, Sight]:
        """What each merchant may see, as far as asked for: neither its home book nor its public id ever changes."""
        return {}
