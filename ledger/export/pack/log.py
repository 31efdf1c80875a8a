"""The log's part of a pack: runs, checkpoints, keys, frontier; and the proof that the range's leaves give its root."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Any

import orjson
from psycopg import AsyncConnection
from psycopg.errors import CardinalityViolation

from ledger.canonical import rfc3339
from ledger.errors import EntryMissing
from ledger.export.errors import BookAltered
from ledger.export.pack.kept import Kept
from ledger.export.pack.scope import Scope
from ledger.export.pack.state import json_line
from ledger.log.checkpoint import Checkpoint
from ledger.log.keys import LogKey, load_keys
from ledger.log.leaves import SOURCES, Chunk, chunks, read_entries, runs, stored_hashes
from ledger.log.merkle import HASH_BYTES, Frontier, hashes, leaf_hash, perfect_parts
from ledger.log.note import Note, NoteMalformed, SignatureInvalid
from ledger.log.proofs import leaf_index
from ledger.log.tiles import TILE_BYTES, WIDTH, read_tile, subtree_roots

_PAGE = 1000
_NOTE = """
SELECT c.note, (SELECT string_agg(s.line || E'\\n', '' ORDER BY s.witness) FROM ledger.cosignature s
                 WHERE s.book_id = c.book_id AND s.size = c.size)
  FROM ledger.checkpoint c WHERE c.book_id = %s AND c.size = %s"""
_CHECKPOINTS = """
SELECT size, note FROM ledger.checkpoint c
 WHERE book_id = %(book)s AND size > 0 AND size >= %(from)s AND size <= %(to)s AND size > %(after)s
   AND (size = %(to)s OR %(all)s
        OR EXISTS (SELECT FROM ledger.day_end d WHERE d.book_id = c.book_id AND d.size = c.size))
 ORDER BY size LIMIT 1000"""


@dataclass(frozen=True, slots=True)
class Ends:
    """The checkpoints at both ends of a range, as signed notes; ``prior`` None: it begins with the first leaf."""

    prior: str | None
    last: str
    checkpoint: Checkpoint
    frontier: list[bytes]
    keys: list[LogKey]


async def find_ends(conn: AsyncConnection[Any], scope: Scope) -> Ends:
    """Raises ``BookAltered`` where the kept tiles do not give the root of the checkpoint before the range."""
    keys = await load_keys(conn, scope.book_id)
    last = await _note(conn, scope.book_id, scope.to_index)
    checkpoint = _opened(last, scope.to_index, keys)
    if scope.from_index == 0:
        return Ends(None, last, checkpoint, [], keys)
    prior = await _note(conn, scope.book_id, scope.from_index)
    subtrees = [(n << level, (n + 1) << level) for level, n in perfect_parts(0, scope.from_index)]
    parts = await subtree_roots(conn, scope.book_id, scope.from_index, subtrees)
    root = Frontier(scope.from_index, parts).root()
    wanted = _opened(prior, scope.from_index, keys).root
    if root != wanted:
        raise BookAltered(f"the first {scope.from_index} leaves", f"of the root {root.hex()}", wanted.hex())
    return Ends(prior, last, checkpoint, parts, keys)


async def _note(conn: AsyncConnection[Any], book_id: int, size: int) -> str:
    row = await (await conn.execute(_NOTE, [book_id, size])).fetchone()
    if row is None:
        raise BookAltered(f"checkpoint {size}", "missing", "there")
    return row[0] + (row[1] or "")


def _opened(note: str, size: int, keys: Sequence[LogKey]) -> Checkpoint:
    try:
        found = Checkpoint.opened(note, [key.verifier for key in keys])
    except (NoteMalformed, SignatureInvalid) as error:
        raise BookAltered(f"checkpoint {size}", str(error), "signed by the log's key") from None
    _check_signers(note, size, keys)
    if found.size != size:
        raise BookAltered(f"checkpoint {size}", f"signed for {found.size} leaves", str(size))
    return found


def _check_signers(note: str, size: int, keys: Sequence[LogKey]) -> None:
    """Nobody signed under the log's name but its keys; witnesses have names of their own."""
    names = {key.verifier.name for key in keys}
    ids = {(key.verifier.name, key.verifier.key_id) for key in keys}
    for signature in Note.parse(note).signatures:
        if signature.name in names and (signature.name, signature.key_id) not in ids:
            found = f"signed by a key {signature.key_id.hex()} of the log's name"
            raise BookAltered(f"checkpoint {size}, note", found, "signed by the log's keys alone")


