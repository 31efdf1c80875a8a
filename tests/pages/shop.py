"""The pages on real parts (PostgreSQL, acquirer process, HTTP server), in a thread beside the test."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Coroutine, Generator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import uvicorn
from psycopg_pool import AsyncConnectionPool

from api.app import create_app
from api.clients import create_client
from api.dependencies import AppDependencies
from api.pages.plugin import Pages
from api.policy import MERCHANT_SCOPES, Scope
from api.secrets import ApiSecrets
from gateway import checkout, payments
from gateway.core import Gateway, Policy
from gateway.fees import FeePlan
from gateway.merchants import Merchant, NewMerchant, create_merchant
from gateway.model import CaptureMethod, Payment
from gateway.payments import NewPayment
from khata.config import Settings
from khata.database import Database
from khata.wiring import open_gateway
from ledger.books import create_book
from ledger.ids import Ids
from tests.banks.acquirer import AcquirerProcess

BANK_TIMEOUT_S = 1.0
RETURN_URL = "https://shop.example/orders/1042"
T = TypeVar("T")

GOOD = "4111111111111111"
NO_MONEY = "4000000000000010"
LOST_ANSWER = "4000000000000077"


@dataclass
class Clock:
    """Real time, moved by as much as a test wants."""

    ahead: timedelta = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@dataclass
class Shop:
    """``run(coroutine)`` runs it where the server runs, and waits."""

    url: str
    deps: AppDependencies
    database: Database
    acquirer: AcquirerProcess
    clock: Clock
    loop: asyncio.AbstractEventLoop = field(repr=False)

    @property
    def gateway(self) -> Gateway:
        return self.deps.gateway

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def merchant(self, name: str = "Chaipatti Tea House") -> Merchant:
        fees = {currency: FeePlan(bps=200) for currency in ("INR", "JPY", "KWD")}
        new = NewMerchant(name=name, book_id=self.deps.book_id, bank="meridian", fees=fees)
        return self.run(create_merchant(self.gateway, new))

    def payment(
        self, merchant: Merchant, amount: int = 10_000_000, currency: str = "INR", **more: Any
    ) -> Payment:
        new = NewPayment(amount, currency, **({"reference": "ORD-1042"} | more))
        return self.run(payments.create(self.gateway, merchant.id, new))

    def link(self, payment: Payment) -> str:
        """The address of a new checkout for it."""
        session = self.run(checkout.create_session(self.gateway, payment.merchant_id, payment.id, RETURN_URL))
        return f"{self.url}/pay/{session.token}"

    def checkout(self, amount: int = 10_000_000, currency: str = "INR", **more: Any) -> tuple[str, Payment]:
        """A new payment of a new merchant, and where to pay it."""
        payment = self.payment(self.merchant(), amount, currency, **more)
        return self.link(payment), payment

    def now(self, payment: Payment) -> Payment:
        return self.run(payments.get(self.gateway, payment.merchant_id, payment.id))

    def client(
        self, merchant: Merchant, scopes: frozenset[Scope] = frozenset(MERCHANT_SCOPES)
    ) -> tuple[str, str]:
        """Id and secret."""
        return self.run(self._client(merchant, scopes))

    async def _client(self, merchant: Merchant, scopes: frozenset[Scope]) -> tuple[str, str]:
        async with self.deps.pool.connection() as conn:
            return await create_client(
                *(conn, self.deps.secrets),
                name="browser",
                merchant_id=merchant.id,
                scopes=scopes,
                now=self.clock(),
            )

    def alter(self, sql: str, *values: object) -> None:
        """As the tables' owner: what no role at run time may do."""
        with psycopg.connect(self.database.owner_dsn) as conn:
            conn.execute(sql, values)  # type: ignore[arg-type]


MANUAL = {"capture_method": CaptureMethod.MANUAL}


@contextlib.contextmanager
def open_shop(database: Database, home: Path) -> Generator[Shop]:
    acquirer = AcquirerProcess(home, ("--late-ms", "1800"))
    acquirer.start()
    try:
        with _serving(database, home, acquirer) as shop:
            yield shop
    finally:
        acquirer.stop()


@contextlib.contextmanager
def _serving(database: Database, home: Path, acquirer: AcquirerProcess) -> Generator[Shop]:
    opened: list[Shop] = []
    up, down = threading.Event(), asyncio.Event()
    failure: list[BaseException] = []

    def work() -> None:
        try:
            asyncio.run(_serve(database, home, acquirer, opened, up, down))
        except BaseException as error:
            failure.append(error)
        finally:
            up.set()

    thread = threading.Thread(target=work, name="shop")
    thread.start()
    up.wait()
    try:
        if failure:
            raise failure[0]
        yield opened[0]
    finally:
        if opened and not opened[0].loop.is_closed():
            opened[0].loop.call_soon_threadsafe(down.set)
        thread.join()
    if failure:
        raise failure[0]


async def _serve(
    database: Database,
    home: Path,
    acquirer: AcquirerProcess,
    opened: list[Shop],
    up: threading.Event,
    down: asyncio.Event,
) -> None:
    clock = Clock()
    settings = Settings(home=home, acquirer_port=acquirer.port, acquirer_timeout_s=BANK_TIMEOUT_S)
    async with contextlib.AsyncExitStack() as stack:
        real = await stack.enter_async_context(open_gateway(settings, database))
        pool = AsyncConnectionPool(database.app_dsn, min_size=1, max_size=8, open=False)
        await stack.enter_async_context(pool)
        async with pool.connection() as conn:
            book_id = await create_book(conn, name="main", now=clock())
        policy = Policy(lease=timedelta(seconds=5), backoff=(timedelta(milliseconds=1),) * 20)
        deps = AppDependencies(
            gateway=replace(real, clock=clock, ids=Ids(clock), policy=policy),
            pool=pool,
            secrets=ApiSecrets.derive(os.urandom(32)),
            issuer="http://127.0.0.1",
            base_url="http://127.0.0.1",
            book_id=book_id,
            clock=clock,
        )
        url = await stack.enter_async_context(_listening(deps))
        opened.append(Shop(url, deps, database, acquirer, clock, asyncio.get_running_loop()))
        up.set()
        await down.wait()


@contextlib.asynccontextmanager
async def _listening(deps: AppDependencies):
    app = create_app(deps, plugins=[Pages()])
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, access_log=False, ws="none")
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign]  # pytest keeps Ctrl-C
    task = asyncio.create_task(server.serve())
    while not server.started:
        assert not task.done(), task.exception()
        await asyncio.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
