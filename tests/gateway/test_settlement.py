"""Settlement files beside everything else that is going on."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import psycopg
import pytest

from banks.settlement import parse, take_turn
from gateway import captures, recovery, settlement
from gateway.states import OperationState
from gateway.states import PaymentStatus as S
from khata.database import Database
from ledger.post import post
from tests.gateway.test_recovery import NEVER_ANSWERED_AMOUNT
from tests.gateway.world import World


async def test_a_file_and_the_worker_that_sends_the_same_capture_again_take_turns(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    payment = await world.authorized()
    await captures.capture(world.gw, world.merchant.id, payment.id, NEVER_ANSWERED_AMOUNT)
    (file,) = await world.settle()
    decide, sending = settlement._steps, set[asyncio.Task[int]]()  # pyright: ignore[reportPrivateUsage]

    async def slowly(*given: Any) -> Any:
        world.clock.forward(seconds=60)
        sending.add(asyncio.create_task(recovery.recover_due(world.gw)))
        await asyncio.sleep(0.3)
        return await decide(*given)

    monkeypatch.setattr(settlement, "_steps", slowly)
    await settlement.import_settlement(world.gw, file, "today")
    assert await asyncio.gather(*sending) == [1]
    payment = await world.get(payment)
    assert payment.status is S.PARTIALLY_CAPTURED
    assert [op.state for op in payment.operations][1:] == [OperationState.RESOLVED_BY_FILE]
    assert "Assets:Receivable:meridian" not in await world.balances()
    await world.check()


async def test_an_import_that_waits_for_its_turn_stops_no_book(world: World) -> None:
    await world.captured()
    (content,) = await world.settle()
    async with world.psycopg() as turn, world.psycopg() as beside:
        await take_turn(turn, parse(io.BytesIO(content)))
        importing = asyncio.create_task(settlement.import_settlement(world.gw, content, "today"))
        while not await _waiting_for(beside, turn.info.backend_pid):
            assert not importing.done()
        await beside.execute("SET lock_timeout = '5s'")
        await post(beside, world.book_id, (), now=world.clock())  # takes the book's lock
        await beside.commit()
        assert not importing.done()
        await turn.rollback()
        assert not (await importing).replayed
    await world.check()


async def _waiting_for(conn: psycopg.AsyncConnection[Any], pid: int) -> bool:
    """Whether a session waits for that one, and for the lock of a row: nobody else can name that."""
    cursor = await conn.execute(
        "SELECT locktype FROM pg_locks WHERE NOT granted AND %s = ANY (pg_blocking_pids(pid))", [pid]
    )
    waits = await cursor.fetchall()
    await conn.commit()
    assert waits in ([], [("transactionid",)])
    return bool(waits)


@pytest.mark.parametrize("role", ["khata_merchant", "khata_audit"])
@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO banks.settlement_turn VALUES ('meridian', 'mine')",
        "SELECT FROM banks.settlement_turn FOR KEY SHARE",
        "LOCK TABLE banks.settlement_turn IN ROW EXCLUSIVE MODE",
        "LOCK TABLE banks.settlement_turn IN SHARE MODE",
    ],
)
async def test_nobody_but_the_application_holds_up_a_turn(
    shared_database: Database, role: str, statement: str
) -> None:
    async with await psycopg.AsyncConnection.connect(shared_database.admin_dsn) as conn:
        await conn.execute(f"SET ROLE {role}".encode())
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await conn.execute(statement.encode())
