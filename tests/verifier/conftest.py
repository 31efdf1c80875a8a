"""Packs of a random book: of all of it, of its first days, of its last ones."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

import pytest
from psycopg import AsyncConnection

from tests.pack.words import pack_of, sealed_book
from tests.server import Server

SEED = 3


@dataclass(frozen=True)
class Packs:
    """Zips. ``later`` begins where ``earlier`` ends."""

    whole: bytes
    earlier: bytes
    later: bytes


@pytest.fixture(scope="session")
def packs(server: Server) -> Packs:
    async def build() -> Packs:
        with server.fresh_database() as database:
            async with await AsyncConnection.connect(database.app_dsn) as conn:
                book = await sealed_book(conn, SEED, batches=8, size=40)
            day = (book.now - timedelta(days=2)).date()
            now, of = book.now, book.book_id
            whole, _ = await pack_of(database, of, now=now, formats=("csv", "parquet"))
            earlier, first = await pack_of(database, of, now=now, until=day)
            later, rest = await pack_of(database, of, now=now, first=day)
        assert 0 < first.journals < first.journals + rest.journals
        return Packs(whole, earlier, later)

    return asyncio.run(build())
