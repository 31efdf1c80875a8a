"""The whole audit: the ledger's own checks and those of the packages above it, on every book."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import AsyncConnection

from banks.audit import BanksExaminer
from gateway.audit import GatewayExaminer
from khata.database import Database
from ledger.audit import CheckResult, Examiner, LedgerExaminer, Progress, audit


@dataclass(frozen=True, slots=True)
class BookAudit:
    book: str
    results: list[CheckResult]

    @property
    def clean(self) -> bool:
        return not any(result.found for result in self.results)


def examiners() -> tuple[Examiner, ...]:
    return (LedgerExaminer(), BanksExaminer(), GatewayExaminer())


async def audit_database(database: Database, progress: Progress | None = None) -> list[BookAudit]:
    """Check every invariant of every book, each in one snapshot, as ``khata_audit``."""
    async with await AsyncConnection.connect(database.audit_dsn) as conn:
        async with conn.cursor() as cursor:
            await cursor.execute("SELECT book_id, name FROM ledger.book ORDER BY book_id")
            books = await cursor.fetchall()
        await conn.rollback()
        return [
            BookAudit(name, await audit(conn, book_id, progress, examiners=examiners()))
            for book_id, name in books
        ]
