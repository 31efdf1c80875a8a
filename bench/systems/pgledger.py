"""pgledger through its public functions: one ``pgledger_create_transfer`` a payment, each client on its own connection.

CONFIG: ``dsn`` (the owner of an empty database of its own), ``sql`` (its files, in order), ``seed``, ``accounts``.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import uvloop
from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from bench.pairs import CURRENCY, FUNDS, LOADS, METADATA, Pairs, wallet
from bench.worker import Run, closed_loop, serve

CLIENTS = (1, 16, 64)
FUNDED_AT_ONCE = 500
_OPEN = """
SELECT a.id FROM unnest(%s::text[]) WITH ORDINALITY AS w(name, n),
       LATERAL pgledger_create_account(w.name, %s, allow_negative_balance => %s) AS a ORDER BY w.n"""
_FUND = """
SELECT count(*) FROM pgledger_create_transfers(
    ARRAY(SELECT (%s::text, id, %s::numeric)::transfer_request FROM unnest(%s::text[]) AS id), NULL, NULL)"""
_PAY = "SELECT id FROM pgledger_create_transfer(%b::text, %b::text, %b::int8::numeric, metadata => %b::jsonb)"


def prepare(dsn: str, files: Sequence[str], accounts: int) -> list[str]:
    """Its schema with funded accounts that may not be overdrawn; their ids."""
    with psycopg.connect(dsn, autocommit=True) as owner:
        for file in files:
            owner.execute(Path(file).read_bytes())
        (escrow,) = _open(owner, ["Assets:Escrow"], overdrawn=True)
        ids = _open(owner, [wallet(number) for number in range(accounts)], overdrawn=False)
        for start in range(0, accounts, FUNDED_AT_ONCE):
            owner.execute(_FUND, (escrow, FUNDS, ids[start : start + FUNDED_AT_ONCE]))
        owner.execute("VACUUM ANALYZE")
    return ids


def _open(owner: psycopg.Connection[Any], names: Sequence[str], *, overdrawn: bool) -> list[str]:
    return [id_ for (id_,) in owner.execute(_OPEN, (list(names), CURRENCY, overdrawn)).fetchall()]


@asynccontextmanager
async def opened(config: Mapping[str, Any]) -> AsyncGenerator[dict[str, Run]]:
    ids = prepare(config["dsn"], config["sql"], config["accounts"])
    async with AsyncExitStack() as stack:
        connections = [
            await stack.enter_async_context(await AsyncConnection.connect(config["dsn"], autocommit=True))
            for _ in range(max(CLIENTS))
        ]
        runs: dict[str, Run] = {}
        for load, hot in LOADS.items():
            pairs = Pairs(random.Random(config["seed"]), hot=hot, accounts=config["accounts"])
            payers = [_payer(connection, pairs, ids) for connection in connections]
            for clients in CLIENTS:
                runs[f"single/{load}/{clients}"] = partial(closed_loop, payers[:clients])
        yield runs


def _payer(connection: AsyncConnection[Any], pairs: Pairs, ids: Sequence[str]) -> Callable[[], Any]:
    cursor = connection.cursor()
    about = Jsonb(METADATA)

    async def pay() -> None:
        payer, payee, amount = pairs()
        await cursor.execute(_PAY, (ids[payer], ids[payee], amount, about), prepare=True)
        await cursor.fetchone()

    return pay


if __name__ == "__main__":
    uvloop.run(serve(opened(json.loads(sys.argv[1]))))
