"""The API on a real socket, over a fresh database, with a clock that tests may move."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import httpx
import pytest
import uvicorn
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool
from sqlalchemy.ext.asyncio import create_async_engine

from api.app import create_app
from api.clients import create_client
from api.dependencies import AppDependencies
from api.policy import MERCHANT_SCOPES, Scope
from api.secrets import ApiSecrets
from gateway.core import Gateway
from gateway.fees import FeePlan
from gateway.keys import Keys
from gateway.merchants import Merchant, NewMerchant, create_merchant
from gateway.opening import Openings
from gateway.vault import Vault
from khata.database import Database, sqlalchemy_url
from khata.sealing import Sealer
from khata.wiring import Writers
from ledger import model as m
from ledger.books import create_book, open_accounts
from ledger.ids import Ids

START = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
PLATFORM_SCOPES = frozenset(Scope)
_keys = itertools.count(1)


class Clock:
    """Real time, moved by as much as a test wants."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@dataclass
class Caller:
    """An API client with a token: ``await caller.post("/v1/…", {…})``."""

    http: httpx.AsyncClient
    client_id: str
    secret: str
    token: str
    headers: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.headers = {"Authorization": f"Bearer {self.token}"}

    async def get(self, path: str, **query: Any) -> httpx.Response:
        return await self.http.get(path, params=query, headers=self.headers)

    async def post(self, path: str, body: Any, *, key: str | None = None, **headers: str) -> httpx.Response:
        key = key or f"key-{next(_keys)}"
        return await self.http.post(
            path, json=body, headers=self.headers | {"Idempotency-Key": key} | headers
        )


@dataclass
class Api:
    http: httpx.AsyncClient
    deps: AppDependencies
    database: Database
    clock: Clock
    url: str

    async def caller(self, merchant: Merchant | UUID | None, scopes: frozenset[str] | None = None) -> Caller:
        """A client of ``merchant`` (None: of the platform) with a token for ``scopes`` (None: all it can have)."""
        merchant_id = merchant.id if isinstance(merchant, Merchant) else merchant
        granted = scopes or (PLATFORM_SCOPES if merchant_id is None else MERCHANT_SCOPES)
        client_id, secret = await self.register(merchant_id, granted)
        return Caller(self.http, client_id, secret, await self.token(client_id, secret))

    async def register(
        self, merchant_id: UUID | None, scopes: frozenset[str], **more: Any
    ) -> tuple[str, str]:
        async with self.deps.pool.connection() as conn:
            return await create_client(
                *(conn, self.deps.secrets),
                name="test",
                merchant_id=merchant_id,
                scopes=scopes,
                now=self.clock(),
                **more,
            )

    async def token(self, client_id: str, secret: str) -> str:
        form = {"grant_type": "client_credentials"}
        answer = await self.http.post("/oauth/token", data=form, auth=(client_id, secret))
        assert answer.status_code == 200, answer.text
        return answer.json()["access_token"]

    async def merchant(
        self, name: str = "Chai Point", currencies: tuple[str, ...] = ("INR", "JPY")
    ) -> Merchant:
        fees = {currency: FeePlan(bps=200) for currency in currencies}
        return await create_merchant(
            self.deps.gateway, NewMerchant(name=name, book_id=self.deps.book_id, bank="meridian", fees=fees)
        )

    async def open(self, *accounts: m.NewAccount) -> None:
        async with self.deps.pool.connection() as conn:
            await open_accounts(conn, self.deps.book_id, accounts, now=self.clock())

    async def move(self, debit: str, credit: str, amount: int, currency: str = "INR") -> UUID:
        """Post one journal; returns its id."""
        ids = self.deps.gateway.ids
        id_ = ids()
        journal = m.Journal(
            *(id_, "transfer", m.Source("test", str(id_), "done")),
            (m.Posting(debit, credit, amount, currency),),
        )
        result = await self.deps.gateway.writers(self.deps.book_id).submit(m.Unit((journal,)))
        assert isinstance(result, m.Posted), result
        return id_

    async def seal(self, book_id: int | None = None) -> None:
        """Take everything that the book (None: the platform's) has into its log."""
        sealer = Sealer("khata.test", self.deps.secrets)
        more = True
        while more:
            async with self.deps.pool.connection() as conn:
                sealed = await sealer.seal(conn, book_id or self.deps.book_id, now=self.clock())
            more = sealed is not None and sealed.more

    async def wallet(self, owner: Merchant, name: str, amount: int) -> str:
        """A customer's wallet of a merchant's, with money in it."""
        path = f"Liabilities:Customer:{name}:Wallet"
        await self.open(
            m.NewAccount(path, "INR", floor=0, owner=owner.owner), m.NewAccount("Equity:Opening", "INR")
        )
        if amount:
            await self.move("Equity:Opening", path, amount)
        return path


@contextlib.asynccontextmanager
async def serving(app: Any) -> AsyncGenerator[str]:
    """``app`` under uvicorn on a free port; its URL."""
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


@contextlib.asynccontextmanager
async def gateway_on(
    database: Database, clock: Clock, rails: dict[str, Any] | None = None
) -> AsyncGenerator[tuple[Gateway, AsyncConnectionPool, int]]:
    """A gateway, a pool and the book ``main`` on ``database``."""
    async with contextlib.AsyncExitStack() as stack:
        pool: AsyncConnectionPool = AsyncConnectionPool(database.app_dsn, min_size=1, max_size=8, open=False)
        await stack.enter_async_context(pool)
        engine = create_async_engine(sqlalchemy_url(database.app_dsn))
        stack.push_async_callback(engine.dispose)
        async with pool.connection() as conn:
            book_id = await create_book(conn, name="main", now=clock())
        writers = Writers(database.app_dsn, clock)
        stack.push_async_callback(writers.close)
        openings = Openings(partial(AsyncConnection.connect, database.app_dsn))
        stack.push_async_callback(openings.close)
        keys = Keys("k1", {"k1": os.urandom(32)}, os.urandom(32))
        yield (
            Gateway(
                engine=engine,
                writers=writers,
                openings=openings,
                rails=rails or {},
                vault=Vault(keys, random=os.urandom),
                clock=clock,
                ids=Ids(clock),
                random=os.urandom,
            ),
            pool,
            book_id,
        )


@contextlib.asynccontextmanager
async def api_on(
    database: Database,
    *,
    rails: dict[str, Any] | None = None,
    wrap: Callable[[Any], Any] = lambda app: app,
    **settings: Any,
) -> AsyncGenerator[Api]:
    clock = Clock()
    async with gateway_on(database, clock, rails) as (gateway, pool, book_id):
        deps = AppDependencies(
            gateway=gateway,
            pool=pool,
            secrets=ApiSecrets.derive(os.urandom(32)),
            issuer="https://pay.example.test",
            base_url="https://pay.example.test",
            book_id=book_id,
            clock=clock,
            **settings,
        )
        async with (
            serving(wrap(create_app(deps))) as url,
            httpx.AsyncClient(base_url=url, timeout=30) as http,
        ):
            yield Api(http, deps, database, clock, url)


@pytest.fixture
async def api(database: Database) -> AsyncGenerator[Api]:
    async with api_on(database) as running:
        yield running


@pytest.fixture
def merchants(api: Api) -> Callable[[], Awaitable[tuple[Merchant, Merchant]]]:
    async def two() -> tuple[Merchant, Merchant]:
        return await api.merchant("Chai Point"), await api.merchant("Dosa Corner")

    return two
