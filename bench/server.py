"""The one PostgreSQL of a run: an embedded one with a data directory of its own, or ``KHATA_DATABASE_URL``."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from bench.processes import ServerClock
from khata.bootstrap import OWNER, prepare
from khata.config import Settings
from khata.database import Database, EmbeddedServer, with_parts

DATABASE = "khata_bench"


@dataclass(frozen=True)
class BenchServer:
    """``database``: Khata's, and the classic's, called ``name``.

    ``clock`` and ``log``: None when the server is not ours.
    """

    name: str
    database: Database
    home: Path
    clock: ServerClock | None
    log: Path | None = None

    def guest(self, name: str) -> str:
        """The URL of a database for another system, made anew, for its owner."""
        name = f"{self.name}_{name}"
        with psycopg.connect(self.database.admin_dsn, autocommit=True) as admin:
            _drop(admin, name)
            parts = (sql.Identifier(name), sql.Identifier(OWNER))
            admin.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(*parts))
        return with_parts(self.database.owner_dsn, database=name)


@contextmanager
def bench_server(settings: Mapping[str, str] | None = None) -> Generator[BenchServer]:
    """A fresh database, gone after. ``settings``: of the embedded server."""
    url = Settings().database_url
    with tempfile.TemporaryDirectory(prefix="khata-bench-") as directory:
        home = Path(directory)
        home.chmod(0o755)  # the database's own user must be able to enter it
        if url is None:
            with EmbeddedServer(home, settings=settings) as server:
                clock = ServerClock((server.pid,)) if server.pid else None
                database = prepare(server.admin_dsn, home, DATABASE)
                yield BenchServer(DATABASE, database, home, clock, server.place.log)
            return
        name = f"{DATABASE}_{secrets.token_hex(4)}"  # others may measure there too
        home = Settings().home.absolute()
        try:
            yield BenchServer(name, prepare(url, home, name), home, None)
        finally:
            drop_all(url, name)


@contextmanager
def bench_database() -> Generator[Database]:
    """Khata's database alone."""
    with bench_server() as server:
        yield server.database


def drop_all(admin_dsn: str, name: str) -> None:
    """Khata's database and its guests' on a server that stays."""
    with psycopg.connect(admin_dsn, autocommit=True) as admin:
        found = admin.execute("SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [name])
        for (database,) in found.fetchall():
            _drop(admin, database)


def _drop(admin: psycopg.Connection, name: str) -> None:
    admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
