"""Puts a running gateway together: engine, writers, bank rails, vault, clock. Everything ends with its block."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from psycopg import AsyncConnection
from sqlalchemy.ext.asyncio import create_async_engine

from api.secrets import ApiSecrets
from banks.card.connection import Endpoint
from banks.card.rail import CardRail
from gateway.core import Gateway, Policy
from gateway.keys import keys_from_environment, keys_from_file
from gateway.opening import Openings
from gateway.vault import Vault
from khata.clock import utc_now
from khata.config import Settings
from khata.database import Database, sqlalchemy_url
from khata.secret_file import secrets_for
from ledger.ids import Ids
from ledger.transfers import Transfers
from ledger.writer import Writer

MERIDIAN = "meridian"
SILENT_MS = 20_000  # a database host that is gone without a word is given up on


@dataclass
class Writers:
    """The writer of each book, started when it is first asked for."""

    app_dsn: str
    clock: Callable[[], datetime] = utc_now
    by_book: dict[int, Writer] = field(default_factory=dict[int, Writer])

    def __call__(self, book_id: int) -> Writer:
        writer = self.by_book.get(book_id)
        if writer is None:
            connect = partial(AsyncConnection.connect, self.app_dsn, tcp_user_timeout=SILENT_MS)
            writer = Writer(connect, book_id, clock=self.clock)
            writer.start()
            self.by_book[book_id] = writer
        return writer

    async def close(self) -> None:
        for writer in self.by_book.values():
            await writer.close()


@asynccontextmanager
async def open_gateway(settings: Settings, database: Database) -> AsyncGenerator[Gateway]:
    """A gateway as ``khata_app``, its rails connected (or reconnecting: a silent bank does not stop us)."""
    async with AsyncExitStack() as stack:
        engine = create_async_engine(
            sqlalchemy_url(database.app_dsn), pool_size=20, max_overflow=20, pool_pre_ping=True
        )
        stack.push_async_callback(engine.dispose)
        writers = Writers(database.app_dsn)
        stack.push_async_callback(writers.close)
        openings = Openings(partial(AsyncConnection.connect, database.app_dsn, tcp_user_timeout=SILENT_MS))
        stack.push_async_callback(openings.close)
        rail = await stack.enter_async_context(card_rail(settings))
        keys = keys_from_environment(os.environ) or keys_from_file(
            settings.home / "vault-keys.json", os.urandom
        )
        yield Gateway(
            engine=engine,
            writers=writers,
            openings=openings,
            rails={MERIDIAN: rail},
            vault=Vault(keys, random=os.urandom),
            clock=utc_now,
            ids=Ids(utc_now),
            random=os.urandom,
            policy=policy(settings),
        )


@asynccontextmanager
async def open_transfers(database: Database) -> AsyncGenerator[Transfers]:
    """What carries transfers between books, without a gateway."""

    @asynccontextmanager
    async def connect() -> AsyncGenerator[AsyncConnection[Any]]:
        async with await AsyncConnection.connect(database.app_dsn) as conn:
            yield conn

    writers = Writers(database.app_dsn)
    try:
        yield Transfers(writers, connect, Ids(utc_now), utc_now)
    finally:
        await writers.close()


def card_rail(settings: Settings) -> CardRail:
    endpoint = Endpoint(
        settings.acquirer_host, settings.acquirer_port, response_timeout_s=settings.acquirer_timeout_s
    )
    return CardRail(
        MERIDIAN,
        endpoint,
        acquirer=settings.acquirer_id,
        clock=utc_now,
        random=random.SystemRandom().random,
    )


def policy(settings: Settings) -> Policy:
    return Policy(
        lease=timedelta(seconds=settings.lease_s),
        backoff=tuple(timedelta(seconds=s) for s in settings.recovery_backoff_s),
    )


def api_secrets(settings: Settings) -> ApiSecrets:
    """The keys behind client secrets, signing keys and request hashes, from one master secret of this home."""
    master = secrets_for(settings.home, ("api_master",))["api_master"]
    return ApiSecrets.derive(master.encode())
