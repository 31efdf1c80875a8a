"""What the clerks were told against what the book holds, and every unknown settled by saying it again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg import AsyncConnection

from ledger import model as m
from ledger.audit import audit
from ledger.post import post
from tests.crash.clerk import clock, read_logs, unit


@dataclass(frozen=True)
class Verdict:
    """``unknown``: tried, and its clerk never learnt what became of it; ``stood`` of them had been committed.

    ``settled``: every unknown, said again by now.
    """

    acknowledged: int
    unknown: int
    stood: int
    lost: tuple[str, ...]
    settled: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return (
            f"{self.acknowledged} acknowledged, {len(self.lost)} lost; {self.unknown} unknown, of which"
            f" {self.stood} had been committed"
        )


async def judge(conn: AsyncConnection[Any], book_id: int, logs: Sequence[Path], before: Verdict) -> Verdict:
    """Compare and settle what is unknown since ``before``; figures are those of the whole run.

    No clerk is alive. Asserts that each unknown stands exactly once afterwards.
    """
    tried, acknowledged = read_logs(*logs)
    # The dead ones' last transactions have ended once the lock is ours.
    await conn.execute("UPDATE ledger.book SET recorded_at = recorded_at WHERE book_id = %s", [book_id])
    stored = await _stored(conn, book_id)
    lost = sorted(source for source, seq in acknowledged.items() if stored.get(source) != seq)
    assert stored.keys() <= tried, "the book has what nobody tried"
    unknown = sorted(tried - acknowledged.keys() - before.settled)
    for start in range(0, len(unknown), 4000):
        said = unknown[start : start + 4000]
        results = await post(conn, book_id, [unit(source) for source in said], now=clock())
        await conn.commit()
        replayed = [isinstance(result, m.Posted) and result.replayed for result in results]
        assert replayed == [source in stored for source in said], "a unit stands twice, or not at all"
    await conn.commit()
    if not lost:
        assert (await _stored(conn, book_id)).keys() == tried
        await conn.commit()
    return Verdict(
        len(acknowledged),
        before.unknown + len(unknown),
        before.stood + sum(source in stored for source in unknown),
        tuple(lost),
        before.settled.union(unknown),
    )


async def _stored(conn: AsyncConnection[Any], book_id: int) -> dict[str, int]:
    cursor = await conn.execute(
        "SELECT source_id, seq FROM ledger.journal WHERE book_id = %s AND source_type = 'clerk'", [book_id]
    )
    return dict(await cursor.fetchall())


async def assert_audited(conn: AsyncConnection[Any], book_id: int) -> int:
    """`khata audit` finds nothing; the number of rows it examined. ``conn`` is in no transaction."""
    results = await audit(conn, book_id)
    assert [str(finding) for result in results for finding in result.findings] == []
    return sum(result.rows for result in results)
