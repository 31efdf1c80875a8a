"""The hand-rolled classic: one prepared function call a payment, each client on its own connection.

CONFIG: ``dsn`` (khata_app), ``owner_dsn``, ``seed``, ``accounts``. Its schema is made in Khata's database.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import uvloop
from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from bench.pairs import CURRENCY, FUNDS, LOADS, METADATA, Pairs, wallet
from bench.worker import Run, closed_loop, serve

CLIENTS = (1, 16, 64)
_PAY = "SELECT classic.pay(%b::text, %b::int4, %b::int4, %b::int8, %b::jsonb)"


def prepare(owner_dsn: str, accounts: int) -> None:
    """Its schema with funded accounts."""
    with psycopg.connect(owner_dsn, autocommit=True) as owner:
        owner.execute(Path(__file__).with_name("classic.sql").read_bytes())
        with owner.cursor() as cursor, cursor.copy("COPY classic.account FROM STDIN") as copy:
            for number in range(accounts):
                copy.write_row((number, wallet(number), CURRENCY, FUNDS, 0))
        owner.execute("VACUUM ANALYZE classic.account")


@asynccontextmanager
async def opened(config: Mapping[str, Any]) -> AsyncGenerator[dict[str, Run]]:
    prepare(config["owner_dsn"], config["accounts"])
    async with AsyncExitStack() as stack:
        connections = [
            await stack.enter_async_context(await AsyncConnection.connect(config["dsn"], autocommit=True))
            for _ in range(max(CLIENTS))
        ]
        keys = count()
        runs: dict[str, Run] = {}
        for load, hot in LOADS.items():
            pairs = Pairs(random.Random(config["seed"]), hot=hot, accounts=config["accounts"])
            payers = [_payer(connection, pairs, keys) for connection in connections]
            for clients in CLIENTS:
                runs[f"single/{load}/{clients}"] = partial(closed_loop, payers[:clients])
        yield runs


def _payer(connection: AsyncConnection[Any], pairs: Pairs, keys: count[int]) -> Callable[[], Any]:
    cursor = connection.cursor()
    about = Jsonb(METADATA)

    async def pay() -> None:
        payer, payee, amount = pairs()
        await cursor.execute(_PAY, (f"bench-{next(keys)}", payer, payee, amount, about), prepare=True)
        await cursor.fetchone()

    return pay


if __name__ == "__main__":
    uvloop.run(serve(opened(json.loads(sys.argv[1]))))
