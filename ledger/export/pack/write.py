"""Writes a pack, file by file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from hashlib import sha256
from types import MappingProxyType
from typing import Any

import orjson
from psycopg import AsyncConnection

from ledger.canonical import rfc3339
from ledger.errors import InvalidEntry
from ledger.export import FILES, Selection, export_file
from ledger.export.errors import BookAltered
from ledger.export.pack import log, state
from ledger.export.pack.container import Container, File
from ledger.export.pack.lines import line_rows
from ledger.export.pack.running import Running
from ledger.export.pack.scope import Scope, find_scope
from ledger.export.pack.terms import check_terms
from ledger.log import note
from ledger.log.note import Signer

FOLDERS = MappingProxyType(
    {"csv": "csv", "parquet": "parquet", "ads": "ads"}
    | {"hledger": "plain", "ledger": "plain", "beancount": "plain"}
)
"""The forms of other programs that a pack may hold, and the folder each stands in."""
_PAGE = 1000
_PROPOSALS = """
SELECT a.act, p.content, p.proposal_id::text, p.kind, a.subject, a.detail
  FROM ledger.act a LEFT JOIN ledger.proposal p ON p.book_id = a.book_id AND p.act = a.act
 WHERE a.book_id = %(book)s AND a.act > %(after)s AND a.act <= %(through)s
   AND a.action IN ('adjustment_proposed', 'reopening_proposed') ORDER BY a.act LIMIT %(page)s"""

Progress = Callable[[str, int], None]
"""Told which file is being written, and how many bytes of it were since the last time."""


def silent(name: str, written: int) -> None:
    """No progress."""


@dataclass(frozen=True, slots=True)
class Written:
    """What is in a pack. ``journals``: how many."""

    book: str
    from_index: int
    to_index: int
    journals: int
    root: bytes
    files: tuple[File, ...]


async def write_pack(
    conn: AsyncConnection[Any],
    book_id: int,
    container: Container,
    signers: Sequence[Signer],
    *,
    now: datetime,
    first: date | None = None,
    until: date | None = None,
    formats: Collection[str] = tuple(FOLDERS),
    progress: Progress = silent,
) -> Written:
    """Write the leaves of the UTC days ``first`` ≤ day < ``until`` into ``container``.

    ``conn``: in a REPEATABLE READ transaction, so that all files tell of one moment. ``signers``: the log's keys.
    Raises as ``find_scope``; ``BookAltered``; ``InvalidEntry`` for a format that there is not.
    """
    for format in formats:
        if format not in FOLDERS:
            raise InvalidEntry("formats", f"{format!r} is none of {', '.join(FOLDERS)}")
    scope = await find_scope(conn, book_id, first, until, now=now)
    pack = _Pack(conn, scope, container, progress)
    ends = await log.find_ends(conn, scope)
    await pack.sources(ends)
    await pack.log(ends)
    await pack.books()
    for format in formats:
        await pack.other_form(format)
    manifest = _manifest(scope, ends, container.files, now)
    container.put("manifest.json", manifest)
    text = f"khata pack\n{ends.checkpoint.origin}\n{sha256(manifest).hexdigest()}\n"
    container.put("manifest.sig", note.sign(text, signers).encode())
    journals = scope.after.journal - scope.before.journal
    root = ends.checkpoint.root
    return Written(scope.book, scope.from_index, scope.to_index, journals, root, tuple(container.files))


def zip_comment(signers: Sequence[Signer]) -> Callable[[str], bytes]:
    """The signed comment of a zip whose bytes before it have that SHA-256 in hex."""
    return lambda digest: note.sign(f"khata zip\n{signers[0].name}\n{digest}\n", signers).encode()


class _Pack:
    def __init__(
        self, conn: AsyncConnection[Any], scope: Scope, container: Container, progress: Progress
    ) -> None:
        self._conn = conn
        self._scope = scope
        self._container = container
        self._progress = progress

    async def sources(self, ends: log.Ends) -> None:
        """The leaves' lines; the tree over them must be the log's."""
        scope = self._scope
        for name, source in (("accounts.jsonl", "account"), ("acts.jsonl", "act")):
            first, last = getattr(scope.before, source) + 1, getattr(scope.after, source)
            await self._file(name, log.entry_lines(self._conn, scope, source, first, last))
        await self._file("proposals.jsonl", self._proposals())
        await self._file("journal.jsonl", log.journal_lines(self._conn, scope, ends))

    async def _proposals(self) -> AsyncIterator[bytes]:
        scope = self._scope
        given = {"book": scope.book_id, "after": scope.before.act, "through": scope.after.act, "page": _PAGE}
        while True:
            rows = await (await self._conn.execute(_PROPOSALS, given)).fetchall()
            for act, content, id_, kind, subject, detail in rows:
                if act == given["after"]:
                    raise BookAltered(f"proposal of act {act}", "there twice", "there once")
                given["after"] = act
                _check_proposal(act, (content, id_, kind), subject, orjson.loads(detail))
                proposal = {"act": act, "content": orjson.loads(content), "id": id_, "kind": kind}
                yield state.json_line(proposal)
            if not rows:
                return

    async def log(self, ends: log.Ends) -> None:
        scope, container = self._scope, self._container
        await self._file("log/runs.jsonl", log.run_lines(self._conn, scope))
        container.put("log/checkpoint", ends.last.encode())
        if ends.prior is not None:
            container.put("log/prior", ends.prior.encode())
        frontier = {"hashes": [part.hex() for part in ends.frontier], "size": scope.from_index}
        container.put("log/frontier.json", state.json_line(frontier))
        notes = log.checkpoints(self._conn, scope)
        await self._file(
            "log/checkpoints.jsonl",
            (state.json_line({"note": text, "size": size}) async for size, text in notes),
        )
        container.put("log/keys.jsonl", log.key_lines(ends.keys))

    async def books(self) -> None:
        """Lines and what stood before and after them."""
        conn, scope = self._conn, self._scope
        before, after = scope.before, scope.after
        running = Running(after.account)
        await state.opening_numbers(conn, scope, running)
        lines = line_rows(conn, scope.book_id, before.journal, after.journal, running)
        await self._file("lines.csv", lines)
        opening = Running(after.account)
        for at, closing in ((opening.debits, running.debits), (opening.credits, running.credits)):
            at[:] = closing
        await state.check_balances(conn, scope, running)
        await check_terms(conn, scope)
        state.opening_gross(opening, running)
        await state.opening_numbers(conn, scope, opening)
        await self._file("opening.jsonl", self._opening(opening))
        await self._file("trial_balance.jsonl", state.account_states(conn, scope.book_id, after, running))
        if scope.from_index:
            await self._file("opening_holds.jsonl", state.open_holds(conn, scope, before.journal))
        else:
            self._container.put("opening_holds.jsonl", b"")
        await self._file("holds.jsonl", state.open_holds(conn, scope, after.journal))

    async def _opening(self, opening: Running) -> AsyncIterator[bytes]:
        scope = self._scope
        if scope.from_index:
            async for text in state.account_states(self._conn, scope.book_id, scope.before, opening):
                yield text

    async def other_form(self, format: str) -> None:
        scope = self._scope
        # Proved: these rows were held against their lines a moment ago, for ``lines.csv``.
        chosen = Selection(after_seq=scope.before.journal, through_seq=scope.after.journal, proved=True)
        for name in FILES[format]:
            chunks = export_file(self._conn, scope.book_id, format, name, chosen)
            await self._file(f"{FOLDERS[format]}/{name}", chunks)

    async def _file(self, name: str, chunks: AsyncIterator[bytes]) -> None:
        with self._container.entry(name) as entry:
            async for chunk in chunks:
                entry.write(chunk)
                self._progress(name, len(chunk))


def _check_proposal(
    act: int, found: tuple[str | None, str | None, str | None], subject: str, detail: dict[str, Any]
) -> None:
    """What was proposed is what its act bears the hash of."""
    content, *named = found
    made = [None if content is None else sha256(content.encode()).hexdigest(), *named]
    said = [detail["content_hash"], subject, detail["kind"]]
    if made != said:
        raise BookAltered(f"proposal of act {act}", str(made), str(said))


def _manifest(scope: Scope, ends: log.Ends, files: Sequence[File], now: datetime) -> bytes:
    entries = [
        {"bytes": file.bytes, "lines": file.lines, "name": file.name, "sha256": file.sha256}
        for file in sorted(files, key=lambda file: file.name)
    ]
    return state.json_line(
        {
            "book": scope.book,
            "created_at": rfc3339(now.astimezone(UTC)),
            "files": entries,
            "format": "khata-pack/1",
            "from": None if scope.first_day is None else scope.first_day.isoformat(),
            "from_index": scope.from_index,
            "origin": ends.checkpoint.origin,
            "root": ends.checkpoint.root.hex(),
            "to": None if scope.until_day is None else scope.until_day.isoformat(),
            "to_index": scope.to_index,
        }
    )
