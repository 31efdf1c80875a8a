"""What the database refuses by itself, whatever the code above believes; and who sees which rows."""

from __future__ import annotations

from itertools import product
from typing import Any

import psycopg
import pytest
from psycopg import sql

from gateway import merchants, states, tables
from gateway.fees import FeePlan
from gateway.merchants import NewMerchant
from tests.gateway.world import BANK, World

CHECKED = psycopg.errors.CheckViolation
DENIED = psycopg.errors.InsufficientPrivilege


async def refused(dsn: str, statement: str, error: type[psycopg.Error]) -> None:
    async with await psycopg.AsyncConnection.connect(dsn) as conn:
        with pytest.raises(error):
            await conn.execute(statement)  # type: ignore[arg-type]


BOUNDS = {
    "payment": (
        "captured = 100001",
        "capturing = 1",
        "voiding = 1",
        "refunded = 100001",
        "refunding = 100001",
        "captured = -1",
        "authorized = 99999",
        "status = 'paid'",
        "ended = 'canceled'",
        "version = -1",
    ),
    "attempt": ("state = 'done'",),
    "operation": (
        "state = 'done'",
        "state = 'unknown', unknown_since = NULL, ended_at = NULL",
        "ended_at = NULL",
        "next_check_at = now()",
    ),
    "fund": ("taken = net + 1",),
}


@pytest.mark.parametrize("table", list(BOUNDS))
async def test_amounts_and_states_are_bounded(world: World, table: str) -> None:
    await world.captured()
    for change in BOUNDS[table]:
        await refused(world.database.app_dsn, f"UPDATE gateway.{table} SET {change}", CHECKED)


async def test_facts_cannot_be_changed_by_the_application(world: World) -> None:
    changes = (
        *("payment SET amount = 1", "payment SET merchant_id = merchant_id", "operation SET amount = 1"),
        *("operation SET rrn = '000000000000'", "attempt SET token = ''", "fund SET net = 0"),
        *("refund SET reason = ''", "event SET type = 'a.b'", "vault_card SET sealed = ''"),
        *("idempotency SET request_hash = ''", "merchant SET settlement_days = 0"),
    )
    for change in changes:
        await refused(world.database.app_dsn, f"UPDATE gateway.{change}", DENIED)
    for name in tables.METADATA.tables:
        await refused(world.database.app_dsn, f"DELETE FROM {name}", DENIED)
        await refused(world.database.app_dsn, f"TRUNCATE {name} CASCADE", DENIED)


async def test_a_bank_reference_names_one_operation(world: World) -> None:
    await world.captured()
    copies = (
        "INSERT INTO gateway.operation SELECT gen_random_uuid(), payment_id, attempt_id, merchant_id, 'capture', state,"
        " bank, {}, transmitted_at, amount, target_id, final, authorization_code, response_code, reason, retryable,"
        " conflicted, fee, tax, tries, unknown_since, next_check_at, review, created_at, ended_at"
        " FROM gateway.operation LIMIT 1"
    )
    for columns in ("'999999', rrn", "stan, '999999999999'"):
        await refused(world.database.app_dsn, copies.format(columns), psycopg.errors.UniqueViolation)


@pytest.mark.parametrize(
    ("table", "column", "level"),
    [("operation", "state", "operation"), ("attempt", "state", "attempt"), ("payment", "status", "payment")],
)
async def test_the_database_knows_the_same_closed_list_of_states(
    world: World, table: str, column: str, level: str
) -> None:
    query = (
        "SELECT pg_get_constraintdef(c.oid) FROM pg_constraint c JOIN pg_attribute a"
        " ON a.attrelid = c.conrelid AND c.conkey = ARRAY[a.attnum]"
        " WHERE c.conrelid = to_regclass(%s) AND a.attname = %s AND c.contype = 'c'"
    )
    ((definition,),) = await world.rows(query, f"gateway.{table}", column)
    assert set(definition.split("'")[1::2]) == set(states.states(level))


async def test_the_tables_of_the_code_are_those_of_the_database(world: World) -> None:
    found = await world.rows(
        "SELECT table_name, array_agg(column_name::text ORDER BY column_name) FROM information_schema.columns"
        " WHERE table_schema = 'gateway' GROUP BY 1"
    )
    known = {t.name: sorted(c.name for c in t.columns) for t in tables.METADATA.tables.values()}
    assert {name: sorted(columns) for name, columns in found} == known


READABLE = ("merchant", "fee_plan", "payment", "attempt", "operation", "refund", "release", "fund", "event")


async def _count(dsn: str, table: str, owner: str | None) -> int:
    async with await psycopg.AsyncConnection.connect(dsn) as conn:
        if owner is not None:
            await conn.execute("SELECT set_config('khata.owner', %s, false)", [owner])
        query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier("gateway", table))
        row: Any = await (await conn.execute(query)).fetchone()
        return row[0]


async def test_a_merchants_login_sees_its_own_rows_and_without_a_name_none(world: World) -> None:
    await world.captured()
    plans = {"INR": FeePlan(100)}
    other = await merchants.create_merchant(world.gw, NewMerchant("Other", world.book_id, BANK, plans))
    dsn = world.database.merchant_dsn
    for table in ("merchant", "payment", "attempt", "operation", "fund", "event"):
        assert await _count(dsn, table, world.owner) > 0, table
        assert await _count(dsn, table, None) == 0, table
        assert await _count(dsn, table, "") == 0, table
        assert await _count(dsn, table, "mer_nobody") == 0, table
    assert await _count(dsn, "payment", other.owner) == 0
    assert await _count(dsn, "merchant", other.owner) == 1


async def test_sealed_cards_and_stored_answers_are_the_applications_alone(world: World) -> None:
    for dsn, table in product(
        (world.database.merchant_dsn, world.database.audit_dsn),
        ("vault_card", "idempotency", "checkout_session"),
    ):
        await refused(dsn, f"SELECT * FROM gateway.{table}", DENIED)


async def test_a_merchants_login_and_an_auditors_write_nothing(world: World) -> None:
    for dsn in (world.database.merchant_dsn, world.database.audit_dsn):
        await refused(dsn, "UPDATE gateway.payment SET version = version", DENIED)
        await refused(dsn, "INSERT INTO gateway.event SELECT * FROM gateway.event", DENIED)
