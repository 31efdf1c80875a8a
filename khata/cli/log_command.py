"""khata log …"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import rich_click as click
from psycopg import AsyncConnection
from rich.table import Table
from rich.text import Text

from khata.cli.common import (
    BookMissing,
    book_option,
    console,
    json_option,
    print_json,
    reading,
    with_database,
)
from khata.clock import utc_now
from khata.config import Settings
from khata.database import Database
from khata.errors import KhataError
from khata.sealing import OVERLAP, Sealer
from khata.wiring import api_secrets
from ledger.books import find_book
from ledger.log import keys, merkle, proofs
from ledger.log.checkpoint import Checkpoint
from ledger.log.note import Note
from ledger.log.proofs import NotInLog


@click.group()
def command() -> None:
    """The transparency log: one signed Merkle tree a book over everything recorded in it (docs/log.md).

    Example: `khata log checkpoint`
    """


@asynccontextmanager
async def _writing(database: Database, book: str | None) -> AsyncGenerator[tuple[AsyncConnection[Any], int]]:
    """As ``khata_app``, which alone may read sealed keys; commits at the end. Raises ``BookMissing``."""
    name = book or Settings().book
    async with await AsyncConnection.connect(database.app_dsn) as conn:
        book_id = await find_book(conn, name)
        if book_id is None:
            raise BookMissing(name)
        yield conn, book_id


def _sealer() -> Sealer:
    settings = Settings()
    return Sealer(settings.log_origin, api_secrets(settings))


@command.command()
@book_option
@json_option
def seal(book: str | None, as_json: bool) -> None:
    """Seal what is recorded and not yet in the log; the worker does it each second.

    Example: `khata log seal --book main`
    """

    async def work(database: Database) -> list[Checkpoint]:
        made: list[Checkpoint] = []
        async with _writing(database, book) as (conn, book_id):
            while sealed := await _sealer().seal(conn, book_id, now=utc_now()):
                await conn.commit()
                made.append(sealed.checkpoint)
        return made

    made = with_database(work)
    if as_json:
        print_json(made)
        return
    for each in made:
        console.print(f"{each.origin} size {each.size} root {each.root.hex()}")
    if not made:
        console.print("nothing to seal")


@command.command()
@click.option(
    "--size", type=click.IntRange(min=1), default=None, help="The first checkpoint of so many leaves."
)
@book_option
@json_option
def checkpoint(size: int | None, book: str | None, as_json: bool) -> None:
    """Print a checkpoint (the last one) as a signed note, with what witnesses added.

    Example: `khata log checkpoint > checkpoint.txt`
    """

    async def work(database: Database) -> tuple[proofs.CheckpointRow, str]:
        async with reading(database, book) as (conn, book_id):
            sealed = await proofs.log_size(conn, book_id)
            found = await proofs.checkpoint_covering(conn, book_id, size or sealed)
            if found is None:
                raise NotInLog(book_id, sealed, f"no checkpoint of size {size}" if size else "no checkpoint")
            return found, await proofs.cosigned(conn, book_id, found)

    found, note = with_database(work)
    if as_json:
        kept = {"size": found.size, "root": found.root, "sealed_at": found.sealed_at, "note": note}
        print_json(kept | {"signed_by": [s.name for s in Note.parse(note).signatures]})
        return
    click.echo(note, nl=False)


@command.command("keys")
@book_option
@json_option
def keys_(book: str | None, as_json: bool) -> None:
    """The keys that sign the log, oldest first, as verifiers take them (vkey).

    Example: `khata log keys --json`
    """

    async def work(database: Database) -> list[keys.LogKey]:
        async with reading(database, book) as (conn, book_id):
            return await keys.load_keys(conn, book_id)

    found = with_database(work)
    if as_json:
        print_json(
            [
                {
                    "vkey": k.verifier.vkey,
                    "from": k.signs_from,
                    "until": k.signs_until,
                    "endorsement": k.endorsement,
                }
                for k in found
            ]
        )
        return
    table = Table("key", "vkey", "signs from", "until")
    for k in found:
        until = f"{k.signs_until:%Y-%m-%d %H:%M:%S}" if k.signs_until else ""
        table.add_row(
            str(k.key), Text(k.verifier.vkey, overflow="fold"), f"{k.signs_from:%Y-%m-%d %H:%M:%S}", until
        )
    console.print(table)


@command.command()
@click.option(
    "--overlap-days",
    type=click.IntRange(0, 3650),
    default=OVERLAP.days,
    show_default=True,
    help="How long the old key goes on signing beside the new one.",
)
@book_option
@json_option
def rotate(overlap_days: int, book: str | None, as_json: bool) -> None:
    """Make a new key for the log, endorsed by the old one, which goes on signing for a while.

    Example: `khata log rotate --overlap-days 30`
    """

    async def work(database: Database) -> str:
        async with _writing(database, book) as (conn, book_id):
            overlap = timedelta(days=overlap_days)
            return (await _sealer().rotate(conn, book_id, overlap=overlap, now=utc_now())).vkey

    vkey = with_database(work)
    if as_json:
        print_json({"vkey": vkey})
        return
    click.echo(vkey)


@dataclass(frozen=True, slots=True)
class Proof:
    """Of inclusion (``index``, ``leaf``) or of consistency (``start``, a size) in the tree of ``size`` leaves."""

    kind: str
    size: int
    root: bytes
    proof: list[bytes]
    index: int | None = None
    leaf: bytes | None = None
    start: int | None = None
    holds: bool = False


class ProofBroken(KhataError):
    """What the log's tables give proves nothing: they were changed (``khata audit`` tells where)."""

    code = "proof_broken"

    def __init__(self, kind: str) -> None:
        super().__init__(f"the log's tables give no proof of {kind}: run `khata audit`")


