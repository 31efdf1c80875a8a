"""Tiles (c2sp.org/tlog-tiles): 256 hashes of one level of the tree. Full ones are kept, partial ones are computed.

Tile ``n`` of level 0 holds the hashes of the leaves 256 n up; of level L + 1 the roots of the full tiles of level L.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from psycopg import AsyncConnection

from ledger.log.leaves import hashes
from ledger.log.merkle import HASH_BYTES, Range, fold, perfect_parts, root

WIDTH = 256
LEVELS = 7  # of a tree of fewer than 2^56 leaves
TILE_BYTES = WIDTH * HASH_BYTES

_TILE = "SELECT hashes FROM ledger.log_tile WHERE book_id = %s AND level = %s AND tile = %s"
_ROOTS = """
SELECT string_agg(root, ''::bytea) FROM (
  SELECT root FROM ledger.log_tile WHERE book_id = %s AND level = %s AND tile BETWEEN %s AND %s ORDER BY tile) AS t"""


def width(size: int, level: int, number: int) -> int:
    """How many hashes a tile has in a log of ``size`` leaves; 0 or fewer: it does not exist."""
    return min(WIDTH, (size >> 8 * level) - WIDTH * number)


async def read_tile(
    conn: AsyncConnection[Any], book_id: int, level: int, number: int, of_width: int
) -> bytes:
    """The first ``of_width`` hashes of a tile of the log, which has as many sealed; reads one tile, or what makes up a
    partial one."""
    if of_width == WIDTH:
        cursor = await conn.execute(_TILE, [book_id, level, number], binary=True)
        row = await cursor.fetchone()
        return row[0] if row else b""
    begin = number * WIDTH
    if level == 0:
        return await hashes(conn, book_id, begin, begin + of_width)
    given = [book_id, level - 1, begin, begin + of_width - 1]
    cursor = await conn.execute(_ROOTS, given, binary=True)
    row = await cursor.fetchone()
    return (row and row[0]) or b""


async def read_edge(conn: AsyncConnection[Any], book_id: int, size: int) -> list[bytes]:
    """The partial tiles at the right edge of a log of ``size`` leaves, by level; empty where all tiles are full."""
    edge: list[bytes] = []
    for level in range(LEVELS):
        filled = size >> 8 * level
        part = filled % WIDTH
        edge.append(await read_tile(conn, book_id, level, filled // WIDTH, part) if part else b"")
    return edge


def root_of_edge(edge: Iterable[bytes]) -> bytes:
    """The root of the tree whose right edge it is, which has leaves."""
    under = b""
    for row in edge:
        if row or under:
            under = root(row + under)
    return under


async def subtree_roots(
    conn: AsyncConnection[Any], book_id: int, size: int, subtrees: Iterable[Range]
) -> list[bytes]:
    """The roots of subtrees of the log, which has ``size`` leaves by now: as many reads as the tree has levels or so,
    whatever its size."""
    known: dict[tuple[int, int], bytes] = {}

    async def perfect(level: int, number: int) -> bytes:
        tile_level, rest = divmod(level, 8)
        first = number << rest
        tile, place = divmod(first, WIDTH)
        if (tile_level, tile) not in known:
            of_width = width(size, tile_level, tile)
            known[tile_level, tile] = await read_tile(conn, book_id, tile_level, tile, of_width)
        row = known[tile_level, tile]
        return root(row[place * HASH_BYTES : (place + (1 << rest)) * HASH_BYTES])

    return [fold([await perfect(*part) for part in perfect_parts(*subtree)]) for subtree in subtrees]
