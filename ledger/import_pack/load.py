"""Posts what a pack holds, entry by entry, and seals it run by run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import orjson
from psycopg import AsyncConnection

from ledger.books import create_book, open_accounts
from ledger.canonical import rfc3339
from ledger.errors import LedgerError, Refusal
from ledger.import_pack import entries
from ledger.import_pack.entries import Acts
from ledger.import_pack.errors import BookNotEmpty, ImportDiffers, NotImportable
from ledger.import_pack.order import Entry, in_order
from ledger.import_pack.source import FILES, Pack, lines, manifest, runs
from ledger.log.checkpoint import Checkpoint
from ledger.log.leaves import SOURCES, Run, read_entries, stored_hashes
from ledger.log.leaves import runs as sealed_runs
from ledger.log.note import Signer
from ledger.log.seal import fill
from ledger.log.tiles import read_edge, root_of_edge
from ledger.model import Unit
from ledger.post import post

MOST = 500  # journals of one instant that are posted together
_COMMIT_AFTER = 500
"""Batches in one transaction: each takes a lock of its own until it ends."""
_PAGE = 1000
_TRANSFERS = tuple(b'"kind":"transfer_%b"' % end for end in (b"sent", b"received", b"returned"))
_POSITION = """
SELECT recorded_at, accounts, acts, head,
       coalesce((SELECT max(size) FROM ledger.checkpoint c WHERE c.book_id = b.book_id), 0)
  FROM ledger.book b WHERE book_id = %s"""
_LAST = "SELECT root, sealed_at FROM ledger.checkpoint WHERE book_id = %s ORDER BY size DESC LIMIT 1"
_SEAL = "SELECT ledger.seal(%s, %s, %s::integer, %s, %s, %b, %b, %b, %b, %s, %s)"

Signers = Callable[[AsyncConnection[Any], int], Awaitable[Sequence[Signer]]]

Told = Callable[[int], None]
"""Told how many journals were posted since the last time."""


def nobody(journals: int) -> None:
    """No progress."""


@dataclass(frozen=True, slots=True)
class Imported:
    """``journals``: that were posted now; 0: it had been imported before. ``root``: of ``size`` leaves, the pack's."""

    book: str
    book_id: int
    journals: int
    size: int
    root: bytes


async def import_pack(
    conn: AsyncConnection[Any],
    pack: Pack,
    signers: Signers,
    *,
    now: datetime,
    progress: Told = nobody,
) -> Imported:
    """Make the book of a pack that the verifier has found in order; commits as it goes, goes on where it was stopped.

    ``conn``: of its own, as the application. ``signers``: awaited for the new log's keys, by book. Raises
    ``NotImportable``, ``BookNotEmpty`` (before anything is changed), ``ImportDiffers``.
    """
    said = manifest(pack)
    _check_form(pack, said)
    [first] = islice(in_order(pack), 1)
    book_id = await create_book(conn, name=said["book"], now=datetime.fromisoformat(first.at))
    await conn.commit()
    # Nobody else seals it meanwhile: the log must take its entries in the pack's order.
    await conn.execute("SELECT pg_advisory_lock(hashtext('ledger.seal'), %s)", [book_id])
    try:
        loading = await _begin(conn, book_id, said["book"], pack, first.at)
        await conn.commit()
        loading.sealing = _Sealing(conn, book_id, await signers(conn, book_id), now)
        await loading.all(pack, progress)
        root = await loading.sealing.root()
        if root.hex() != said["root"] or loading.size != said["to_index"]:
            raise ImportDiffers(f"the log of {loading.size} leaves", root.hex(), said["root"])
        return Imported(said["book"], book_id, loading.posted, loading.size, root)
    finally:
        await conn.rollback()
        await conn.execute("SELECT pg_advisory_unlock(hashtext('ledger.seal'), %s)", [book_id])
        await conn.commit()


def _check_form(pack: Pack, said: dict[str, Any]) -> None:
    if said["from_index"] != 0:
        raise NotImportable(f"the pack begins at leaf {said['from_index']}: a book is made of a whole log")
    for number, line in enumerate(lines(pack, FILES["journal"]), start=1):
        if any(kind in line for kind in _TRANSFERS):
            raise NotImportable(
                f"journal {number} is of a transfer between books: the other book's part is not in the pack"
            )


async def _begin(conn: AsyncConnection[Any], book_id: int, book: str, pack: Pack, first_at: str) -> _Loading:
    """Where to go on. Raises ``BookNotEmpty`` unless what is there is what the pack begins with."""
    row = await (await conn.execute(_POSITION, [book_id])).fetchone()
    assert row is not None
    clock, *held, size = row
    if not any(held) and rfc3339(clock.astimezone(UTC)) > first_at:
        why = f"it was made at {rfc3339(clock.astimezone(UTC))}, and no book's clock goes back to {first_at}"
        raise BookNotEmpty(book, why)
    for source, count in zip(SOURCES, held, strict=True):
        given = lines(pack, FILES[source])
        for first in range(1, count + 1, _PAGE):
            last = min(first + _PAGE - 1, count)
            page = await read_entries(conn, book_id, book, source, first, last)
            for number, (line, _) in enumerate(page, start=first):
                if line != next(given, None):
                    raise BookNotEmpty(book, f"{source} {number} is another")
    due = runs(pack)
    async for run in sealed_runs(conn, book_id, 0, size):
        if run != next(due, None):
            raise BookNotEmpty(book, f"leaf {run.first_index} was sealed in another order")
    return _Loading(conn, book_id, book, dict(zip(SOURCES, held, strict=True)), size, due)