_NUMBER = {"account": "account_id", "act": "act"}
_FIRST_MISSING = """
SELECT n FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n
 WHERE NOT EXISTS (SELECT FROM ledger.journal j WHERE j.book_id = %(book)s AND j.seq = n) ORDER BY n LIMIT 1"""


async def entry_lines(
    conn: AsyncConnection[Any], scope: Scope, source: str, first: int, last: int
) -> AsyncGenerator[bytes]:
    """``accounts.jsonl`` or ``acts.jsonl``: the lines of these entries. Raises ``BookAltered`` where one is missing."""
    for begin in range(first, last + 1, _PAGE):
        end = min(begin + _PAGE - 1, last)
        try:
            page = await read_entries(conn, scope.book_id, scope.book, source, begin, end)
        except (orjson.JSONDecodeError, CardinalityViolation) as error:  # its detail; its first fact, twice
            where = f"one of the {source}s {begin} to {end}"
            raise BookAltered(where, f"no line: {error}", "one") from None
        numbers = [orjson.loads(line)[_NUMBER[source]] for line, _ in page]
        for number, found in zip_longest(range(begin, end + 1), numbers):
            if found != number:
                raise BookAltered(f"{source} {number}", "missing" if found else "there again", "there once")
        if source == "account":
            await _check_account_leaves(conn, scope, begin, [leaf for _, leaf in page])
        yield b"".join([line + b"\n" for line, _ in page])


async def _check_account_leaves(
    conn: AsyncConnection[Any], scope: Scope, first: int, made: Sequence[bytes]
) -> None:
    """The leaf hashes kept for accounts are those of their lines; if not, the tile tells which is wrong."""
    row = await stored_hashes(conn, scope.book_id, "account", first, first + len(made) - 1)
    for number, (leaf, stored) in enumerate(zip_longest(made, hashes(row), fillvalue=b""), first):
        if leaf == stored:
            continue
        index = await leaf_index(conn, scope.book_id, "account", number) or 0
        tile, at = divmod(index, WIDTH)
        row = await read_full_tile(conn, scope.book_id, tile)
        if row[at * HASH_BYTES : (at + 1) * HASH_BYTES] == leaf:
            raise BookAltered(f"account {number}, leaf_hash", stored.hex() or "missing", leaf.hex())
        where = f"account {number}"
        raise BookAltered(where, f"a line of leaf hash {leaf.hex()}", stored.hex() or "one that is kept")


async def journal_lines(conn: AsyncConnection[Any], scope: Scope, ends: Ends) -> AsyncGenerator[bytes]:
    """``journal.jsonl`` in chunks; every leaf of the range goes through the tree.

    Raises ``BookAltered`` at the end when the tree is not the checkpoint's, or before, where a line is not what its own
    leaf hash says.
    """
    try:
        async for text in _journal_lines(conn, scope, ends):
            yield text
    except EntryMissing:
        given = {"book": scope.book_id, "first": scope.before.journal + 1, "last": scope.after.journal}
        row = await (await conn.execute(_FIRST_MISSING, given)).fetchone()
        where = "an entry of the log" if row is None else f"journal {row[0]}"
        raise BookAltered(where, "missing", "there") from None


async def _journal_lines(conn: AsyncConnection[Any], scope: Scope, ends: Ends) -> AsyncGenerator[bytes]:
    tree = Frontier(scope.from_index, ends.frontier)
    due = {size: _opened(text, size, ends.keys).root async for size, text in checkpoints(conn, scope)}
    kept = await Kept.begin(conn, scope, ends.checkpoint.origin)
    due_number = {source: getattr(scope.before, source) + 1 for source in SOURCES}
    async for chunk in chunks(conn, scope.book_id, scope.from_index, scope.to_index):
        run, place = chunk.run, (tree.size, due_number.get(chunk.run.source))
        if (run.first_index, run.first_number) != place:
            found = f"leaf {run.first_index}, {run.source} {run.first_number}"
            raise BookAltered(f"the run of leaf {place[0]}", found, f"{run.source} {place[1]}")
        due_number[run.source] += run.count
        for leaf in _leaves(chunk):
            tree.append(leaf)
            await kept.add(leaf, tree)
            if tree.size in due and due[tree.size] != tree.root():
                await _name_culprit(conn, scope, ends)
        if chunk.run.source == "journal":
            yield b"".join([line + b"\n" for line in chunk.lines])
    if tree.size != scope.to_index or tree.root() != ends.checkpoint.root:
        await _name_culprit(conn, scope, ends)
    await kept.end()


