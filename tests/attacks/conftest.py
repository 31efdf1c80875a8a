"""A book with money and holds in it, and a connection as each role. After every attack the book must be sound
and must still take an honest journal."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any
from uuid import UUID

import pytest
from psycopg import AsyncConnection

from khata.database import Database
from ledger import model as m
from ledger.audit import Finding, audit
from ledger.books import create_book, open_accounts
from tests.attacks import tally
from tests.attacks.raw import CANONICAL, Forged, Leg, forge
from tests.ledger.conftest import ACCOUNTS
from tests.ledger.recompute import differences
from tests.ledger.words import ESCROW, NOW, PENDING_A, PENDING_B, WALLET, Book, fund, journal, new_id, pay


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """`make attack`: what was refused, by role and SQLSTATE."""
    if os.environ.get("ATTACKS") == "1":
        tally.print_table()
        for state in sorted(tally.unmet()):
            terminalreporter.write_line(f"no attack met {state}: {tally.own_states()[state]}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A refusal that no attack has met is one that nobody has seen work."""
    if os.environ.get("ATTACKS") == "1" and session.exitstatus == pytest.ExitCode.OK and tally.unmet():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


EXPIRES = NOW + timedelta(hours=1)


@dataclass
class Scene(Book):
    """``conn`` posts honestly as ``khata_app``; ``app`` is where attacks of the same role run.

    Holds on the wallet (posted 10,000): ``open_hold`` 1,000 with 10 % tolerance, ``timed_hold`` 500 that
    expires at ``EXPIRES``.
    """

    app: AsyncConnection[Any] = None  # type: ignore[assignment]
    owner: AsyncConnection[Any] = None  # type: ignore[assignment]
    audit: AsyncConnection[Any] = None  # type: ignore[assignment]
    merchant: AsyncConnection[Any] = None  # type: ignore[assignment]
    open_hold: UUID = None  # type: ignore[assignment]
    timed_hold: UUID = None  # type: ignore[assignment]
    closed_by_hand: bool = False

    def roles(self) -> dict[str, AsyncConnection[Any]]:
        return {
            "khata_app": self.app,
            "khata_audit": self.audit,
            "khata_merchant": self.merchant,
            "khata_owner": self.owner,
        }

    async def close_by_hand(self, through: date | None) -> None:
        """As only the owner can, and the audit finds: a close needs its record."""
        update = "UPDATE ledger.book SET closed_through = %s WHERE book_id = %s"
        await self.owner.execute(update, [through, self.book_id])
        await self.owner.commit()
        self.closed_by_hand = through is not None

    async def forge(self, *journals: list[Leg]) -> Forged:
        return await forge(self.audit, self.book_id, *journals)

    async def account_id(self, path: str, currency: str = "INR") -> int:
        cursor = await self.audit.execute(
            "SELECT account_id FROM ledger.account WHERE book_id = %s AND path = %s AND currency = %s",
            [self.book_id, path, currency],
        )
        row = await cursor.fetchone()
        await self.audit.rollback()
        assert row is not None
        return row[0]


@pytest.fixture
async def scene(shared_database: Database, request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:

        async def connect(dsn: str) -> AsyncConnection[Any]:
            return await stack.enter_async_context(await AsyncConnection.connect(dsn))

        conn = await connect(shared_database.app_dsn)
        book_id = await create_book(conn, name=f"b{secrets.token_hex(8)}", now=NOW)
        await open_accounts(conn, book_id, ACCOUNTS, now=NOW)
        scene = Scene(conn, book_id, shared_database)
        scene.app, scene.owner = (
            await connect(shared_database.app_dsn),
            await connect(shared_database.owner_dsn),
        )
        scene.audit, scene.merchant = (
            await connect(shared_database.audit_dsn),
            await connect(shared_database.merchant_dsn),
        )
        scene.open_hold, scene.timed_hold = new_id(), new_id()
        await scene.ok(
            fund(WALLET, 10_000),
            journal(hold=m.Place(scene.open_hold, WALLET, PENDING_A, 1000, "INR", tolerance_bps=1000)),
            journal(hold=m.Place(scene.timed_hold, WALLET, PENDING_A, 500, "INR", expires_at=EXPIRES)),
        )
        yield scene
        for attacker in scene.roles().values():
            if not attacker.closed:
                await attacker.rollback()
        if scene.closed_by_hand:
            await scene.close_by_hand(None)
        await the_book_goes_on(scene)
        if getattr(request.module, "AUDITED", False):
            await the_audit_finds_nothing(scene)


async def the_book_goes_on(scene: Scene) -> None:
    """Honest journals still stand, whichever way they come, and everything recomputes."""
    await scene.ok(journal(pay(PENDING_B, ESCROW, 7)), now=scene.now + timedelta(days=1))
    await (await scene.forge([Leg(ESCROW, PENDING_B, 7)])).insert(scene.conn)
    await (await scene.forge([Leg(ESCROW, PENDING_B, 7)])).append(scene.conn)
    # Forged canonical lines say nothing; the auditor finds that, the database does not read JSON.
    assert [d for d in await differences(scene.audit, scene.book_id) if "canonical" not in d] == []


async def the_audit_finds_nothing(scene: Scene) -> None:
    """But that forged canonical lines say nothing of their journals and holds."""
    cursor = await scene.audit.execute(
        "SELECT 'journal', seq::text FROM ledger.journal WHERE book_id = %(book)s AND canonical = %(forged)s"
        " UNION ALL"
        " SELECT 'hold', hold_id::text FROM ledger.hold WHERE book_id = %(book)s AND NOT hold_id = ANY (%(honest)s)",
        {"book": scene.book_id, "forged": CANONICAL, "honest": [scene.open_hold, scene.timed_hold]},
    )
    forged = set(await cursor.fetchall())
    await scene.audit.rollback()
    found = [finding for result in await audit(scene.audit, scene.book_id) for finding in result.findings]
    assert [str(finding) for finding in found if not concerned(finding) & forged] == []


def concerned(finding: Finding) -> set[tuple[str, str]]:
    """The journal or the hold whose line it is about."""
    columns = {
        "journal": ("journal", "seq"),
        "posting": ("journal", "journal_seq"),
        "hold": ("hold", "hold_id"),
    }
    kind, column = columns.get(finding.table, ("", ""))
    return {(kind, str(finding.key.get(column)))}
