"""A gateway on real parts (PostgreSQL, ledger writer, acquirer process) and the short words of its tests."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import psycopg
from sqlalchemy import select
from sqlalchemy.ext.asyncio import create_async_engine

from banks.card.connection import Endpoint
from banks.card.rail import CardRail
from gateway import events, merchants, payments, store, tables
from gateway.cards import Card, Cvv, Pan
from gateway.core import Gateway, Policy
from gateway.fees import FeePlan
from gateway.idempotency import Idem
from gateway.keys import Keys
from gateway.merchants import Merchant, NewMerchant
from gateway.model import CaptureMethod, Payment, Refund
from gateway.opening import Openings
from gateway.payments import NewPayment
from gateway.vault import Vault
from khata.database import Database
from khata.wiring import Writers
from ledger.books import create_book
from ledger.ids import Ids
from ledger.read import balances, trial_balance
from ledger.search import Query, search
from tests.banks.acquirer import ACQUIRER_ID, AcquirerProcess

GOOD = "4111111111111111"
DECLINED = "4000000000000002"
LOST_REQUEST = "4000000000000069"
LOST_ANSWER = "4000000000000077"
LATE = "4000000000000085"
WRONG_AMOUNT = "4000000000000093"
BANK = "meridian"

QUICK = Policy(
    lease=timedelta(seconds=30),
    backoff=(timedelta(seconds=5), timedelta(seconds=10), timedelta(seconds=20)),
    max_attempts=3,
)
PLAN = FeePlan(bps=200)
PATIENT_S = 30.0  # for races: a loaded machine must not make time-outs of them


class Clock:
    """The real time and what a test has added to it."""

    def __init__(self) -> None:
        self.shift = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.shift

    def forward(self, **time: float) -> None:
        self.shift += timedelta(**time)


def card(number: str = GOOD) -> Card:
    return Card(Pan(number), "4912", Cvv("123"))


def idem(key: str, body: bytes = b"") -> Idem:
    return Idem(key, hashlib.sha256(body).digest(), render)


def render(result: Payment | Refund) -> tuple[int, bytes]:
    if isinstance(result, Refund):
        return 200, orjson.dumps(events.describe_refund(result))
    return 200, orjson.dumps(events.describe(result, result.created_at))


@dataclass
class World:
    gw: Gateway
    clock: Clock
    acquirer: AcquirerProcess
    database: Database
    merchant: Merchant
    book_id: int
    keys: Keys

    def another_process(self) -> contextlib.AbstractAsyncContextManager[tuple[Gateway, int]]:
        """A second gateway on the same database and bank."""
        return gateway(self.database, self.acquirer, self.clock, self.keys, PATIENT_S)

    @property
    def owner(self) -> str:
        return self.merchant.owner

    async def new(self, amount: int = 100_000, *, manual: bool = True, **facts: Any) -> Payment:
        method = CaptureMethod.MANUAL if manual else CaptureMethod.AUTOMATIC
        new = NewPayment(amount, facts.pop("currency", "INR"), method, **facts)
        return await payments.create(self.gw, self.merchant.id, new)

    async def authorized(self, amount: int = 100_000, number: str = GOOD, **facts: Any) -> Payment:
        payment = await self.new(amount, **facts)
        return await payments.confirm(self.gw, self.merchant.id, payment.id, card(number))

    async def captured(self, amount: int = 100_000, **facts: Any) -> Payment:
        return await self.authorized(amount, manual=False, **facts)

    async def get(self, payment: Payment) -> Payment:
        return await payments.get(self.gw, self.merchant.id, payment.id)

    async def balances(self, currency: str = "INR") -> Mapping[str, int]:
        """Posted balances that are not zero, signed by normal side, the merchant's id cut out of the paths."""
        async with self.psycopg() as conn:
            found = await balances(conn, self.book_id)
        return {
            b.path.replace(f":{self.owner}", ""): b.posted
            for b in found
            if b.currency == currency and b.posted
        }

    async def held(self, currency: str = "INR") -> int:
        """What issuers hold for us: the pending side of the memo pair."""
        async with self.psycopg() as conn:
            found = await balances(conn, self.book_id, prefix="Equity:Memo:Issuers")
        return sum(b.pending_in for b in found if b.currency == currency)

    async def journals(self, **which: Any) -> list[Any]:
        async with self.psycopg() as conn:
            return list((await search(conn, self.book_id, Query(**which), limit=1000)).journals)

    async def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        async with self.psycopg() as conn:
            return await (await conn.execute(query, values)).fetchall()

    @contextlib.asynccontextmanager
    async def psycopg(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        async with await psycopg.AsyncConnection.connect(self.database.app_dsn) as conn:
            yield conn

    async def check(self) -> None:
        """What must hold after anything: stored rows are the fold, funds are the Pending accounts, Σ = 0."""
        async with self.gw.engine.connect() as conn:
            rows = (await conn.execute(select(tables.payment))).mappings().all()
            for row in rows:
                payment = await store.load(conn, row["id"])
                folded = store.payment_row(payment)
                stored = dict(row) | {"metadata": folded["metadata"]}
                assert {k: stored[k] for k in folded} == folded
                # Unknown means that someone will look again.
                assert (
                    not payment.unknown or payment.next_check_at or any(op.review for op in payment.unknown)
                )
        pending = await self.rows(
            "SELECT currency, sum(net - taken)::bigint FROM gateway.fund WHERE release_id IS NULL AND net > taken"
            " GROUP BY currency"
        )
        for currency, amount in pending:
            assert (await self.balances(currency)).get("Liabilities:Merchant:Pending", 0) == amount
        async with self.psycopg() as conn:
            sums = await trial_balance(conn, self.book_id)
        for currency in {row.currency for row in sums}:
            assert sum(row.debit - row.credit for row in sums if row.currency == currency) == 0

    async def settle(self) -> list[bytes]:
        """The acquirer's files of today."""
        cut = self.acquirer.post("/settlement")
        return [Path(f["path"]).read_bytes() for f in cut["files"]]


@contextlib.asynccontextmanager
async def gateway(
    database: Database, acquirer: AcquirerProcess, clock: Clock, keys: Keys, timeout_s: float
) -> AsyncIterator[tuple[Gateway, int]]:
    """A gateway as one process has it, with pool, writer and rail of its own; and the book it writes."""
    engine = create_async_engine(
        database.app_dsn.replace("postgresql://", "postgresql+psycopg://"), pool_size=20, max_overflow=20
    )
    endpoint = Endpoint(
        "127.0.0.1", acquirer.port, response_timeout_s=timeout_s, ready_timeout_s=1.0, backoff_first_s=0.02
    )

    async def connect() -> psycopg.AsyncConnection[Any]:
        return await psycopg.AsyncConnection.connect(database.app_dsn)

    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(engine.dispose)
        rail = CardRail(BANK, endpoint, acquirer=ACQUIRER_ID, clock=clock, random=random.Random(7).random)
        await stack.enter_async_context(rail)
        async with await connect() as conn:
            book_id = await create_book(conn, name="main", now=clock())
        writers = Writers(database.app_dsn, clock)
        stack.push_async_callback(writers.close)
        openings = Openings(connect)
        stack.push_async_callback(openings.close)
        yield (
            Gateway(
                engine=engine,
                writers=writers,
                openings=openings,
                rails={BANK: rail},
                vault=Vault(keys, os.urandom),
                clock=clock,
                ids=Ids(clock),
                random=os.urandom,
                policy=QUICK,
            ),
            book_id,
        )


@contextlib.asynccontextmanager
async def world(
    database: Database, acquirer: AcquirerProcess, *, timeout_s: float = 1.2, **merchant: Any
) -> AsyncIterator[World]:
    """A gateway with one merchant; ``timeout_s``: its patience with the bank; other keywords change the merchant."""
    clock, keys = Clock(), Keys("k1", {"k1": os.urandom(32)}, os.urandom(32))
    async with gateway(database, acquirer, clock, keys, timeout_s) as (gw, book_id):
        plans = {"INR": PLAN, "JPY": PLAN, "KWD": FeePlan(bps=250, fixed=10)}
        made = NewMerchant("Chai Stall", book_id, BANK, plans)
        shop = await merchants.create_merchant(gw, replace(made, **merchant))
        yield World(gw, clock, acquirer, database, shop, book_id, keys)