def _leaves(chunk: Chunk) -> list[bytes]:
    leaves = [leaf_hash(line) for line in chunk.lines]
    if leaves != chunk.hashes:
        pairs = zip(leaves, chunk.hashes, strict=True)
        place = next(n for n, (made, stored) in enumerate(pairs) if made != stored)
        raise _altered(chunk, place, leaves[place], chunk.hashes[place])
    return leaves


def _altered(chunk: Chunk, place: int, made: bytes, wanted: bytes) -> BookAltered:
    number = chunk.run.first_number + place
    return BookAltered(f"{chunk.run.source} {number}", f"a line of leaf hash {made.hex()}", wanted.hex())


async def _name_culprit(conn: AsyncConnection[Any], scope: Scope, ends: Ends) -> None:
    """The first leaf that is not the one the log took in, by the kept tiles; else the first checkpoint that fails."""
    tree = Frontier(scope.from_index, ends.frontier)
    sizes = checkpoints(conn, scope, every=True)
    due = await anext(sizes, None)
    tile, row = -1, b""
    async for chunk in chunks(conn, scope.book_id, scope.from_index, scope.to_index):
        for place, leaf in enumerate(_leaves(chunk)):
            number, at = divmod(tree.size, WIDTH)
            if number != tile:
                tile, row = number, await read_full_tile(conn, scope.book_id, number)
            kept = row[at * HASH_BYTES : (at + 1) * HASH_BYTES]
            if kept and kept != leaf:
                raise _altered(chunk, place, leaf, kept)
            tree.append(leaf)
            while due is not None and due[0] <= tree.size:
                wanted = _opened(due[1], due[0], ends.keys).root
                if due[0] == tree.size and wanted != tree.root():
                    where = f"the log up to {chunk.run.source} {chunk.run.first_number + place}"
                    raise BookAltered(where, f"of the root {tree.root().hex()}", wanted.hex())
                due = await anext(sizes, None)
    raise BookAltered(
        "the log", f"{tree.size} leaves of the root {tree.root().hex()}", ends.checkpoint.root.hex()
    )


async def read_full_tile(conn: AsyncConnection[Any], book_id: int, number: int) -> bytes:
    """A kept tile of leaf hashes; empty where there is none, at the log's right edge."""
    row = await read_tile(conn, book_id, 0, number, WIDTH)
    return row if len(row) == TILE_BYTES else b""


async def run_lines(conn: AsyncConnection[Any], scope: Scope) -> AsyncGenerator[bytes]:
    async for run in runs(conn, scope.book_id, scope.from_index, scope.to_index):
        yield json_line(
            {
                "count": run.count,
                "first_index": run.first_index,
                "first_number": run.first_number,
                "source": run.source,
            }
        )


async def checkpoints(
    conn: AsyncConnection[Any], scope: Scope, *, every: bool = False
) -> AsyncGenerator[tuple[int, str]]:
    """Sizes and notes of the range's checkpoints at which days end, and of the last; of all of them if ``every``."""
    given = {"book": scope.book_id, "from": scope.from_index, "to": scope.to_index, "after": 0, "all": every}
    while True:
        rows = await (await conn.execute(_CHECKPOINTS, given)).fetchall()
        for size, note in rows:
            yield size, note
        if not rows:
            return
        given["after"] = rows[-1][0]


def key_lines(keys: Sequence[LogKey]) -> bytes:
    return b"".join(
        json_line(
            {
                "endorsement": key.endorsement,
                "from": _text(key.signs_from),
                "until": key.signs_until and _text(key.signs_until),
                "vkey": key.verifier.vkey,
            }
        )
        for key in keys
    )


def _text(at: datetime) -> str:
    return rfc3339(at.astimezone(UTC))
