"""A book with money and holds in it, and a connection as each role. After every attack the book must be sound
and must still take an honest journal."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from psycopg import AsyncConnection

from khata.database import Database
from ledger import model as m
from ledger.books import create_book, open_accounts
from tests.attacks import tally
from tests.attacks.raw import Forged, Leg, forge
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

    def roles(self) -> dict[str, AsyncConnection[Any]]:
        return {
            "khata_app": self.app,
            "khata_audit": self.audit,
            "khata_merchant": self.merchant,
            "khata_owner": self.owner,
        }

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
async def scene(shared_database: Database) -> AsyncIterator[Scene]:
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
        await the_book_goes_on(scene)


async def the_book_goes_on(scene: Scene) -> None:
    """An honest journal still stands, and everything recomputes."""
    await scene.ok(journal(pay(PENDING_B, ESCROW, 7)), now=scene.now + timedelta(days=1))
    # A raw writer may lie in a canonical line; the auditor finds that, the database does not read JSON.
    assert [d for d in await differences(scene.audit, scene.book_id) if "canonical" not in d] == []
