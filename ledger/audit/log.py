"""The transparency log: the tree over the rows, leaf by leaf in the log's order, is that of every checkpoint.

Nothing that was sealed is taken for granted: runs must follow one another, tiles hold what the rows hash to, notes be
signed by the keys of their time (``ledger.audit.log_keys``). One row of each table at a time, and 32 bytes a tile.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, LiteralString, NamedTuple

from psycopg import AsyncConnection

from ledger.audit import lines
from ledger.audit.log_keys import Signatures, check_cosignatures, load_signatures
from ledger.audit.report import Key, Tally
from ledger.audit.rows import batches
from ledger.canonical import rfc3339
from ledger.log.merkle import Frontier, root

_BOOK = "SELECT name, accounts, acts, head FROM ledger.book WHERE book_id = %s"
_RUNS = """
SELECT first_index, source, first_number, count FROM ledger.log_run WHERE book_id = %(book)s ORDER BY first_index"""
_CHECKPOINTS = """
SELECT size, prior_size, root, recorded_through, opens_day, sealed_at, note
  FROM ledger.checkpoint WHERE book_id = %(book)s ORDER BY size"""
_TILES = """
SELECT (level, tile), hashes, root, level, tile FROM ledger.log_tile WHERE book_id = %(book)s ORDER BY level, tile"""
_LEAVES: LiteralString = (
    "SELECT account_id, leaf_hash FROM ledger.account_leaf WHERE book_id = %(book)s ORDER BY account_id"
)
_ENTRIES: dict[str, LiteralString] = {
    "account": """
