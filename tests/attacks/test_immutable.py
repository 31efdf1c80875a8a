"""Ways to change what is written that are not plain statements on a table (those are generated: test_generated.py)."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import AsyncConnection

from tests.attacks import tally
from tests.attacks.conftest import Scene
from tests.attacks.raw import NO_PRIVILEGE


async def sqlstate(conn: AsyncConnection[Any], statement: str) -> str | None:
    """How the statement is refused; None if it is not. Rolled back either way."""
    try:
        cursor = await conn.execute(statement)  # type: ignore[arg-type]
        return None if cursor.rowcount else "no rows"
    except psycopg.Error as error:
        tally.count(error.sqlstate or "", conn.info.user)
        return error.sqlstate
    finally:
        await conn.rollback()


async def test_the_head_is_moved_by_journals_alone_also_by_the_owner(scene: Scene) -> None:
    for change in ("head = head + 1", "head = head - 1", "head = 0"):
        assert (
            await sqlstate(scene.owner, f"UPDATE ledger.book SET {change} WHERE book_id = {scene.book_id}")
            == "KH001"
        )
    assert await sqlstate(scene.app, "UPDATE ledger.book SET head = head + 1") == NO_PRIVILEGE


async def test_an_upsert_does_not_get_around_missing_privileges(scene: Scene) -> None:
    for table, key in (("journal", "book_id, seq"), ("posting", "book_id, journal_seq, line")):
        column = key.split(", ")[1]
        statement = (
            f"INSERT INTO ledger.{table} SELECT * FROM ledger.{table}"
            f" ON CONFLICT ({key}) DO UPDATE SET {column} = excluded.{column}"
        )
        assert await sqlstate(scene.app, statement) == NO_PRIVILEGE
    # Copying what stands is a reuse of numbers, not a second copy.
    assert await sqlstate(scene.app, "INSERT INTO ledger.journal SELECT * FROM ledger.journal") == "23505"
    assert await sqlstate(scene.app, "INSERT INTO ledger.posting SELECT * FROM ledger.posting") == "23505"
