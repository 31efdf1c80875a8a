"""Nothing written is changed: every column of every table, as every role. The list comes from the catalogue, so
a new table or column is attacked without anyone thinking of it."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg import AsyncConnection

from tests.attacks.conftest import Scene
from tests.attacks.raw import NO_PRIVILEGE

# Append-only for everyone, its owner included; the rest is derived, and its owner's functions must write it.
APPEND_ONLY = ("account", "account_fact", "journal", "posting")
DERIVED = ("balance", "book", "hold")
# Taking the book's lock is a write: the one column the application may set (and never back).
ALLOWED = {("khata_app", "book", "recorded_at")}
# What a role may insert at all; the guards behind that are the other files' subject.
INSERTABLE = {("khata_app", "journal"), ("khata_app", "posting"), ("khata_app", "hold")}


async def columns(scene: Scene) -> list[tuple[str, str]]:
    cursor = await scene.owner.execute(
        "SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
        " WHERE c.relnamespace = 'ledger'::regnamespace AND c.relkind IN ('r', 'p') AND a.attnum > 0"
        " AND NOT a.attisdropped AND a.attgenerated = '' ORDER BY 1, a.attnum"
    )
    found = [(table, column) for table, column in await cursor.fetchall()]
    await scene.owner.rollback()
    return found


async def sqlstate(conn: AsyncConnection[Any], statement: str) -> str | None:
    """How the statement is refused; None if it is not. Rolled back either way."""
    try:
        cursor = await conn.execute(statement)  # type: ignore[arg-type]
        return None if cursor.rowcount else "no rows"
    except psycopg.Error as error:
        return error.sqlstate
    finally:
        await conn.rollback()


async def test_the_tables_of_the_ledger_are_the_ones_attacked_here(scene: Scene) -> None:
    assert {table for table, _ in await columns(scene)} == {*APPEND_ONLY, *DERIVED}


@pytest.mark.parametrize("role", ["khata_app", "khata_audit", "khata_merchant"])
async def test_no_role_at_run_time_updates_any_column_of_any_table(scene: Scene, role: str) -> None:
    conn = scene.roles()[role]
    outcomes = {
        (role, table, column): await sqlstate(conn, f"UPDATE ledger.{table} SET {column} = {column}")
        for table, column in await columns(scene)
    }
    assert {key for key, state in outcomes.items() if state != NO_PRIVILEGE} == {
        k for k in ALLOWED if k[0] == role
    }


@pytest.mark.parametrize("role", ["khata_app", "khata_audit", "khata_merchant"])
async def test_no_role_at_run_time_deletes_truncates_or_inserts_what_it_may_not(
    scene: Scene, role: str
) -> None:
    conn, known = scene.roles()[role], await columns(scene)
    for table in (*APPEND_ONLY, *DERIVED):
        assert await sqlstate(conn, f"DELETE FROM ledger.{table}") == NO_PRIVILEGE, table
        assert await sqlstate(conn, f"TRUNCATE ledger.{table}") == NO_PRIVILEGE, table
        assert await sqlstate(conn, f"TRUNCATE ledger.{table} CASCADE") == NO_PRIVILEGE, table
        names = ", ".join(column for of_table, column in known if of_table == table)
        copy = f"INSERT INTO ledger.{table} ({names}) SELECT {names} FROM ledger.{table}"
        merge = f"MERGE INTO ledger.{table} t USING ledger.{table} s ON t.book_id = s.book_id WHEN MATCHED THEN DELETE"
        assert await sqlstate(conn, merge) == NO_PRIVILEGE, table
        if (role, table) not in INSERTABLE:
            assert await sqlstate(conn, copy) == NO_PRIVILEGE, table


async def test_the_owner_itself_cannot_update_or_delete_history(scene: Scene) -> None:
    for table, column in await columns(scene):
        if table in APPEND_ONLY:
            assert await sqlstate(scene.owner, f"UPDATE ledger.{table} SET {column} = {column}") == "KH010", (
                table,
                column,
            )
    for table in APPEND_ONLY:
        assert await sqlstate(scene.owner, f"DELETE FROM ledger.{table}") == "KH010", table


async def test_the_owner_itself_cannot_delete_or_truncate_any_table(scene: Scene) -> None:
    for table in (*APPEND_ONLY, *DERIVED):
        assert await sqlstate(scene.owner, f"TRUNCATE ledger.{table} CASCADE") == "KH010", table
    for table in DERIVED:
        assert await sqlstate(scene.owner, f"DELETE FROM ledger.{table}") == "KH010", table


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
