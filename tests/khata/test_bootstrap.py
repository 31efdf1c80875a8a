"""Preparing a database: roles, passwords, schemas, migrations."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from khata.bootstrap import ROLES, SCHEMAS, AdministratorTooWeak, RoleTooPowerful, prepare
from khata.database import Database, EmbeddedServer, with_parts
from tests.server import Server, drop_database, embedded, temporary_home

ROOT = Path(__file__).parents[2]


def test_each_role_logs_in_with_its_own_password_and_has_no_power_beyond_its_grants(
    database: Database,
) -> None:
    urls = (database.owner_dsn, database.app_dsn, database.audit_dsn, database.merchant_dsn)
    for role, url in zip(ROLES, urls, strict=True):
        with psycopg.connect(url) as conn:
            row = conn.execute(
                "SELECT current_user, rolsuper, rolcreatedb, rolcreaterole, rolbypassrls"
                " FROM pg_roles WHERE rolname = current_user"
            ).fetchone()
        assert row == (role, False, False, False, False)


def test_schemas_belong_to_the_owner_and_every_migration_has_run(database: Database) -> None:
    with psycopg.connect(database.owner_dsn) as conn:
        owners = dict(
            conn.execute(
                "SELECT nspname, nspowner::regrole::text FROM pg_namespace WHERE nspname = ANY(%s)",
                [list(SCHEMAS)],
            ).fetchall()
        )
        version = conn.execute("SELECT version_num FROM khata.migration").fetchone()
    assert owners == dict.fromkeys(SCHEMAS, "khata_owner")
    newest = max(path.name[:4] for path in (ROOT / "migrations" / "versions").glob("0*.py"))
    assert version == (newest,)


def test_the_application_role_cannot_create_anything(database: Database) -> None:
    with psycopg.connect(database.app_dsn, autocommit=True) as conn:
        for schema in (*SCHEMAS, "public"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                conn.execute(sql.SQL("CREATE TABLE {}.stray (a int)").format(sql.Identifier(schema)))


def test_strangers_may_not_connect(database: Database, server: Server) -> None:
    with psycopg.connect(server.admin_dsn, autocommit=True) as admin:
        admin.execute("CREATE ROLE khata_test_stranger LOGIN PASSWORD 'stranger'")
        try:
            url = with_parts(
                database.admin_dsn,
                database=admin_name(database),
                user="khata_test_stranger",
                password="stranger",
            )
            with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
                psycopg.connect(url)
        finally:
            admin.execute("DROP ROLE khata_test_stranger")


def admin_name(database: Database) -> str:
    return str(psycopg.conninfo.conninfo_to_dict(database.admin_dsn)["dbname"])


def test_preparing_again_changes_nothing(server: Server) -> None:
    home = Path(server.home)
    name = f"{server.template}_twice"
    try:
        first = prepare(server.admin_dsn, home, name)
        before = (home / "secrets.json").read_bytes()
        assert prepare(server.admin_dsn, home, name) == first
        assert (home / "secrets.json").read_bytes() == before
    finally:
        drop_database(server.admin_dsn, name)


def test_passwords_are_kept_where_only_their_user_can_read_them(server: Server) -> None:
    path = Path(server.home) / "secrets.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert set(json.loads(path.read_text())) >= set(ROLES)


@pytest.fixture(scope="module")
def own_server() -> EmbeddedServer:
    """A server whose roles these tests may change."""
    with temporary_home() as home, embedded(home) as server:
        yield server


def test_an_administrator_with_createrole_and_createdb_is_enough(own_server: EmbeddedServer) -> None:
    with psycopg.connect(own_server.admin_dsn, autocommit=True) as admin:
        admin.execute("CREATE ROLE deputy LOGIN CREATEROLE CREATEDB PASSWORD 'deputy'")
    dsn = with_parts(own_server.admin_dsn, database="postgres", user="deputy", password="deputy")
    home = own_server.place.root.parent
    database = prepare(dsn, home)
    assert prepare(dsn, home) == database
    with psycopg.connect(database.app_dsn) as conn:
        assert conn.execute("SELECT current_user").fetchone() == ("khata_app",)


def test_a_new_home_on_an_old_server_sets_the_passwords_anew(
    own_server: EmbeddedServer, tmp_path: Path
) -> None:
    database = prepare(own_server.admin_dsn, tmp_path)
    for url in (database.owner_dsn, database.app_dsn, database.audit_dsn, database.merchant_dsn):
        psycopg.connect(url).close()


def test_an_administrator_without_rights_is_named(own_server: EmbeddedServer, tmp_path: Path) -> None:
    with psycopg.connect(own_server.admin_dsn, autocommit=True) as admin:
        admin.execute("CREATE ROLE weak LOGIN PASSWORD 'weak'")
    dsn = with_parts(own_server.admin_dsn, database="postgres", user="weak", password="weak")
    with pytest.raises(AdministratorTooWeak):
        prepare(dsn, tmp_path, "another")


def test_a_run_time_role_with_too_much_power_is_refused(own_server: EmbeddedServer, tmp_path: Path) -> None:
    with psycopg.connect(own_server.admin_dsn, autocommit=True) as admin:
        admin.execute("ALTER ROLE khata_app BYPASSRLS")
        try:
            with pytest.raises(RoleTooPowerful):
                prepare(own_server.admin_dsn, tmp_path)
        finally:
            admin.execute("ALTER ROLE khata_app NOBYPASSRLS")