SELECT a.account_id, a.opened_at, a.path, a.currency, a.owner, f.floor
  FROM ledger.account a
  LEFT JOIN ledger.account_fact f ON f.book_id = a.book_id AND f.account_id = a.account_id AND f.fact = 1
 WHERE a.book_id = %(book)s ORDER BY a.account_id""",
    "act": "SELECT act, recorded_at, leaf_hash FROM ledger.act WHERE book_id = %(book)s ORDER BY act",
    "journal": "SELECT seq, recorded_at, leaf_hash FROM ledger.journal WHERE book_id = %(book)s ORDER BY seq",
}
_NUMBER = {"account": "account_id", "act": "act", "journal": "seq"}
_ABSENT = bytes(32)  # in the place of a leaf whose row is gone: other checks name that


@dataclass(frozen=True, slots=True)
class Run:
    """A row of ``ledger.log_run``."""

    first_index: int
    source: str
    first_number: int
    count: int


class CheckpointRow(NamedTuple):
    """A row of ``ledger.checkpoint``."""

    size: int
    prior_size: int
    root: bytes
    recorded_through: datetime
    opens_day: date | None
    sealed_at: datetime
    note: str


class _Stream:
    """Rows in order of their first column, to be taken by it; ``twice``: the numbers that came again."""

    def __init__(self, source: AsyncIterator[list[Any]]) -> None:
        self._source = source
        self._rows: list[Any] = []
        self._at = 0
        self.twice: list[Any] = []
        self._last: Any = None

    async def peek(self) -> Any:
        """The next row; None at the end."""
        if self._at == len(self._rows):
            self._rows, self._at = await anext(self._source, []), 0
        return self._rows[self._at] if self._rows else None

    async def next(self) -> Any:
        row = await self.peek()
        if row is not None:
            self._at += 1
            if row[0] == self._last:
                self.twice.append(row[0])
            self._last = row[0]
        return row

    async def take(self, number: Any) -> Any:
        """The row of that number, or None; those before it are passed over."""
        while (row := await self.peek()) is not None and row[0] < number:
            await self.next()
        return await self.next() if row is not None and row[0] == number else None


@dataclass
class _Suspect:
    """An account whose line does not hash to its kept leaf: whose fault it is, the next root tells."""

    account_id: int
    path: str
    kept: bytes
    recomputed: bytes


@dataclass
class LogPass:
    """The log so far, as its rows make it."""

    book_id: int
    book: str
    held: dict[str, int]
    tally: Tally
    signatures: Signatures
    tree: Frontier = field(default_factory=Frontier)
    sealed: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_NUMBER, 0))
    last: CheckpointRow | None = None
    run: Run | None = None
    since: datetime | None = None  # of the leaves after the last checkpoint
    through: datetime | None = None
    unproved: list[Run] = field(default_factory=list[Run])  # since the last root that was right
    suspects: list[_Suspect] = field(default_factory=list[_Suspect])
    ruined: bool = False  # a checkpoint's root differed: those after it differ by that alone

    def key(self, **columns: int | str) -> Key:
        return {"book_id": self.book_id, **columns}

    def follows(self, run: Run) -> bool:
        """Whether the run continues the log; if not, nothing after it can be placed."""
        self.tally.rows += 1
        at, key, before = self.tree.size, self.key(first_index=run.first_index), self.run
        if before is not None and run.first_index == before.first_index:
            self.tally.find("log_run", key, "row", "there twice", "there once")
            return False
        if run.first_index != at:
            self.tally.find(
                "log_run", self.key(first_index=at), "row", "missing", "there: leaves have no gaps"
            )
            self.tally.find("log_run", key, "first_index", run.first_index, at)
            if before is not None:
                fitting = run.first_index - before.first_index
                self.tally.find(
                    "log_run", self.key(first_index=before.first_index), "count", before.count, fitting
                )
            return False
        if run.source not in _NUMBER:
            self.tally.find("log_run", key, "source", run.source, " or ".join(_NUMBER))
            return False
        if run.first_number != self.sealed[run.source] + 1:
            self.tally.find("log_run", key, "first_number", run.first_number, self.sealed[run.source] + 1)
            for earlier in self.unproved:
                words = f"{earlier.count} of {earlier.source}"
                self.tally.find(
                    "log_run", self.key(first_index=earlier.first_index), "row", words, "as it was sealed"
                )
            return False
        most = self.held[run.source] - self.sealed[run.source]
        if not 0 < run.count <= most:
            self.tally.find("log_run", key, "count", run.count, f"1 to {most}, which the book has")
            return False
        self.run = run
        self.unproved.append(run)
        return True

    def add(self, source: str, leaf: bytes, at: datetime | None) -> None:
        """The next leaf, recorded at that time (None: its row is gone)."""
        self.sealed[source] += 1
        self.tree.append(leaf)
        if at is not None:
            self.since = min(self.since or at, at)
            self.through = max(self.through or at, at)

    def checkpoint(self, row: CheckpointRow) -> None:
        """That of as many leaves as there are so far."""
        key, last, run = self.key(size=row.size), self.last, self.run
        self.tally.rows += 1
        prior = last.size if last else 0
        if row.prior_size != prior:
            self.tally.find("checkpoint", key, "prior_size", row.prior_size, prior)
            if prior < row.prior_size < row.size:
                self.tally.find("checkpoint", self.key(size=row.prior_size), "row", "missing", "there")
        if run is not None and run.first_index + run.count > row.size:
            of_run = self.key(first_index=run.first_index)
            self.tally.find(
                "log_run", of_run, "count", run.count, f"{row.size - run.first_index}: a checkpoint ends it"
            )
        if last is not None and row.sealed_at < last.sealed_at:
            self.tally.find("checkpoint", key, "sealed_at", row.sealed_at, f"{last.sealed_at} or later")
        self._times(row, key)
        self.signatures.check(row.size, row.root, row.sealed_at, row.note, self.tally)
        self._root(row, key, prior)
        self.last, self.since, self.through = row, None, None

    def _times(self, row: CheckpointRow, key: Key) -> None:
        if self.since is None or self.through is None:
            return
        before = self.last.recorded_through if self.last else None
        day = _day(self.through)
        opens = day if before is None or _day(before) < day else None
        if row.opens_day != opens:
            self.tally.find("checkpoint", key, "opens_day", row.opens_day, opens)
        through = max(before, self.through) if before else self.through
        if row.recorded_through != through:
            self.tally.find("checkpoint", key, "recorded_through", row.recorded_through, through)
        if _day(self.since) != day:
            self.tally.find(
                "checkpoint", key, "row", f"over leaves of {_day(self.since)} and {day}", "of one day"
            )

    def _root(self, row: CheckpointRow, key: Key, prior: int) -> None:
        computed = self.tree.root()
        if row.root != computed and self.ruined:
            self.tally.follows()
        elif row.root != computed:
            about = f"leaves {prior} to {row.size - 1}"
            self.tally.find("checkpoint", key, "root", row.root, computed, about)
        for suspect in self.suspects:
            self._accuse(suspect, leaf=row.root != computed, rows=row.root == computed or self.ruined)
        self.suspects = []
        if row.root == computed or self.ruined:
            self.unproved = []
        self.ruined = self.ruined or row.root != computed

    def _accuse(self, suspect: _Suspect, *, leaf: bool, rows: bool) -> None:
        key, about = self.key(account_id=suspect.account_id), suspect.path
        if leaf:
            self.tally.find("account_leaf", key, "leaf_hash", suspect.kept, suspect.recomputed, about)
        if rows:
            said = f"one whose line hashes to {suspect.kept.hex()}"
            self.tally.find(
                "account", key, "row", f"one that hashes to {suspect.recomputed.hex()}", said, about
            )
            self.tally.find("account_fact", {**key, "fact": 1}, "floor", "another", said, about)

    def end(self, rest: CheckpointRow | None) -> None:
        """``rest``: the first checkpoint of more leaves than there are."""
        size = self.tree.size
        if rest is not None:
            self.tally.find(
                "log_run", self.key(first_index=size), "row", "missing", f"there, up to {rest.size - 1}"
            )
            self.tally.find("checkpoint", self.key(size=rest.size), "size", rest.size, size)
            if self.run is not None:
                fitting = rest.size - self.run.first_index
                self.tally.find(
                    "log_run", self.key(first_index=self.run.first_index), "count", self.run.count, fitting
                )
        elif size != (self.last.size if self.last else 0):
            self.tally.find(
                "checkpoint", self.key(size=size), "row", "missing", "there: every pass ends in one"
            )
        for suspect in self.suspects:
            self._accuse(suspect, leaf=True, rows=True)


def _day(at: datetime) -> date:
    return at.astimezone(UTC).date()


async def check_log(conn: AsyncConnection[Any], book_id: int, tally: Tally) -> None:
    """Runs, leaves, tiles, checkpoints, keys and cosignatures of a book. What is not sealed yet is not looked at."""
    row = await (await conn.execute(_BOOK, [book_id])).fetchone()
    if row is None:
        return
    name, *held = row
    signatures = await load_signatures(conn, book_id, tally)
    judge = LogPass(book_id, name, dict(zip(_NUMBER, held, strict=True)), tally, signatures)
    async with AsyncExitStack() as stack:

        async def stream(of: str, sql: LiteralString) -> _Stream:
            return _Stream(
                await stack.enter_async_context(aclosing(batches(conn, f"log_{of}", sql, book_id)))
            )

        runs, checkpoints = await stream("runs", _RUNS), await stream("checkpoints", _CHECKPOINTS)
        tiles = TilePass(book_id, tally, await stream("tiles", _TILES))
        entries = Entries(
            judge, {s: await stream(s, q) for s, q in _ENTRIES.items()}, await stream("leaves", _LEAVES)
        )
        whole = await _walk(judge, runs, checkpoints, entries, tiles)
        if whole:
            rest = await checkpoints.next()
            judge.end(CheckpointRow(*rest) if rest else None)
            await tiles.end()
            await entries.end()
        for size in checkpoints.twice:
            tally.find("checkpoint", judge.key(size=size), "row", "there twice", "there once")
    signatures.end(tally)
    await check_cosignatures(conn, book_id, tally)


async def _walk(
    judge: LogPass, runs: _Stream, checkpoints: _Stream, entries: Entries, tiles: TilePass
) -> bool:
    """Leaf after leaf; False where a run could not be placed."""
    while (found := await runs.next()) is not None:
        run = Run(*found)
        if not judge.follows(run):
            return False
        for number in range(run.first_number, run.first_number + run.count):
            leaf, at = await entries.leaf(run.source, number)
            judge.add(run.source, leaf, at)
            await tiles.add(leaf, run.source, number)
            size = judge.tree.size
            while (row := await checkpoints.peek()) is not None and row[0] <= size:
                await checkpoints.next()
                if row[0] != size:
                    judge.tally.find("checkpoint", judge.key(size=row[0]), "size", row[0], "more")
                elif judge.last is None or judge.last.size < size:
                    judge.checkpoint(CheckpointRow(*row))
    return True


class Entries:
    """The rows that leaves are made of, by source and number."""

    def __init__(self, judge: LogPass, streams: dict[str, _Stream], leaves: _Stream) -> None:
        self._judge, self._streams, self._leaves = judge, streams, leaves

    async def leaf(self, source: str, number: int) -> tuple[bytes, datetime | None]:
        """The leaf hash as it is kept, and when the entry was recorded."""
        row = await self._streams[source].take(number)
        if source == "account":
            return await self._account(number, row), row[1] if row else None
        return (row[2], row[1]) if row else (_ABSENT, None)

    async def _account(self, number: int, row: Any) -> bytes:
        judge, kept = self._judge, await self._leaves.take(number)
        line = _account_line(judge.book, *row) if row else None
        recomputed = lines.leaf_hash(line) if line is not None else _ABSENT
        if kept is None:
            judge.tally.find("account_leaf", judge.key(account_id=number), "row", "missing", recomputed)
            return recomputed
        if row and kept[1] != recomputed:
            judge.suspects.append(_Suspect(number, row[2], kept[1], recomputed))
        return kept[1]

    async def end(self) -> None:
        """Leaves of accounts that no run has."""
        judge = self._judge
        while (row := await self._leaves.next()) is not None:
            if row[0] > judge.sealed["account"]:
                judge.tally.find(
                    "account_leaf", judge.key(account_id=row[0]), "row", "there", "not sealed yet"
                )
        for number in self._leaves.twice:
            judge.tally.find("account_leaf", judge.key(account_id=number), "row", "there twice", "there once")


def _account_line(
    book: str, number: int, at: datetime, path: str, currency: str, owner: str | None, floor: int | None
) -> bytes:
    fields: lines.Fields = {
        "account": path,
        "account_id": number,
        "book": book,
        "currency": currency,
        "floor": None if floor is None else str(floor),
        "opened_at": rfc3339(at.astimezone(UTC)),
        "owner": owner,
    }
    return lines.serialise(fields)


class TilePass:
    """Full tiles, as the leaves fill them; those of higher levels from the roots of the ones below, at the end."""

    def __init__(self, book_id: int, tally: Tally, stream: _Stream) -> None:
        self._book_id, self._tally, self._stream = book_id, tally, stream
        self._row, self._of = bytearray(), list[tuple[str, int]]()
        self._roots = bytearray()
        self._number = 0

    async def add(self, leaf: bytes, source: str, number: int) -> None:
        self._row += leaf
        self._of.append((source, number))
        if len(self._of) == 256:
            self._roots += await self._full(0, self._number, bytes(self._row), self._of)
            self._number += 1
            self._row, self._of = bytearray(), []

    async def end(self) -> None:
        level, roots = 0, bytes(self._roots)
        while len(roots) >= 8192:
            level += 1
            above = bytearray()
            for number in range(len(roots) // 8192):
                above += await self._full(level, number, roots[number * 8192 : number * 8192 + 8192], ())
            roots = bytes(above)
        while (row := await self._stream.next()) is not None:
            if row[0] not in self._stream.twice:
                self._find(row[3], row[4], "row", "there", "not there: the log does not fill it")
        for level, number in self._stream.twice:
            self._find(level, number, "row", "there twice", "there once")

    async def _full(self, level: int, number: int, row: bytes, of: Sequence[tuple[str, int]]) -> bytes:
        """Hold a tile against what it must hold; the root of that."""
        self._tally.rows += 1
        of_row = root(row)
        kept = await self._stream.take((level, number))
        if kept is None:
            self._find(level, number, "row", "missing", "there")
            return of_row
        _, hashes, kept_root, *_ = kept
        if hashes == row:
            if kept_root != of_row:
                self._find(level, number, "root", kept_root, of_row)
        elif len(hashes) != len(row) or root(hashes) != kept_root or not of:
            self._find(level, number, "hashes", f"with the root {root(hashes).hex()}", f"with {of_row.hex()}")
        else:  # the tile is whole: it is the entry that is another than was sealed
            self._accuse(hashes, row, of)
        return of_row

    def _accuse(self, hashes: bytes, row: bytes, of: Sequence[tuple[str, int]]) -> None:
        first = next(n for n in range(256) if hashes[n * 32 : n * 32 + 32] != row[n * 32 : n * 32 + 32])
        source, number = of[first]
        table = "account_leaf" if source == "account" else source
        key: Key = {"book_id": self._book_id, _NUMBER[source]: number}
        place = slice(first * 32, first * 32 + 32)
        self._tally.find(table, key, "leaf_hash", row[place], hashes[place])

    def _find(self, level: int, number: int, field: str, stored: object, recomputed: object) -> None:
        key: Key = {"book_id": self._book_id, "level": level, "tile": number}
        self._tally.find("log_tile", key, field, stored, recomputed)