class JournalMissing(KhataError):
    """The book has no journal of that id."""

    code = "journal_unknown"

    def __init__(self, journal: UUID) -> None:
        super().__init__(
            f"there is no journal {journal} in this book; `khata books journals --json` shows ids"
        )


@command.command()
@click.option("--journal", type=click.UUID, default=None, help="Prove that this journal is in the log.")
@click.option("--index", type=click.IntRange(min=0), default=None, help="Prove that this leaf is in the log.")
@click.option("--from", "start", type=click.IntRange(min=0), default=None, help="Prove that so many leaves …")
@click.option(
    "--size", type=click.IntRange(min=1), default=None, help="… begin the log of so many (default: all)."
)
@book_option
@json_option
def prove(
    journal: UUID | None,
    index: int | None,
    start: int | None,
    size: int | None,
    book: str | None,
    as_json: bool,
) -> None:
    """Print a proof (RFC 9162): that a journal or a leaf is in the log, or that an earlier log begins it.

    Examples: `khata log prove --journal 01a0…`, `khata log prove --from 1000 --json`
    """
    if [journal, index, start].count(None) != 2:
        raise click.UsageError("say what to prove: --journal, --index or --from")

    async def work(database: Database) -> Proof:
        async with reading(database, book) as (conn, book_id):
            to = size or await proofs.log_size(conn, book_id)
            if start is not None:
                return await _consistency(conn, book_id, start, to)
            leaf = await _journal_leaf(conn, book_id, journal) if journal is not None else index
            assert leaf is not None
            return await _inclusion(conn, book_id, leaf, to)

    found = with_database(work)
    if not found.holds:
        raise ProofBroken(found.kind)
    if as_json:
        print_json(found)
        return
    what = f"leaf {found.index}" if found.start is None else f"the first {found.start} leaves"
    console.print(f"{found.kind} of {what} in the tree of {found.size} leaves, root {found.root.hex()}")
    for each in found.proof:
        console.print(each.hex())


async def _journal_leaf(conn: AsyncConnection[Any], book_id: int, journal: UUID) -> int:
    """Where it is in the log. Raises ``JournalMissing``, and ``NotInLog`` when it is not sealed yet."""
    found = await proofs.journal_index(conn, book_id, journal)
    if found is not None:
        return found
    query = "SELECT FROM ledger.journal WHERE book_id = %s AND id = %s"
    if await (await conn.execute(query, [book_id, journal])).fetchone() is None:
        raise JournalMissing(journal)
    sealed = await proofs.log_size(conn, book_id)
    raise NotInLog(book_id, sealed, f"journal {journal} is not sealed yet; `khata log seal` seals it")


async def _inclusion(conn: AsyncConnection[Any], book_id: int, index: int, size: int) -> Proof:
    proof = await proofs.inclusion(conn, book_id, index, size)
    leaf, root = await proofs.leaf(conn, book_id, index), await proofs.root_at(conn, book_id, size)
    holds = merkle.includes(leaf, index, size, proof, root)
    return Proof("inclusion", size, root, proof, index=index, leaf=leaf, holds=holds)


async def _consistency(conn: AsyncConnection[Any], book_id: int, start: int, size: int) -> Proof:
    proof = await proofs.consistency(conn, book_id, start, size)
    old, root = await proofs.root_at(conn, book_id, start), await proofs.root_at(conn, book_id, size)
    holds = merkle.consistent(start, size, old, root, proof)
    return Proof("consistency", size, root, proof, start=start, holds=holds)