class _Loading:
    """``held``: how many entries of each source are in the book; ``size``: how many leaves in its log."""

    sealing: _Sealing

    def __init__(
        self,
        conn: AsyncConnection[Any],
        book_id: int,
        book: str,
        held: dict[str, int],
        size: int,
        due: Iterator[Run],
    ) -> None:
        self._conn = conn
        self._book_id = book_id
        self._book = book
        self._held = held
        self.size = size
        self._due = due
        self._next = next(due, None)
        self._batch: list[Entry] = []
        self._batches = 0
        self.posted = 0

    async def all(self, pack: Pack, progress: Told) -> None:
        acts = Acts(self._conn, self._book_id, map(orjson.loads, lines(pack, "proposals.jsonl")))
        for entry in in_order(pack):
            if entry.number <= self._held[entry.source]:
                if entry.source == "act":
                    await acts.do(entry.said, anew=False)
                continue
            if self._batch and (entry.source, entry.at) != (self._batch[0].source, self._batch[0].at):
                progress(await self._flush(acts))
            self._batch.append(entry)
            if len(self._batch) == MOST or entry.source == "act":
                progress(await self._flush(acts))
        progress(await self._flush(acts))
        await self._seal()
        await self._conn.commit()

    async def _flush(self, acts: Acts) -> int:
        """Post what has gathered: entries of one source and one instant. How many journals it was."""
        if not self._batch:
            return 0
        batch, self._batch = self._batch, []
        source, at = batch[0].source, datetime.fromisoformat(batch[0].at)
        try:
            if source == "account":
                accounts = [entries.account(entry.said) for entry in batch]
                await open_accounts(self._conn, self._book_id, accounts, now=at)
            elif source == "act":
                await acts.do(batch[0].said)
            else:
                await self._post(batch, at)
        except LedgerError as error:
            if isinstance(error, ImportDiffers | NotImportable):
                raise
            raise ImportDiffers(
                f"{source} {batch[0].number}", f"{error.code}: {error}", "it stands"
            ) from error
        await self._check(source, batch)
        await self._advance(source, len(batch))
        return len(batch) if source == "journal" else 0

    async def _post(self, batch: Sequence[Entry], at: datetime) -> None:
        units = [Unit((entries.journal(entry.said),)) for entry in batch]
        results = await post(self._conn, self._book_id, units, now=at)
        for entry, result in zip(batch, results, strict=True):
            if isinstance(result, Refusal):
                raise ImportDiffers(f"journal {entry.number}", f"{result.code}: {result}", "it stands")
        self.posted += len(batch)

    async def _check(self, source: str, batch: Sequence[Entry]) -> None:
        """What the ledger has written is what the pack says, byte for byte."""
        first, last = batch[0].number, batch[-1].number
        made = await read_entries(self._conn, self._book_id, self._book, source, first, last)
        for entry, (line, _) in zip(batch, made, strict=False):
            if line != entry.line:
                raise ImportDiffers(f"{source} {entry.number}", line.decode(), entry.line.decode())
        if len(made) != len(batch):
            raise ImportDiffers(f"{source} {first}", f"{len(made)} entries", str(len(batch)))

    async def _advance(self, source: str, count: int) -> None:
        self._held[source] += count
        self._batches += 1
        if await self._seal() or self._batches >= _COMMIT_AFTER:
            await self._conn.commit()
            self._batches = 0

    async def _seal(self) -> bool:
        """Seal the runs of which every entry is in the book; whether there was one."""
        sealed = False
        while self._next is not None:
            run = self._next
            if self._held[run.source] < run.first_number + run.count - 1:
                break
            await self.sealing.take(run, self._book)
            self.size += run.count
            self._next, sealed = next(self._due, None), True
        return sealed


class _Sealing:
    """Takes runs into the log, each with a checkpoint of its own."""

    def __init__(
        self, conn: AsyncConnection[Any], book_id: int, signers: Sequence[Signer], now: datetime
    ) -> None:
        self._conn = conn
        self._book_id = book_id
        self._signers = signers
        self._now = now

    async def take(self, run: Run, book: str) -> None:
        conn, book_id = self._conn, self._book_id
        last = run.first_number + run.count - 1
        if run.source == "account":
            made = await read_entries(conn, book_id, book, "account", run.first_number, last)
            row = accounts = b"".join(leaf for _, leaf in made)
        else:
            accounts, row = b"", await stored_hashes(conn, book_id, run.source, run.first_number, last)
        edge = await read_edge(conn, book_id, run.first_index)
        tiles, roots = fill(edge, row)
        checkpoint = Checkpoint(self._signers[0].name, run.first_index + run.count, root_of_edge(edge))
        counts = [run.count if source == run.source else 0 for source in SOURCES]
        given = [book_id, run.first_index, *counts, accounts, b"".join(tiles), b"".join(roots)]
        _, sealed_at = await self._last() or (b"", self._now)
        note = checkpoint.signed(self._signers)
        await conn.execute(_SEAL, [*given, checkpoint.root, note, max(self._now, sealed_at)])

    async def root(self) -> bytes:
        last = await self._last()
        return last[0] if last else b""

    async def _last(self) -> tuple[bytes, datetime] | None:
        return await (await self._conn.execute(_LAST, [self._book_id])).fetchone()
