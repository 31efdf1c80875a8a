"""Every table, column, view, trigger, constraint and function of the schema, from the catalogue, as every role.

The book is the one of `khata audit --tamper-test`: each table has rows. What each role may do is declared in
``expectations``; everything else must be refused, and whatever is not declared there fails here.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from psycopg import AsyncConnection

from khata.database import Database
from khata.tamper.sample import sample_book
from khata.tamper.schema import Column, Table, tables
from khata.tamper.spans import small_spans
from tests.attacks import tally
from tests.attacks.expectations import RUN, TABLES, VIEWS, WITHHELD, Guard
from tests.attacks.raw import NO_PRIVILEGE

RUN_TIME = ("khata_app", "khata_audit", "khata_merchant")


@dataclass(frozen=True)
class Function:
    name: str
    types: tuple[str, ...]

    @property
    def signature(self) -> str:
        return f"ledger.{self.name}({', '.join(self.types)})"

    @property
    def call(self) -> str:
        return f"SELECT ledger.{self.name}({', '.join(f'NULL::{t}' for t in self.types)})"


@dataclass(frozen=True)
class Schema:
    """As the catalogue has it. ``triggers``, ``constraints`` and ``policies``: (table, name)."""

    tables: list[Table]
    views: dict[str, list[str]]
    functions: list[Function]
    aggregates: list[Function]
    triggers: list[tuple[str, str]]
    constraints: list[tuple[str, str]]
    policies: list[tuple[str, str]]


@pytest.fixture(scope="module")
def attacked(shared_database: Database) -> Database:
    asyncio.run(small_spans(shared_database.owner_dsn))
    asyncio.run(sample_book(shared_database.app_dsn))
    return shared_database


@pytest.fixture
async def roles(attacked: Database) -> AsyncIterator[dict[str, AsyncConnection[Any]]]:
    dsns = (attacked.app_dsn, attacked.audit_dsn, attacked.merchant_dsn, attacked.owner_dsn)
    conns = [await AsyncConnection.connect(dsn) for dsn in dsns]
    yield dict(zip(tally.ROLES, conns, strict=True))
    for conn in conns:
        await conn.close()


@pytest.fixture
async def schema(roles: dict[str, AsyncConnection[Any]]) -> Schema:
    owner = roles["khata_owner"]

    async def pairs(statement: str) -> list[tuple[Any, ...]]:
        return await (await owner.execute(statement.encode())).fetchall()

    in_ledger = "= 'ledger'::regnamespace"
    views: dict[str, list[str]] = {}
    for view, column in await pairs(
        "SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
        f" WHERE relnamespace {in_ledger} AND relkind IN ('v', 'm') AND attnum > 0 ORDER BY 1, attnum"
    ):
        views.setdefault(view, []).append(column)
    functions = (
        "SELECT proname, ARRAY("
        "  SELECT format_type(t, NULL) FROM unnest(proargtypes) WITH ORDINALITY AS a(t, n) ORDER BY n)"
        f" FROM pg_proc WHERE pronamespace {in_ledger} AND prokind {{}} 'a' ORDER BY 1"
    )
    found = Schema(
        await tables(owner),
        views,
        [Function(name, tuple(types)) for name, types in await pairs(functions.format("<>"))],
        [Function(name, tuple(types)) for name, types in await pairs(functions.format("="))],
        await pairs(
            "SELECT relname, tgname FROM pg_trigger JOIN pg_class c ON c.oid = tgrelid"
            f" WHERE relnamespace {in_ledger} AND NOT tgisinternal"
        ),
        await pairs(
            "SELECT relname, conname FROM pg_constraint JOIN pg_class c ON c.oid = conrelid"
            f" WHERE connamespace {in_ledger} AND contype <> 't'"
        ),
        await pairs(
            "SELECT relname, polname FROM pg_policy JOIN pg_class c ON c.oid = polrelid"
            f" WHERE relnamespace {in_ledger}"
        ),
    )
    await owner.rollback()
    return found


async def outcome(conn: AsyncConnection[Any], statement: str) -> str:
    """How the statement ends: a SQLSTATE, or in words that are none. Rolled back either way."""
    try:
        if statement.startswith("COPY"):
            async with conn.cursor() as cursor, cursor.copy(statement.encode()) as copy:
                if statement.endswith("STDOUT"):
                    async for _ in copy:
                        pass
                return "copied"
        cursor = await conn.execute(statement.encode())
        return f"{cursor.rowcount} rows"
    except psycopg.Error as error:
        return error.sqlstate or str(error)
    finally:
        await conn.rollback()


class Attacks:
    """Attempts of one role; ``wrong`` collects those that did not end as they must."""

    def __init__(self, role: str, conn: AsyncConnection[Any]) -> None:
        self.role, self._conn = role, conn
        self.wrong: list[tuple[str, str]] = []
        self.made = 0

    async def refused(self, statement: str, state: str = NO_PRIVILEGE) -> None:
        ended = await outcome(self._conn, statement)
        self.made += 1
        if ended == state:
            tally.count(state, self.role)
        else:
            self.wrong.append((statement, ended))

    async def allowed(self, statement: str) -> None:
        """What the role is there for: it must not be refused for want of privileges."""
        ended = await outcome(self._conn, statement)
        if ended == NO_PRIVILEGE:
            self.wrong.append((statement, ended))


def test_every_table_view_and_function_has_an_expectation(schema: Schema) -> None:
    assert {table.name for table in schema.tables} == TABLES.keys()
    assert schema.views.keys() == VIEWS.keys()
    known = {function.name for function in (*schema.functions, *schema.aggregates)}
    assert RUN["khata_app"] - known == set()


def test_every_refusal_of_the_migrations_is_in_the_list_and_every_one_in_the_list_is_made() -> None:
    assert tally.raised_states() == tally.own_states().keys()


# ---------------------------------------------------------------- rows


def reads(role: str, guard: Guard) -> bool:
    return guard.merchant if role == "khata_merchant" else True


def withheld(role: str, name: str, statement: str) -> bool:
    """A reading of a column, alone or among all, that only the application may see."""
    columns = WITHHELD.get(name, frozenset[str]())
    one = re.fullmatch(r"SELECT (\w+) FROM .*", statement)
    return role != "khata_app" and bool(columns) and (one is None or one[1] in columns)


def may_insert(role: str, guard: Guard, column: str) -> bool:
    return role == "khata_app" and bool(guard.insert & {"*", column})


def readings(name: str, columns: list[str]) -> Iterator[str]:
    yield f"SELECT * FROM ledger.{name}"
    yield (
        f"COPY ledger.{name} TO STDOUT"
        if name not in VIEWS
        else f"COPY (SELECT * FROM ledger.{name}) TO STDOUT"
    )
    for column in columns:
        yield f"SELECT {column} FROM ledger.{name} LIMIT 1"


@pytest.mark.parametrize("role", RUN_TIME)
async def test_a_role_reads_what_it_must_and_nothing_else(
    schema: Schema, roles: dict[str, AsyncConnection[Any]], role: str
) -> None:
    attacks = Attacks(role, roles[role])
    relations = {table.name: [c.name for c in table.columns] for table in schema.tables} | schema.views
    for name, columns in relations.items():
        for statement in readings(name, columns):
            if reads(role, (TABLES | VIEWS)[name]) and not withheld(role, name, statement):
                await attacks.allowed(statement)
            else:
                await attacks.refused(statement)
    assert attacks.wrong == []


def writings(role: str, table: Table, guard: Guard) -> Iterator[str]:
    """Every way to write that the role must not have."""
    name = f"ledger.{table.name}"
    columns = [column.name for column in table.columns if not column.derived]  # those nobody can write: 428C9
    for column in columns:
        if column not in guard.update or role != "khata_app":
            yield f"UPDATE {name} SET {column} = {column}"
            yield f"UPDATE {name} SET {column} = NULL WHERE false"
        if not may_insert(role, guard, column):
            yield f"INSERT INTO {name} ({column}) VALUES (NULL)"
            yield f"INSERT INTO {name} ({column}) VALUES (DEFAULT) ON CONFLICT DO NOTHING"
            yield f"COPY {name} ({column}) FROM STDIN"
    if not may_insert(role, guard, "*"):
        yield f"COPY {name} FROM STDIN"
    if role != "khata_app" or not guard.insert:
        yield f"INSERT INTO {name} DEFAULT VALUES"
    yield f"DELETE FROM {name}"
    yield f"DELETE FROM {name} WHERE false"
    yield f"TRUNCATE {name}"
    yield f"TRUNCATE {name} CASCADE"
    yield f"MERGE INTO {name} t USING (SELECT 1) s ON true WHEN MATCHED THEN DELETE"
    yield f"WITH gone AS (DELETE FROM {name} RETURNING 1) SELECT count(*) FROM gone"
    if not guard.update or role != "khata_app":
        yield f"SELECT * FROM {name} FOR UPDATE"
    yield f"LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE"


@pytest.mark.parametrize("role", RUN_TIME)
async def test_no_role_at_run_time_writes_past_its_privileges(
    schema: Schema, roles: dict[str, AsyncConnection[Any]], role: str
) -> None:
    attacks = Attacks(role, roles[role])
    for table in schema.tables:
        for statement in writings(role, table, TABLES[table.name]):
            await attacks.refused(statement)
    for view in schema.views:
        for statement in (f"DELETE FROM ledger.{view}", f"UPDATE ledger.{view} SET book_id = 1"):
            ended = await outcome(roles[role], statement)
            assert ended in (NO_PRIVILEGE, "55000"), (
                statement,
                ended,
            )  # a union cannot be written through at all
    assert attacks.wrong == []
    assert attacks.made > 500


async def test_its_owner_cannot_change_or_delete_what_is_written(
    schema: Schema, roles: dict[str, AsyncConnection[Any]]
) -> None:
    """The triggers hold for the owner of the tables, too; what is derived its functions must write."""
    attacks = Attacks("khata_owner", roles["khata_owner"])
    for table in schema.tables:
        name = f"ledger.{table.name}"
        await attacks.refused(f"DELETE FROM {name}", "KH010")
        await attacks.refused(f"TRUNCATE {name} CASCADE", "KH010")
        if TABLES[table.name].append_only:
            for column in table.columns:
                await attacks.refused(*changed(name, column))
    assert attacks.wrong == []


def changed(name: str, column: Column) -> tuple[str, str]:
    state = "428C9" if column.derived else "KH010"
    return f"UPDATE {name} SET {column.name} = {column.name}", state


# ---------------------------------------------------------------- the schema itself


def alterations(schema: Schema, role: str) -> Iterator[str]:
    for table in schema.tables:
        name = f"ledger.{table.name}"
        yield f"ALTER TABLE {name} DISABLE TRIGGER ALL"
        yield f"ALTER TABLE {name} DISABLE ROW LEVEL SECURITY"
        yield f"ALTER TABLE {name} ADD COLUMN mine integer"
        yield f"ALTER TABLE {name} RENAME TO mine"
        yield f"ALTER TABLE {name} OWNER TO {role}"
        yield f"ALTER TABLE {name} SET SCHEMA public"
        yield f"DROP TABLE {name} CASCADE"
        yield f"CREATE INDEX mine ON {name} ((1))"
        yield f"CREATE RULE mine AS ON INSERT TO {name} DO INSTEAD NOTHING"
        yield f"CREATE POLICY mine ON {name} USING (true)"
        yield (
            f"CREATE TRIGGER mine BEFORE INSERT ON {name} FOR EACH ROW"
            " EXECUTE FUNCTION suppress_redundant_updates_trigger()"
        )
        yield f"COMMENT ON TABLE {name} IS 'mine'"
        for column in table.columns:
            yield f"ALTER TABLE {name} ALTER {column.name} DROP NOT NULL"
            yield f"ALTER TABLE {name} DROP COLUMN {column.name}"
    for table, trigger in schema.triggers:
        yield f"DROP TRIGGER {trigger} ON ledger.{table}"
        yield f"ALTER TABLE ledger.{table} DISABLE TRIGGER {trigger}"
    for table, constraint in schema.constraints:
        yield f"ALTER TABLE ledger.{table} DROP CONSTRAINT {constraint}"
    for table, policy in schema.policies:
        yield f"DROP POLICY {policy} ON ledger.{table}"
    for view in schema.views:
        yield f"DROP VIEW ledger.{view}"
        yield f"ALTER VIEW ledger.{view} SET (security_barrier = false)"
    for function in schema.functions:
        yield f"DROP FUNCTION {function.signature}"
        yield f"ALTER FUNCTION {function.signature} RESET ALL"
        yield f"ALTER FUNCTION {function.signature} OWNER TO {role}"


@pytest.mark.parametrize("role", RUN_TIME)
async def test_no_role_at_run_time_alters_the_schema(
    schema: Schema, roles: dict[str, AsyncConnection[Any]], role: str
) -> None:
    attacks = Attacks(role, roles[role])
    for statement in alterations(schema, role):
        await attacks.refused(statement)
    assert attacks.wrong == []
    assert attacks.made > 300


@pytest.mark.parametrize("role", RUN_TIME)
async def test_a_role_runs_the_functions_made_for_it_and_no_other(
    schema: Schema, roles: dict[str, AsyncConnection[Any]], role: str
) -> None:
    attacks = Attacks(role, roles[role])
    for function in (*schema.functions, *schema.aggregates):
        if function.name in RUN[role]:
            await attacks.allowed(function.call)
        else:
            await attacks.refused(function.call)
    assert attacks.wrong == []


async def test_functions_with_the_owners_rights_fix_their_search_path(
    roles: dict[str, AsyncConnection[Any]],
) -> None:
    """Temporary objects last: unnamed they come first, and a caller's own type would run its checks as the owner."""
    cursor = await roles["khata_owner"].execute(
        "SELECT proname, proconfig FROM pg_proc WHERE pronamespace = 'ledger'::regnamespace AND prosecdef"
    )
    loose = [name for name, config in await cursor.fetchall() if PATH not in (config or [])]
    assert loose == []


PATH = "search_path=pg_catalog, pg_temp"
