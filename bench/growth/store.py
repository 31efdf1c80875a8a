"""What a growth run knows so far, in files beside its database: an interrupted run goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import psycopg


class Point(NamedTuple):
    """After one stretch of loading: postings in the book by then, and what the stretch took."""

    postings: int
    loaded: int
    seconds: float
    wal_bytes: int
    writer_rss_bytes: int


@dataclass(frozen=True)
class Level:
    """A size of the book, once measured: ``figures`` and ``targets`` as in ``latest.json`` and ``targets.json``.

    ``sizes``: bytes of each table and index of postings and journals, when there were ``held`` of them.
    """

    postings: int
    held: int
    figures: Sequence[dict[str, Any]]
    targets: Sequence[dict[str, Any]]
    sizes: dict[str, int]


class Store:
    """Points and levels under ``home``."""

    def __init__(self, home: Path) -> None:
        self._points = home / "points.jsonl"
        self._levels = home / "levels.jsonl"

    @property
    def points(self) -> list[Point]:
        return [Point(*point) for point in _lines(self._points)]

    @property
    def levels(self) -> list[Level]:
        return [Level(**level) for level in _lines(self._levels)]

    def add_point(self, point: Point) -> None:
        _append(self._points, point)

    def add_level(self, level: Level) -> None:
        _append(self._levels, asdict(level))


def _lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _append(path: Path, value: Any) -> None:
    with path.open("a") as file:
        file.write(json.dumps(value) + "\n")


_SIZES = """
SELECT relname, pg_relation_size(oid) FROM pg_class
 WHERE oid IN ('ledger.posting'::regclass, 'ledger.journal'::regclass)
UNION ALL
SELECT indexrelid::regclass::text, pg_relation_size(indexrelid) FROM pg_index
 WHERE indrelid IN ('ledger.posting'::regclass, 'ledger.journal'::regclass)
UNION ALL
SELECT 'journal (toast)', pg_table_size('ledger.journal') - pg_relation_size('ledger.journal')"""


def sizes(admin: psycopg.Connection[Any]) -> dict[str, int]:
    return dict(admin.execute(_SIZES).fetchall())


def wal_position(admin: psycopg.Connection[Any]) -> int:
    """Bytes of write-ahead log since the server was made."""
    row = admin.execute("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint").fetchone()
    assert row is not None
    return row[0]


def head(admin: psycopg.Connection[Any]) -> int:
    """Journals in the book ``bench``, each of one posting; 0 before it is there."""
    row = admin.execute("SELECT head FROM ledger.book WHERE name = 'bench'").fetchone()
    return row[0] if row else 0
