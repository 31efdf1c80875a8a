"""The test session's PostgreSQL: one server, one migrated template, databases cloned from it.

Environment: ``KHATA_DATABASE_URL`` uses that server instead of an embedded one; ``KHATA_TEST_PG_BIN`` runs
the embedded one from another bin directory (PostgreSQL 15 to 18).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from khata.bootstrap import ROLES, create_database, database_urls, prepare
from khata.config import Settings
from khata.database import Database, EmbeddedServer
from khata.secret_file import secrets_for

# Nothing here outlives the session; tests that kill a database start their own, durable one. A batch that waits for a
# millisecond at most (``ledger.append``) is taken for part of a deadlock where the machine stood still for as long as
# deadlock_timeout: so that is longer, and still shorter than the 5 s after which ``append`` waits for nobody.
FAST = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "128MB", "deadlock_timeout": "4s"}


@dataclass(frozen=True)
class Server:
    """What a test process needs to make databases: plain strings, which xdist can hand to its workers."""

    admin_dsn: str
    home: str
    template: str

    @contextlib.contextmanager
    def fresh_database(self) -> Iterator[Database]:
        """A database with every migration applied and no rows, dropped at the end of the block."""
        name = f"{self.template}_{secrets.token_hex(4)}"
        with psycopg.connect(self.admin_dsn, autocommit=True) as admin:
            create_database(admin, name, self.template)
        try:
            yield database_urls(self.admin_dsn, secrets_for(Path(self.home), ROLES), name)
        finally:
            drop_database(self.admin_dsn, name)


@contextlib.contextmanager
def session_server() -> Iterator[Server]:
    """The server of this test session with its template; gone at the end."""
    template = f"khata_test_{secrets.token_hex(4)}"
    url = Settings().database_url
    if url is not None:
        # The home's own passwords: a Khata running from this checkout on that server goes on working.
        home = Settings().home.absolute()
        prepare(url, home, template)
        try:
            yield Server(url, str(home), template)
        finally:
            drop_database(url, template)
        return
    with temporary_home() as home, embedded(home) as server:
        prepare(server.admin_dsn, home, template)
        yield Server(server.admin_dsn, str(home), template)


def embedded(home: Path) -> EmbeddedServer:
    binaries = os.environ.get("KHATA_TEST_PG_BIN")
    return EmbeddedServer(home, binaries=Path(binaries) if binaries else None, settings=FAST)


@contextlib.contextmanager
def temporary_home() -> Iterator[Path]:
    """A home that the database's user can enter (pytest's own temporary directories are closed to others)."""
    home = Path(tempfile.mkdtemp(prefix="khata-test-"))
    home.chmod(0o755)
    try:
        yield home
    finally:
        shutil.rmtree(home)


def drop_database(admin_dsn: str, name: str) -> None:
    with psycopg.connect(admin_dsn, autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
