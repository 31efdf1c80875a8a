"""Who may read and run what: merchants see their own rows, functions with the owner's rights take no bait, and no
role becomes another."""

from __future__ import annotations

from typing import Any

import pytest
from psycopg import AsyncConnection

from ledger import model as m
from ledger.books import open_accounts
from tests.attacks.conftest import Scene
from tests.attacks.raw import ARGUMENT, NO_PRIVILEGE, VALUE, Leg, refused
from tests.attacks.test_immutable import sqlstate
from tests.ledger.words import ESCROW, NOW, WALLET

# What a merchant-scoped session may read at all, and the column that says whose a row is.
MERCHANT_READS = {"account": "path", "balance": "account_id", "own_line": "path"}


async def all_rows(conn: AsyncConnection[Any], statement: str) -> list[Any]:
    cursor = await conn.execute(statement)  # type: ignore[arg-type]
    found = await cursor.fetchall()
    await conn.rollback()
    return found


# ---------------------------------------------------------------- reading another owner's rows


async def test_a_merchant_session_without_its_owner_set_reads_nothing(scene: Scene) -> None:
    for setting in (None, "", "nobody", "A", "a ", "%"):
        for table in MERCHANT_READS:
            if setting is not None:
                await scene.merchant.execute("SELECT set_config('khata.owner', %s, true)", [setting])
            assert await all_rows(scene.merchant, f"SELECT * FROM ledger.{table}") == [], (table, setting)


async def test_a_merchant_session_reads_its_owners_rows_and_no_other(scene: Scene) -> None:
    for owner in ("a", "b"):
        own = await all_rows(scene.audit, f"SELECT path FROM ledger.account WHERE owner = '{owner}'")
        for table, column in MERCHANT_READS.items():
            await scene.merchant.execute("SELECT set_config('khata.owner', %s, true)", [owner])
            if table == "balance":
                statement = (
                    "SELECT a.path FROM ledger.balance JOIN ledger.account a USING (book_id, account_id)"
                )
            else:
                statement = f"SELECT {column} FROM ledger.{table}"
            assert set(await all_rows(scene.merchant, statement)) <= set(own), table
    await scene.merchant.execute("SELECT set_config('khata.owner', 'a', true)")
    assert (WALLET,) in await all_rows(scene.merchant, "SELECT path FROM ledger.own_line")


async def test_a_condition_of_the_merchants_own_never_sees_a_foreign_row(scene: Scene) -> None:
    """A cheap function in WHERE would run before the policy, if the policy were no barrier."""
    await scene.merchant.execute(
        "CREATE FUNCTION pg_temp.peek(text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS"
        " $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'XX999', MESSAGE = $1; END $$"
    )
    for table in ("account", "own_line"):
        await scene.merchant.execute("SAVEPOINT s")
        await scene.merchant.execute(f"SELECT * FROM ledger.{table} WHERE pg_temp.peek(path)")  # type: ignore[arg-type]
        await scene.merchant.execute("SELECT set_config('khata.owner', 'b', true)")
        with refused("XX999", "Liabilities:Merchant:b:Pending"):
            await scene.merchant.execute("SELECT * FROM ledger.account WHERE pg_temp.peek(path)")
        await scene.merchant.execute("ROLLBACK TO s")


async def test_row_security_cannot_be_switched_off(scene: Scene) -> None:
    await scene.merchant.execute("SET row_security = off")
    with refused(NO_PRIVILEGE):
        await scene.merchant.execute("SELECT * FROM ledger.account")


# ---------------------------------------------------------------- functions that run as the owner


