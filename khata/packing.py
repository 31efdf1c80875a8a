"""Makes audit packs and books of them (docs/pack.md): the log's keys, the files and the database put together."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

from psycopg import AsyncConnection, IsolationLevel
from psycopg.errors import LockNotAvailable

from khata.age import Encryptor, decrypt
from khata.database import Database
from khata.errors import KhataError
from khata.sealing import Sealer
from khata.whole import whole_directory, whole_file
from ledger.export.pack import (
    FOLDERS,
    Container,
    Progress,
    Written,
    in_directory,
    in_zip,
    silent,
    write_pack,
    zip_comment,
)
from ledger.import_pack import Imported, Pack, import_pack
from ledger.import_pack.load import Told, nobody
from ledger.log.note import Signer

VERIFIER = Path(__file__).parents[1] / "verifier" / "khata_verify.py"
_WAIT = "SELECT pg_advisory_xact_lock(hashtext('ledger.seal'), %s)"
PATIENCE_S = 60


class SealingStuck(KhataError):
    """Another session keeps the log of a book from being sealed."""

    code = "sealing_stuck"

    def __init__(self, book_id: int) -> None:
        super().__init__(
            f"another session has been sealing book {book_id} for {PATIENCE_S} s: find it and end it"
        )


@dataclass(frozen=True, slots=True)
class Wanted:
    """A pack to write to ``out``: a zip, or a directory where ``folder``. The days ``first`` ≤ day < ``until``."""

    out: Path
    folder: bool = False
    first: date | None = None
    until: date | None = None
    formats: Collection[str] = tuple(FOLDERS)
    passphrase: str | None = None


async def export_pack(
    database: Database,
    sealer: Sealer,
    book_id: int,
    wanted: Wanted,
    *,
    now: datetime,
    progress: Progress = silent,
) -> Written:
    """Seal what is recorded, then write the pack. Nothing stands under its name unless it is whole.

    Raises as ``write_pack``; ``LogKeyUnusable``; ``CannotWrite``.
    """
    signers = await seal_all(database, sealer, book_id, now=now)
    async with await AsyncConnection.connect(database.audit_dsn) as conn:
        await conn.set_isolation_level(IsolationLevel.REPEATABLE_READ)
        await conn.set_read_only(True)
        with _container(wanted, signers) as container:
            return await write_pack(
                *(conn, book_id, container, signers),
                now=now,
                first=wanted.first,
                until=wanted.until,
                formats=wanted.formats,
                progress=progress,
            )


async def seal_all(database: Database, sealer: Sealer, book_id: int, *, now: datetime) -> list[Signer]:
    """Take everything recorded so far into the book's log; the keys that sign for it now. Raises ``SealingStuck``."""
    async with await AsyncConnection.connect(database.app_dsn) as conn:
        more = True
        while more:
            await conn.execute(f"SET LOCAL lock_timeout = {PATIENCE_S * 1000}".encode())
            try:
                await conn.execute(_WAIT, [book_id])  # for another sealer to end, rather than to leave it out
            except LockNotAvailable as error:
                raise SealingStuck(book_id) from error
            sealed = await sealer.seal(conn, book_id, now=now)
            await conn.commit()
            more = sealed is not None and sealed.more
        return await _signers(conn, sealer, book_id, now)


async def _signers(conn: AsyncConnection[Any], sealer: Sealer, book_id: int, now: datetime) -> list[Signer]:
    ring = await sealer.keys(conn, book_id, now=now)
    await conn.commit()
    return ring.signers(max(now, *(key.signs_from for key in ring.keys)))  # this clock may be behind


@contextmanager
def _container(wanted: Wanted, signers: Sequence[Signer]) -> Generator[Container]:
    if wanted.folder:
        with whole_directory(wanted.out) as folder:
            yield in_directory(folder)
        return
    with whole_file(wanted.out) as file:
        if wanted.passphrase is None:
            with in_zip(file, zip_comment(signers)) as container:
                yield container
            return
        encryptor = Encryptor(file, wanted.passphrase)
        with in_zip(encryptor, zip_comment(signers)) as container:
            yield container
        encryptor.close()


async def load_pack(
    database: Database, sealer: Sealer, pack: Pack, *, now: datetime, progress: Told = nobody
) -> Imported:
    """Make the book of a pack that was verified; its log gets a key of this home. Raises as ``import_pack``."""

    async def signers(conn: AsyncConnection[Any], book_id: int) -> list[Signer]:
        return await _signers(conn, sealer, book_id, now)

    async with await AsyncConnection.connect(database.app_dsn) as conn:
        return await import_pack(conn, pack, signers, now=now, progress=progress)


@contextmanager
def decrypted(path: Path, passphrase: str | None) -> Generator[Path]:
    """The pack itself; of an encrypted one a copy that is gone after the block. Raises ``NotDecrypted``."""
    if passphrase is None:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="khata-pack-") as folder:
        copy = Path(folder) / "pack.zip"
        with path.open("rb") as source, copy.open("xb") as plain:
            for chunk in decrypt(source, passphrase):
                plain.write(chunk)
        yield copy


class PackUnproved(KhataError):
    """The verifier refuses the pack; ``said``: what it printed."""

    code = "pack_unproved"

    def __init__(self, said: str) -> None:
        super().__init__(said)


def proved(pack: Path) -> None:
    """Raise ``PackUnproved`` unless the stand-alone verifier finds the pack in order."""
    done = subprocess.run(
        [sys.executable, str(VERIFIER), str(pack)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise PackUnproved((done.stdout + done.stderr).strip())
