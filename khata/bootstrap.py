"""From a bare PostgreSQL to a database ready to serve: roles, passwords, database, schemas, migrations.

Idempotent, and safe to run from several processes at once (an advisory lock orders them). The administrator
is a superuser, or a role with CREATEROLE and CREATEDB; nothing at run time uses it.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, LiteralString

import psycopg
from psycopg import sql

from khata.config import Settings
from khata.database import Database, EmbeddedServer, with_parts
from khata.errors import KhataError
from khata.migrate import migrate
from khata.secret_file import secrets_for

OWNER, APP, AUDIT, MERCHANT = "khata_owner", "khata_app", "khata_audit", "khata_merchant"
ROLES = (OWNER, APP, AUDIT, MERCHANT)
POSTER = "khata_poster"  # owns ledger.append and runs it; nobody logs in as it
# `khata` holds the list of migrations that have run.
SCHEMAS = ("khata", "ledger", "banks", "gateway", "api", "procrastinate")
OLDEST_VERSION = 150000
LOCK_KEY = 0x6B68617461  # "khata"


class BootstrapError(KhataError):
    """The database cannot be prepared."""

    code: ClassVar[str] = "bootstrap_error"


@dataclass(unsafe_hash=True)
class ServerTooOld(BootstrapError):
    code: ClassVar[str] = "server_too_old"
    version: int

    def __str__(self) -> str:
        return f"PostgreSQL {self.version // 10000} is too old; 15 or later is needed"


@dataclass(unsafe_hash=True)
class RoleTooPowerful(BootstrapError):
    """A run-time role that could pass by privileges, triggers or row-level security."""

    code: ClassVar[str] = "role_too_powerful"
    role: str

    def __str__(self) -> str:
        return f"role {self.role} is a superuser or bypasses row-level security; it must not"


@dataclass(unsafe_hash=True)
class AdministratorTooWeak(BootstrapError):
    code: ClassVar[str] = "administrator_too_weak"
    reason: str

    def __str__(self) -> str:
        return f"the database URL's user needs CREATEROLE and CREATEDB (or superuser): {self.reason}"


@contextmanager
def open_database(settings: Settings) -> Generator[tuple[Database, EmbeddedServer | None]]:
    """The prepared database; its embedded server (None with a URL) runs until the block ends."""
    if settings.database_url is not None:
        yield prepare(settings.database_url, settings.home, settings.database_name), None
        return
    with _embedded(settings) as server:
        yield prepare(server.admin_dsn, settings.home, settings.database_name), server


@contextmanager
def open_server(settings: Settings) -> Generator[str]:
    """The administrator's URL of the server alone; the embedded one runs until the block ends."""
    if settings.database_url is not None:
        yield settings.database_url
        return
    with _embedded(settings) as server:
        yield server.admin_dsn


def _embedded(settings: Settings) -> EmbeddedServer:
    return EmbeddedServer(settings.home, binaries=settings.pg_bin, port=settings.pg_port)


def prepare(admin_dsn: str, home: Path, name: str = "khata") -> Database:
    """Make or complete database ``name`` and return its URLs. Passwords are kept in ``home/secrets.json``.

    Raises ``BootstrapError``; psycopg's ``OperationalError`` if there is no server.
    """
    with psycopg.connect(admin_dsn, autocommit=True) as admin:
        if admin.info.server_version < OLDEST_VERSION:
            raise ServerTooOld(admin.info.server_version)
        admin.execute("SELECT pg_advisory_lock(%s)", [LOCK_KEY])
        passwords = secrets_for(home, ROLES)
        try:
            _ensure_roles(admin, passwords)
            if not _exists(admin, "SELECT 1 FROM pg_database WHERE datname = %s", name):
                create_database(admin, name)
        except psycopg.errors.InsufficientPrivilege as error:
            raise AdministratorTooWeak(str(error)) from error
        database = database_urls(admin_dsn, passwords, name)
        _ensure_logins(admin, database, passwords)
        _ensure_schemas(database)
        migrate(database.owner_dsn)
        return database


def database_urls(admin_dsn: str, passwords: Mapping[str, str], name: str) -> Database:
    """The URLs of database ``name`` on the administrator's server."""

    def url(role: str) -> str:
        return with_parts(admin_dsn, database=name, user=role, password=passwords[role])

    return Database(
        admin_dsn=with_parts(admin_dsn, database=name),
        owner_dsn=url(OWNER),
        app_dsn=url(APP),
        audit_dsn=url(AUDIT),
        merchant_dsn=url(MERCHANT),
    )


def create_database(admin: psycopg.Connection, name: str, template: str = "template0") -> None:
    """A database owned by ``khata_owner`` that only our roles may enter (a template carries no privileges).

    ``admin`` is in autocommit mode.
    """
    database = sql.Identifier(name)
    create = sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {} ENCODING 'UTF8'")
    admin.execute(create.format(database, sql.Identifier(OWNER), sql.Identifier(template)))
    admin.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
    roles = sql.SQL(", ").join(map(sql.Identifier, ROLES))
    admin.execute(sql.SQL("GRANT CONNECT, TEMPORARY ON DATABASE {} TO {}").format(database, roles))


def _ensure_roles(admin: psycopg.Connection, passwords: Mapping[str, str]) -> None:
    for role in ROLES:
        found = admin.execute(
            "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = %s", [role]
        ).fetchone()
        if found is None:
            admin.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
            _set_password(admin, role, passwords[role])
        elif found[0]:
            raise RoleTooPowerful(role)
    if not _exists(admin, "SELECT 1 FROM pg_roles WHERE rolname = %s", POSTER):
        admin.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(POSTER)))
    admin.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(POSTER), sql.Identifier(OWNER)))
    if not _exists(admin, "SELECT 1 FROM pg_roles WHERE rolname = current_user AND rolsuper"):
        # Only a member of the owner may give databases to it.
        admin.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(OWNER)))


def _ensure_logins(admin: psycopg.Connection, database: Database, passwords: Mapping[str, str]) -> None:
    """Set the password of a role that cannot log in with the kept one (a new home on an old server)."""
    urls = (database.owner_dsn, database.app_dsn, database.audit_dsn, database.merchant_dsn)
    for role, url in zip(ROLES, urls, strict=True):
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError:
            _set_password(admin, role, passwords[role])
            psycopg.connect(url).close()


def _set_password(admin: psycopg.Connection, role: str, password: str) -> None:
    """Sends the SCRAM verifier, so that no log of the server can show the password."""
    verifier = admin.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
    statement = sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(verifier))
    admin.execute(statement)


def _ensure_schemas(database: Database) -> None:
    """Schemas, with USAGE for those who run and audit; migrations grant the rest, and to merchants."""
    with psycopg.connect(database.owner_dsn) as owner:
        for name in SCHEMAS:
            schema = sql.Identifier(name)
            owner.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(schema))
            roles = sql.SQL(", ").join(map(sql.Identifier, (APP, AUDIT)))
            owner.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(schema, roles))


def _exists(conn: psycopg.Connection, query: LiteralString, *parameters: str) -> bool:
    return conn.execute(query, parameters).fetchone() is not None