@pytest.mark.parametrize("type_", ["timestamptz", "date", "text"])
async def test_a_temporary_type_does_not_lend_its_maker_the_owners_rights(scene: Scene, type_: str) -> None:
    """A domain named like a type that the functions use runs its check with their rights, if it is found first."""
    conn = scene.app
    await conn.execute("CREATE TEMP TABLE who (name text)")
    await conn.execute("GRANT ALL ON who TO PUBLIC")
    await conn.execute(
        "CREATE FUNCTION pg_temp.steal(anyelement) RETURNS boolean LANGUAGE plpgsql AS"
        " $$ BEGIN INSERT INTO pg_temp.who VALUES (current_user); RETURN true; END $$"
    )
    await conn.execute(
        f"CREATE DOMAIN pg_temp.{type_} AS pg_catalog.{type_} CHECK (pg_temp.steal(VALUE))"  # type: ignore[arg-type]
    )
    await open_accounts(conn, scene.book_id, [m.NewAccount("Assets:Bank:New", "INR")], now=NOW)
    await conn.execute(
        "SELECT ledger.change_account(%s, %s, NULL, 'open', 'attack', 'attacker', %s)",
        [scene.book_id, await scene.account_id(ESCROW), NOW],
    )
    await conn.commit()
    await (await scene.forge([Leg(WALLET, ESCROW, 1)])).insert(conn)
    await (await scene.forge([Leg(WALLET, ESCROW, 1)])).append(conn)
    cursor = await conn.execute("SELECT * FROM pg_temp.who WHERE name <> 'khata_app'")  # its own casts
    assert await cursor.fetchall() == []


@pytest.mark.parametrize(
    ("call", "values", "state"),
    [
        ("create_book(%s, %s)", [None, NOW], ARGUMENT),
        ("create_book(%s, %s)", ["Robert'); DROP TABLE ledger.journal;--", NOW], VALUE),
        ("create_book(%s, %s)", ["later", "infinity"], VALUE),
        ("create_book(%s, %s)", ["later", None], ARGUMENT),
        ("open_accounts(%s, '{Assets:X}', '{INR}', '{0}', '{a}', %s)", [0, NOW], "KH005"),
        ("open_accounts(%s, '{Assets:X}', '{INR}', '{0}', '{a}', %s)", [None, NOW], "KH005"),
        ("open_accounts(%s, '{Assets:X}', '{INR}', '{0}', '{a}', %s)", ["book", "infinity"], VALUE),
        ("open_accounts(%s, '{Assets:X,Assets:Y}', '{INR}', '{0}', '{a}', %s)", ["book", NOW], ARGUMENT),
        ("open_accounts(%s, '{NULL}', '{INR}', '{0}', '{a}', %s)", ["book", NOW], ARGUMENT),
        ("open_accounts(%s, '{Money:X}', '{INR}', '{0}', '{a}', %s)", ["book", NOW], VALUE),
        ("open_accounts(%s, '{Assets:X:}', '{INR}', '{0}', '{a}', %s)", ["book", NOW], VALUE),
        ("open_accounts(%s, '{Assets:X}', '{inr}', '{0}', '{a}', %s)", ["book", NOW], VALUE),
        ("open_accounts(%s, '{Assets:X}', '{INR}', '{0}', '{\"\"}', %s)", ["book", NOW], VALUE),
        (
            "open_accounts(%s, '{Assets:X}', '{INR}', '{1}', '{a}', %s)",
            ["book", NOW],
            "KH006",
        ),  # a floor above nothing
        ("change_account(%s, 999, NULL, 'open', 'why', 'who', %s)", ["book", NOW], "KH012"),
        ("change_account(%s, NULL, NULL, 'open', 'why', 'who', %s)", ["book", NOW], "KH012"),
        ("change_account(%s, 1, NULL, 'melted', 'why', 'who', %s)", ["book", NOW], VALUE),
        ("change_account(%s, 1, NULL, NULL, 'why', 'who', %s)", ["book", NOW], ARGUMENT),
        ("change_account(%s, 1, NULL, 'open', NULL, 'who', %s)", ["book", NOW], "KH025"),
        ("change_account(%s, 1, NULL, 'closed', 'why', 'who', %s)", ["book", NOW], "KH017"),  # not empty
        (
            "change_account(%s, 1, 10001, 'open', 'why', 'who', %s)",
            ["book", NOW],
            "KH006",
        ),  # above what is available
        ("change_account(%s, 1, NULL, 'open', 'why', 'who', %s)", ["book", "infinity"], VALUE),
    ],
)
async def test_hostile_arguments_are_refused(scene: Scene, call: str, values: list[Any], state: str) -> None:
    given = [scene.book_id if value == "book" else value for value in values]
    with refused(state):
        await scene.app.execute(f"SELECT ledger.{call}", given)  # type: ignore[arg-type]


