"""The whole audit: the ledger's own checks and those of the packages above it, on every book."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import AsyncConnection

from banks.audit import BanksExaminer
from gateway.audit import GatewayExaminer
from khata.database import Database
from ledger.audit import Check, CheckResult, Examiner, LedgerExaminer, Progress, audit


@dataclass(frozen=True, slots=True)
class BookAudit:
    """``not_run``: the checks that were not asked for."""

    book: str
    results: list[CheckResult]
    not_run: tuple[Check, ...] = ()

    @property
    def clean(self) -> bool:
        return not any(result.found for result in self.results)


OTHERS: tuple[Examiner, ...] = (BanksExaminer(), GatewayExaminer())  # what they prove is in no pack


async def audit_database(
    database: Database, progress: Progress | None = None, *, ledger_only: bool = False
) -> list[BookAudit]:
    """Check every invariant of every book, each in one snapshot, as ``khata_audit``.

    ``ledger_only``: those of the ledger alone, which a book made of a pack must keep, too.
    """
    others = () if ledger_only else OTHERS
    not_run = tuple(check for examiner in OTHERS for check in examiner.checks) if ledger_only else ()
    async with await AsyncConnection.connect(database.audit_dsn) as conn:
        async with conn.cursor() as cursor:
            await cursor.execute("SELECT book_id, name FROM ledger.book ORDER BY book_id")
            books = await cursor.fetchall()
        await conn.rollback()
        return [
            BookAudit(
                name, await audit(conn, book_id, progress, examiners=(LedgerExaminer(), *others)), not_run
            )
            for book_id, name in books
        ]


async def misses_payments(database: Database, audits: list[BookAudit]) -> bool:
    """Whether other checks than the ledger's found something where no payment was ever made: in imported books."""
    ids = {check.id for examiner in OTHERS for check in examiner.checks}
    if not any(result.found and result.check.id in ids for audit in audits for result in audit.results):
        return False
    async with await AsyncConnection.connect(database.audit_dsn) as conn:
        row = await (await conn.execute("SELECT FROM gateway.operation LIMIT 1")).fetchone()
    return row is None
