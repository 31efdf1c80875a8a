"""The books that merchants are at home in, by the settings; made when they are not there."""

from __future__ import annotations

from uuid import UUID

from psycopg import AsyncConnection

from gateway.homes import home_of
from khata.clock import utc_now
from khata.config import Settings
from khata.database import Database
from ledger.books import create_book


async def home_book(database: Database, name: str) -> int:
    """The number of the book of that name."""
    async with await AsyncConnection.connect(database.app_dsn) as conn:
        return await create_book(conn, name=name, now=utc_now())


async def choose_home(
    settings: Settings, database: Database, merchant_id: UUID, name: str | None = None
) -> int:
    """The home book of a new merchant: the one named, else one of ``settings.books`` (``gateway.homes``)."""
    return await home_book(database, name or home_of(merchant_id, settings.books or (settings.book,)))
