"""A sealed book, packs of it, and what is in them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import date, datetime, timedelta
from random import Random
from typing import Any

import orjson
import psycopg
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from psycopg import AsyncConnection, IsolationLevel

from khata.database import Database
from ledger.export.pack import Written, in_zip, write_pack, zip_comment
from ledger.log.note import Signer
from ledger.log.seal import seal
from tests.ledger.random_books import RandomBook

ORIGIN = "khata.test/main"
PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SIGNER = Signer(ORIGIN, PRIVATE)


async def add_key(conn: AsyncConnection[Any], book_id: int, now: datetime, signer: Signer = SIGNER) -> None:
    await conn.execute(
        "SELECT ledger.add_log_key(%s, 1, %s, %s, %s, %s, NULL, NULL)",
        [book_id, signer.name, signer.verifier.public, b"sealed", now],
    )


async def seal_all(conn: AsyncConnection[Any], book_id: int, now: datetime, signer: Signer = SIGNER) -> None:
    while (sealed := await seal(conn, book_id, [signer], now)) is not None and sealed.more:
        pass
    await conn.commit()


async def sealed_book(
    conn: AsyncConnection[Any],
    seed: int,
    *,
    name: str = "main",
    batches: int = 6,
    size: int = 20,
    most: int = 70,
) -> RandomBook:
    """A random book without transfers, on several days, its log sealed now and then in passes of a few leaves."""
    book = RandomBook(conn, Random(seed))
    await book.open(name)
    await add_key(conn, book.book_id, book.now)
    await book.people()
    for _ in range(batches):
        await book.batch(size)
        if book.random.random() < 0.5:
            await seal(conn, book.book_id, [SIGNER], book.now, most=most)
            await conn.commit()
        if book.random.random() < 0.5:
            book.now += timedelta(days=book.random.choice([1, 3]))
    await seal_all(conn, book.book_id, book.now)
    return book


class _Buffer:
    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: bytes) -> int:
        self.data += data
        return len(data)

    def flush(self) -> None: ...


@asynccontextmanager
async def snapshot(database: Database) -> AsyncGenerator[AsyncConnection[Any]]:
    async with await psycopg.AsyncConnection.connect(database.audit_dsn) as conn:
        await conn.set_isolation_level(IsolationLevel.REPEATABLE_READ)
        await conn.set_read_only(True)
        yield conn


async def pack_of(
    database: Database,
    book_id: int,
    *,
    now: datetime,
    first: date | None = None,
    until: date | None = None,
    formats: tuple[str, ...] = (),
    signer: Signer = SIGNER,
) -> tuple[bytes, Written]:
    """The bytes of a zip, and what is in it."""
    out = _Buffer()
    async with snapshot(database) as conn:
        with in_zip(out, zip_comment([signer])) as container:
            written = await write_pack(
                conn, book_id, container, [signer], now=now, first=first, until=until, formats=formats
            )
    return bytes(out.data), written


def read(pack: bytes, name: str) -> bytes:
    with zipfile.ZipFile(io.BytesIO(pack)) as archive:
        return archive.read(name)


def rows(pack: bytes, name: str) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in read(pack, name).splitlines()]
