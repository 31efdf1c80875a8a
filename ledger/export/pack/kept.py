"""What the log keeps beside the leaves, held against the tree that a pack builds: tiles and every checkpoint's row."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from typing import Any

from psycopg import AsyncConnection

from ledger.export.errors import BookAltered
from ledger.export.pack.scope import Scope
from ledger.log.checkpoint import Checkpoint
from ledger.log.merkle import Frontier
from ledger.log.seal import fill
from ledger.log.tiles import read_edge

_PAGE = 1000
_LEAVES = 4096  # between looks at the tiles
_TILES = """
SELECT w.level, w.tile, t.hashes, t.root FROM unnest(%s::smallint[], %s::bigint[]) AS w(level, tile)
  LEFT JOIN ledger.log_tile t ON t.book_id = %s AND t.level = w.level AND t.tile = w.tile"""
_ROWS = """
SELECT size, root, note FROM ledger.checkpoint
 WHERE book_id = %s AND size > %s AND size <= %s ORDER BY size LIMIT %s"""


class Kept:
    """Goes along with the tree. What differs is remembered, and told by ``end`` once the tree is known to be right."""

    def __init__(self, conn: AsyncConnection[Any], scope: Scope, origin: str, edge: list[bytes]) -> None:
        self._conn = conn
        self._scope = scope
        self._origin = origin
        self._edge = edge
        self._size = scope.from_index  # of what the edge is the edge of
        self._new: list[bytes] = []
        self._rows = self._checkpoints()
        self._due: tuple[int, bytes, str] | None = None
        self._wrong: BookAltered | None = None

    @classmethod
    async def begin(cls, conn: AsyncConnection[Any], scope: Scope, origin: str) -> Kept:
        kept = cls(conn, scope, origin, await read_edge(conn, scope.book_id, scope.from_index))
        kept._due = await anext(kept._rows, None)
        return kept

    async def add(self, leaf: bytes, tree: Frontier) -> None:
        """``tree``: with the leaf, its last."""
        self._new.append(leaf)
        if len(self._new) == _LEAVES:
            await self._check_tiles()
        while self._due is not None and self._due[0] == tree.size:
            size, stored, note = self._due
            root = tree.root()
            self._same(f"checkpoint {size}, root", stored, root)
            if not note.startswith(Checkpoint(self._origin, size, root).text + "\n"):
                self._find(f"checkpoint {size}, note", "of another text", f"of the root {root.hex()}")
            self._due = await anext(self._rows, None)

    async def end(self) -> None:
        """Raises ``BookAltered``: the first that differed."""
        await self._check_tiles()
        if self._wrong is not None:
            raise self._wrong

    async def _checkpoints(self) -> AsyncGenerator[tuple[int, bytes, str]]:
        scope, after = self._scope, self._scope.from_index
        while True:
            cursor = self._conn.cursor(binary=True)
            await cursor.execute(_ROWS, [scope.book_id, after, scope.to_index, _PAGE])
            rows = await cursor.fetchall()
            for row in rows:
                yield row
            if not rows:
                return
            after = rows[-1][0]

    async def _check_tiles(self) -> None:
        begin, self._size = self._size, self._size + len(self._new)
        tiles, roots = fill(self._edge, b"".join(self._new))
        self._new.clear()
        places = list(_places(begin, self._size, len(self._edge)))
        if not places:
            return
        made = dict(zip(places, zip(tiles, roots, strict=True), strict=True))
        levels, numbers = zip(*places, strict=True)
        cursor = self._conn.cursor(binary=True)
        await cursor.execute(_TILES, [list(levels), list(numbers), self._scope.book_id])
        for level, number, hashes, root in await cursor.fetchall():
            wanted = made[level, number]
            if hashes is None:
                self._find(f"tile {level}/{number}", "missing", "there")
                continue
            for name, stored, expected in zip(("hashes", "root"), (hashes, root), wanted, strict=True):
                self._same(f"tile {level}/{number}, {name}", stored, expected)

    def _same(self, where: str, stored: bytes, made: bytes) -> None:
        """Of a row of hashes the first that differs is told."""
        if stored != made:
            at = next((n for n in range(0, len(made), 32) if stored[n : n + 32] != made[n : n + 32]), 0)
            place = where if len(made) == 32 else f"{where}, place {at // 32}"
            self._find(place, stored[at : at + 32].hex(), made[at : at + 32].hex())

    def _find(self, where: str, says: str, expected: str) -> None:
        self._wrong = self._wrong or BookAltered(where, says, expected)


def _places(begin: int, end: int, levels: int) -> Iterator[tuple[int, int]]:
    """Level and number of the tiles that are full at ``end`` and were not at ``begin``, as ``fill`` gives them."""
    for level in range(levels):
        for number in range(begin >> 8 * (level + 1), end >> 8 * (level + 1)):
            yield level, number
