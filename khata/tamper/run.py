"""The whole test: scratch database, sample book, every tampering; what was tried, and what was missed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from psycopg import AsyncConnection

from khata.database import Database
from khata.tamper.sample import sample_book
from khata.tamper.schema import Table, defenceless, tables
from khata.tamper.spans import small_spans
from khata.tamper.tampering import KINDS, Forger, NoSuchRow, Outcome, Tampering, plan
from ledger.audit import audit
from ledger.audit.protection import PROVABLE_ROWS, UNPROVABLE

Progress = Callable[[int, int], None]  # tamperings done, tamperings in all


@dataclass(frozen=True, slots=True)
class Unprotected:
    """A column that the audit cannot prove, of all rows or of those that ``reason`` names."""

    table: str
    column: str
    reason: str


@dataclass(frozen=True, slots=True)
class Count:
    table: str
    kind: str
    tried: int
    caught: int


@dataclass(frozen=True, slots=True)
class TamperTest:
    """``clean``: the audit found nothing before anything was tampered with. ``missed``: in words."""

    clean: bool
    counts: tuple[Count, ...]
    missed: tuple[str, ...]
    unprotected: tuple[Unprotected, ...]

    @property
    def tried(self) -> int:
        return sum(count.tried for count in self.counts)

    @property
    def passed(self) -> bool:
        return self.clean and self.tried > 0 and not self.missed


async def tamper_test(scratch: Database, progress: Progress | None = None) -> TamperTest:
    """Fill ``scratch`` (empty, thrown away by the caller) with a sample book and tamper with all of it."""
    await small_spans(scratch.owner_dsn)
    book_id = await sample_book(scratch.app_dsn)
    async with await AsyncConnection.connect(scratch.audit_dsn) as conn:
        clean = not any(result.found for result in await audit(conn, book_id))
    async with await AsyncConnection.connect(scratch.owner_dsn) as conn:
        known = await tables(conn)
        async with defenceless(conn):
            forger = Forger(conn, book_id)
            outcomes, untried = await _outcomes(forger, known, progress or _silent)
    missed = [*untried, *(str(o.tampering) for o in outcomes if not o.caught)]
    return TamperTest(clean, _counts(outcomes), tuple(missed), unprotected())


async def _outcomes(
    forger: Forger, known: Sequence[Table], progress: Progress
) -> tuple[list[Outcome], list[str]]:
    planned: list[Tampering] = []
    untried: list[str] = []
    for table in known:
        try:
            planned += [tampering async for tampering in plan(forger, [table])]
        except NoSuchRow as error:
            untried.append(f"not tried: {error}")
    outcomes: list[Outcome] = []
    for tampering in planned:
        outcomes.append(await forger.attempt(tampering))
        progress(len(outcomes), len(planned))
    return outcomes, untried


def _counts(outcomes: Sequence[Outcome]) -> tuple[Count, ...]:
    tables_ = dict.fromkeys(o.tampering.table.name for o in outcomes)
    counts: list[Count] = []
    for table in tables_:
        for kind in KINDS:
            of_kind = [o for o in outcomes if o.tampering.table.name == table and o.tampering.kind == kind]
            counts.append(Count(table, kind, len(of_kind), sum(o.caught for o in of_kind)))
    return tuple(counts)


def unprotected() -> tuple[Unprotected, ...]:
    """The columns that no audit of the rows can prove, and why."""
    whole = [Unprotected(table, column, reason) for (table, column), reason in UNPROVABLE.items()]
    some = [Unprotected(table, column, reason) for (table, column), (_, reason) in PROVABLE_ROWS.items()]
    return (*whole, *some)


def _silent(done: int, total: int) -> None:
    return None
