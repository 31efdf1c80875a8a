"""TigerBeetle through its Python client: batches, concurrent single transfers, pending transfers and their posting.

CONFIG: ``address`` of a single replica, ``seed``, ``accounts``. It runs in an environment of its own and imports
nothing of Khata.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import tigerbeetle as tb
import uvloop

from bench.pairs import FUNDS, LOADS, Pairs
from bench.worker import Run, batches, closed_loop, serve

BATCH = 8189  # the most that fits into one message
TASKS = (1, 64)
LEDGER, CODE, ESCROW = 1, 1, 1_000_000_000
FIRST = 1  # account ids start there: zero is no id


class Clerk:
    """Asks the cluster; anything but success would make the figures a lie."""

    def __init__(self, client: tb.ClientAsync, pairs: Pairs) -> None:
        self._client = client
        self._pairs = pairs

    def transfer(self, flags: tb.TransferFlags = tb.TransferFlags.NONE) -> tb.Transfer:
        payer, payee, amount = self._pairs()
        return tb.Transfer(
            id=tb.id(),
            debit_account_id=payer + FIRST,
            credit_account_id=payee + FIRST,
            amount=amount,
            ledger=LEDGER,
            code=CODE,
            flags=flags,
        )

    def transfers(self) -> list[list[tb.Transfer]]:
        return [[self.transfer() for _ in range(BATCH)]]

    def pairs(self) -> list[list[tb.Transfer]]:
        """A batch of pending transfers, and one that posts them."""
        pending = [self.transfer(tb.TransferFlags.PENDING) for _ in range(BATCH)]
        return [pending, [_posting(transfer) for transfer in pending]]

    async def single(self) -> None:
        await send(self._client, [self.transfer()])

    async def pair(self) -> None:
        pending = self.transfer(tb.TransferFlags.PENDING)
        await send(self._client, [pending])
        await send(self._client, [_posting(pending)])


def _posting(pending: tb.Transfer) -> tb.Transfer:
    return tb.Transfer(
        id=tb.id(), pending_id=pending.id, amount=tb.AMOUNT_MAX, flags=tb.TransferFlags.POST_PENDING_TRANSFER
    )


async def send(client: tb.ClientAsync, transfers: Sequence[tb.Transfer]) -> None:
    for result in await client.create_transfers(list(transfers)):
        if result.status != tb.CreateTransferStatus.CREATED:
            raise RuntimeError(f"a benchmark's transfer did not stand: {result}")


async def send_all(client: tb.ClientAsync, work: Sequence[Sequence[tb.Transfer]]) -> None:
    for transfers in work:
        await send(client, transfers)


async def prepare(client: tb.ClientAsync, accounts: int) -> None:
    """Wallets (credit balance, may not be overdrawn), each funded."""
    limited = tb.AccountFlags.DEBITS_MUST_NOT_EXCEED_CREDITS
    opened = [
        tb.Account(id=number + FIRST, ledger=LEDGER, code=CODE, flags=limited) for number in range(accounts)
    ]
    opened.append(tb.Account(id=ESCROW, ledger=LEDGER, code=CODE))
    funding = [
        tb.Transfer(
            id=tb.id(),
            debit_account_id=ESCROW,
            credit_account_id=number + FIRST,
            amount=FUNDS,
            ledger=LEDGER,
            code=CODE,
        )
        for number in range(accounts)
    ]
    for start in range(0, len(opened), BATCH):
        for result in await client.create_accounts(opened[start : start + BATCH]):
            if result.status != tb.CreateAccountStatus.CREATED:
                raise RuntimeError(f"an account could not be opened: {result}")
    for start in range(0, accounts, BATCH):
        await send(client, funding[start : start + BATCH])


@asynccontextmanager
async def opened(config: Mapping[str, Any]) -> AsyncGenerator[dict[str, Run]]:
    async with tb.ClientAsync(cluster_id=0, replica_addresses=config["address"]) as client:
        await asyncio.wait_for(prepare(client, config["accounts"]), 60)
        runs: dict[str, Run] = {}
        for load, hot in LOADS.items():
            pairs = Pairs(random.Random(config["seed"]), hot=hot, accounts=config["accounts"])
            clerk = Clerk(client, pairs)
            ask = partial(send_all, client)
            runs[f"bulk/{load}/{BATCH}"] = partial(batches, ask, clerk.transfers, BATCH)
            runs[f"bulk-hold+capture/{load}/{BATCH}"] = partial(batches, ask, clerk.pairs, BATCH)
            for tasks in TASKS:
                runs[f"single/{load}/{tasks}"] = partial(closed_loop, [clerk.single] * tasks)
            runs[f"hold+capture/{load}/64"] = partial(closed_loop, [clerk.pair] * 64)
        yield runs


if __name__ == "__main__":
    uvloop.run(serve(opened(json.loads(sys.argv[1]))))
