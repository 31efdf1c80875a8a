"""The hand-rolled classic: one prepared function call a payment, each client on its own connection."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from bench.measure import Case, Sample, closed_loop
from bench.workload import ACCOUNTS, CURRENCY, FUNDS, METADATA, Pairs, wallet
from khata.database import Database

CLIENTS = (1, 16, 64)
_PAY = "SELECT classic.pay(%b::text, %b::int4, %b::int4, %b::int8, %b::jsonb)"


def prepare_classic(database: Database) -> None:
    """Its schema in the same database, with the same accounts and funds."""
    with psycopg.connect(database.owner_dsn, autocommit=True) as owner:
        owner.execute(Path(__file__).with_name("classic.sql").read_bytes())
        with owner.cursor() as cursor, cursor.copy("COPY classic.account FROM STDIN") as copy:
            for number in range(ACCOUNTS):
                copy.write_row((number, wallet(number), CURRENCY, FUNDS, 0))
        owner.execute("VACUUM ANALYZE classic.account")


@asynccontextmanager
async def classic_cases(database: Database, seed: int) -> AsyncGenerator[list[Case]]:
    async with AsyncExitStack() as stack:
        connections = [
            await stack.enter_async_context(await AsyncConnection.connect(database.app_dsn, autocommit=True))
            for _ in range(max(CLIENTS))
        ]
        keys = count()
        cases: list[Case] = []
        for load, hot in (("uniform", False), ("hot", True)):
            for clients in CLIENTS:
                pairs = Pairs(random.Random(seed), hot=hot)
                payers = [_payer(c, pairs, keys) for c in connections[:clients]]
                cases.append(Case(f"single/{load}/{clients}", "classic", partial(_run, payers)))
        yield cases


async def _run(payers: list[Callable[[], Any]], seconds: float) -> Sample:
    return await closed_loop(payers, seconds)


def _payer(connection: AsyncConnection[Any], pairs: Pairs, keys: count[int]) -> Callable[[], Any]:
    cursor = connection.cursor()
    about = Jsonb(METADATA)

    async def pay() -> None:
        payer, payee, amount = pairs()
        await cursor.execute(_PAY, (f"bench-{next(keys)}", payer, payee, amount, about), prepare=True)
        await cursor.fetchone()

    return pay