async def test_a_closed_account_is_never_opened_again(scene: Scene) -> None:
    number = await scene.account_id("Equity:Memo:Issuers")
    change = "SELECT ledger.change_account(%s, %s, NULL, %s, 'attack', 'attacker', now())"
    await scene.app.execute(change, [scene.book_id, number, "closed"])
    with refused("KH012"):
        await scene.app.execute(change, [scene.book_id, number, "open"])


# ---------------------------------------------------------------- becoming someone else


BECOMING = [
    "SET ROLE khata_owner",
    "SET ROLE khata_poster",
    "SET ROLE postgres",
    "SET SESSION AUTHORIZATION khata_poster",
    "SET SESSION AUTHORIZATION khata_owner",
    "SET session_replication_role = replica",
    "ALTER ROLE {role} SUPERUSER",
    "ALTER ROLE {role} BYPASSRLS",
    "GRANT khata_owner TO {role}",
    "GRANT khata_poster TO {role}",
    "ALTER FUNCTION ledger.append SECURITY INVOKER",
    "ALTER TRIGGER journal_appended ON ledger.journal RENAME TO mine",
    "ALTER TABLE ledger.posting DISABLE TRIGGER ALL",
    "ALTER TABLE ledger.balance DROP CONSTRAINT balance_floor",
    "ALTER TABLE ledger.account DISABLE ROW LEVEL SECURITY",
    "ALTER FUNCTION ledger.immutable() RESET ALL",
    "DROP TRIGGER immutable_row ON ledger.posting",
    "DROP TABLE ledger.posting",
    "DROP SCHEMA ledger CASCADE",
    "CREATE TRIGGER mine BEFORE INSERT ON ledger.posting FOR EACH ROW EXECUTE FUNCTION tsvector_update_trigger()",
    "CREATE RULE mine AS ON INSERT TO ledger.journal DO INSTEAD NOTHING",
    "CREATE POLICY mine ON ledger.account USING (true)",
    "CREATE TABLE ledger.mine (x int)",
    "CREATE FUNCTION ledger.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE TABLE public.mine (x int)",
    "COPY ledger.journal TO PROGRAM 'cat'",
    "COPY ledger.journal FROM '/etc/passwd'",
    "LOCK TABLE ledger.book IN ACCESS EXCLUSIVE MODE",
    "LOCK TABLE ledger.journal IN SHARE MODE",
    "REINDEX TABLE ledger.posting",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT setval(c.oid::regclass, 1) FROM pg_class c WHERE relname = 'none' UNION SELECT 1 FROM pg_authid",
]


@pytest.mark.parametrize("role", ["khata_app", "khata_audit", "khata_merchant"])
async def test_no_role_becomes_another_or_changes_the_rules(scene: Scene, role: str) -> None:
    conn = scene.roles()[role]
    for statement in BECOMING:
        outcome = await sqlstate(conn, statement.format(role=role))
        assert outcome == NO_PRIVILEGE, (statement, outcome)


async def test_no_role_at_run_time_is_more_than_a_login(scene: Scene) -> None:
    found = await all_rows(
        scene.owner,
        "SELECT rolname FROM pg_roles WHERE rolname LIKE 'khata%' AND"
        " (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication)",
    )
    assert found == []
    members = "SELECT roleid::regrole::text FROM pg_auth_members WHERE member::regrole::text LIKE 'khata%'"
    # The role of ledger.append: its owner must be a member to have given the function to it.
    assert await all_rows(scene.owner, members) == [("khata_poster",)]
    login = "SELECT rolname FROM pg_roles WHERE rolname = 'khata_poster' AND rolcanlogin"
    assert await all_rows(scene.owner, login) == []
