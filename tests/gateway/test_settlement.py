"""Settlement files beside everything else that is going on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway import captures, recovery, settlement
from gateway.states import OperationState
from gateway.states import PaymentStatus as S
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
