"""Proves a book from its rows alone: everything the ledger derived is recomputed by code of its own.

``audit`` runs examiners (the ledger's own, and those other packages bring for what the ledger does not know) in one
read-only REPEATABLE READ snapshot. See docs/audit.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg import AsyncConnection

from ledger.audit.ledger import LedgerExaminer
from ledger.audit.report import Check, CheckResult, Examiner, Finding, Key, Progress, Tallies, Tally

__all__ = [
    "Check",
    "CheckResult",
    "Examiner",
    "Finding",
    "Key",
    "LedgerExaminer",
    "Progress",
    "Tallies",
    "Tally",
    "audit",
    "examine",
]

_LEDGER: tuple[Examiner, ...] = (LedgerExaminer(),)


async def audit(
    conn: AsyncConnection[Any],
    book_id: int,
    progress: Progress | None = None,
    *,
    examiners: Sequence[Examiner] = _LEDGER,
) -> list[CheckResult]:
    """Every check's result. ``conn`` must not be in a transaction; role ``khata_audit`` is enough.

    Raises ``ledger.errors.BookUnknown``. Memory: an object an account, whatever the number of journals.
    """
    async with conn.transaction():
        await conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        return await examine(conn, book_id, progress, examiners=examiners)


async def examine(
    conn: AsyncConnection[Any],
    book_id: int,
    progress: Progress | None = None,
    *,
    examiners: Sequence[Examiner] = _LEDGER,
) -> list[CheckResult]:
    """``audit`` within the caller's transaction, which gives the snapshot."""
    tallies = Tallies(check for examiner in examiners for check in examiner.checks)
    for examiner in examiners:
        await examiner.examine(conn, book_id, tallies, progress or _silent)
    return tallies.results()


def _silent(done: int, total: int) -> None:
    return None
