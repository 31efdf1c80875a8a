"""Every statement that the application runs, with the plan it really ran by: nothing can be left out.

PostgreSQL's own auto_explain tells them, those inside functions too, to the client as notices.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import orjson
import psycopg
import pytest
from psycopg import sql

from khata.database import Database

EXPLAIN = {
    "session_preload_libraries": "auto_explain",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_timing": "off",
    "auto_explain.log_buffers": "on",
    "auto_explain.log_nested_statements": "on",
    "auto_explain.log_format": "json",
    "auto_explain.log_level": "notice",
}


@dataclass(frozen=True, slots=True)
class Scan:
    """A node that reads a table. ``rows``: those it read, also what a filter then dropped. ``pages``: how many 8 kB
    blocks of table and index it looked at, which also tells what was passed over inside the index."""

    node: str
    table: str
    index: str
    rows: float
    pages: int

    def __str__(self) -> str:
        by = f" by {self.index}" if self.index else ""
        return f"{self.node} on {self.table}{by}: {self.rows:g} rows, {self.pages} pages"


@dataclass(frozen=True, slots=True)
class Plan:
    """A statement as it ran. Those inside the functions it called have plans of their own."""

    statement: str
    scans: tuple[Scan, ...]

    @property
    def rows(self) -> float:
        return sum(scan.rows for scan in self.scans)

    @property
    def pages(self) -> int:
        return sum(scan.pages for scan in self.scans)

    def __str__(self) -> str:
        words = " ".join(self.statement.split())
        return "\n  ".join(
            [f"{words[:400]}  ({self.rows:g} rows, {self.pages} pages)", *map(str, self.scans)]
        )


def plan_of(message: str) -> Plan | None:
    """The plan that auto_explain tells in a notice; None if it is another notice."""
    _, told, document = message.partition(" plan:\n")
    if not told:
        return None
    said = orjson.loads(document)
    return Plan(said["Query Text"], tuple(_scans(said["Plan"])))


def _scans(node: dict[str, Any]) -> Iterator[Scan]:
    # Those of a bitmap's index name no table: the heap scan above them does, and reads as many rows.
    if "Relation Name" in node and node["Node Type"] != "ModifyTable":
        read = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
        read += node.get("Rows Removed by Index Recheck", 0)
        yield Scan(
            node["Node Type"],
            node["Relation Name"],
            node.get("Index Name", ""),
            read * node["Actual Loops"],
            # Without what was looked at to make the values it is searched with: that is told where it was done.
            _pages(node) - sum(map(_pages, node.get("Plans", []))),
        )
    for below in node.get("Plans", []):
        yield from _scans(below)


def _pages(node: dict[str, Any]) -> int:
    return node.get("Shared Hit Blocks", 0) + node.get("Shared Read Blocks", 0)


def explain_all(database: Database, *, generic: bool) -> None:
    """From now on new connections tell their plans. ``generic``: made without knowing the parameters' values."""
    settings = EXPLAIN | ({"plan_cache_mode": "force_generic_plan"} if generic else {})
    with psycopg.connect(database.admin_dsn, autocommit=True) as admin:
        name = sql.Identifier(admin.info.dbname)
        for setting, value in settings.items():
            words = sql.SQL("ALTER DATABASE {} SET {} = {}").format(
                name, sql.Identifier(*setting.split(".")), sql.Literal(value)
            )
            admin.execute(words)


@contextlib.contextmanager
def listening(monkeypatch: pytest.MonkeyPatch, *, generic: bool) -> Generator[list[Plan]]:
    """The plans of all connections that are opened inside, as they come in. ``generic``: statements are prepared
    the first time they run."""
    plans: list[Plan] = []
    connect = psycopg.AsyncConnection.connect

    def note(diagnostic: psycopg.errors.Diagnostic) -> None:
        plan = plan_of(diagnostic.message_primary or "")
        if plan is not None:
            plans.append(plan)

    async def told(*given: Any, **options: Any) -> psycopg.AsyncConnection[Any]:
        conn = await connect(*given, **options)
        conn.add_notice_handler(note)
        conn.prepare_threshold = 0 if generic else None
        return conn

    with monkeypatch.context() as patch:
        patch.setattr(psycopg.AsyncConnection, "connect", told)
        yield plans
