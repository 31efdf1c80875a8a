"""A throw-away database beside the real one, never the real one itself."""

from __future__ import annotations

import secrets
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import psycopg
from psycopg import sql

from khata.bootstrap import prepare
from khata.database import Database
from khata.errors import KhataError

PREFIX = "khata_scratch_"


@dataclass(unsafe_hash=True)
class ScratchRefused(KhataError):
    """The server gives us no throw-away database; nothing was tampered with."""

    code: ClassVar[str] = "scratch_refused"
    reason: str

    def __str__(self) -> str:
        return f"no scratch database could be made, and real books are never tampered with: {self.reason}"


@contextmanager
def scratch_database(admin_dsn: str, home: Path) -> Generator[Database]:
    """A new database of a name nobody has, with every migration applied and no rows; dropped at the end.

    ``admin_dsn`` needs CREATEDB. Raises ``ScratchRefused``.
    """
    name = PREFIX + secrets.token_hex(8)
    try:
        database = prepare(admin_dsn, home, name)
    except (psycopg.Error, KhataError) as error:
        with suppress(psycopg.Error):  # what failed was perhaps the server itself
            _drop(admin_dsn, name)
        raise ScratchRefused(str(error).strip()) from error
    try:
        yield database
    finally:
        _drop(admin_dsn, name)


def _drop(admin_dsn: str, name: str) -> None:
    with psycopg.connect(admin_dsn, autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
