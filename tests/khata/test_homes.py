"""Home books by the settings: named, or chosen among those configured; and the settings reach every process."""

from __future__ import annotations

from uuid import UUID

import pytest
from psycopg import AsyncConnection

from gateway.homes import home_of
from khata.config import Settings
from khata.database import Database
from khata.homes import choose_home
from khata.stage import environment


async def test_a_home_is_the_book_named_or_one_of_those_configured(database: Database) -> None:
    spread = Settings(books=("north", "south"))
    homes = {UUID(int=n): await choose_home(spread, database, UUID(int=n)) for n in range(12)}
    named = await choose_home(spread, database, UUID(int=1), "east")
    alone = await choose_home(Settings(book="only"), database, UUID(int=1))
    async with await AsyncConnection.connect(database.audit_dsn) as conn:
        books = dict(await (await conn.execute("SELECT book_id, name FROM ledger.book")).fetchall())
    assert {books[home] for home in homes.values()} == {"north", "south"}
    assert all(books[home] == home_of(id_, ("south", "north")) for id_, home in homes.items())
    assert (books[named], books[alone]) == ("east", "only")
    assert len(books) == 4


def test_the_processes_of_a_stage_read_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    given = Settings(books=("main", "second"), recovery_backoff_s=(1.0, 2.5))
    for name, value in environment(given).items():
        monkeypatch.setenv(name, value)
    assert Settings() == given
