"""Everything an API run needs: simulator, two API processes, the bare routes, a merchant with clients and wallets.

No ``khata worker`` runs: it would take a core's time from all that is measured, now and then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import aiohttp
from psycopg import AsyncConnection

from api.clients import create_client
from api.policy import MERCHANT_SCOPES
from bench.pairs import CURRENCY, wallet
from bench.server import BenchServer
from bench.workload import ESCROW, fund, must_stand
from gateway.core import Gateway
from khata.config import Settings
from khata.demo.cast import Member, Role, engage
from khata.stage import environment, placed
from khata.supervisor import Program, Supervisor, free_port, listens
from khata.wiring import api_secrets, open_gateway
from ledger import model as m
from ledger.books import open_accounts
from ledger.post import post


@dataclass(frozen=True)
class WebStage:
    """Ports of the API processes, of as many bare Litestar ones and of the raw answerer; ``pids`` by port."""

    api: Sequence[int]
    bare: Sequence[int]
    raw: int
    pids: Mapping[int, int]
    merchant: str
    tokens: Sequence[str]


@asynccontextmanager
async def web_stage(
    server: BenchServer, *, workers: int, clients: int, wallets: int
) -> AsyncGenerator[WebStage]:
    """All running and idle. ``clients``: of one merchant; each may ask 500 times a second."""
    settings = placed(Settings(), home=server.home, database_name=server.name, log_level="WARNING")
    ports = [free_port() for _ in range(2 * workers)]
    api, bare, raw = [settings.api_port, *ports[1:workers]], ports[workers:], free_port()
    url = f"http://127.0.0.1:{settings.api_port}"
    settings = settings.model_copy(update={"public_url": url})
    async with Supervisor(server.home, environment(settings)) as supervisor:
        pids: dict[int, int] = {}

        async def start(port: int, *words: str) -> None:
            name = f"bench-{port}"
            supervisor.next_start(name, {"KHATA_API_PORT": str(port)})
            await supervisor.start(Program(name, words, partial(listens, port)))
            pids[port] = supervisor.pid(name)

        await supervisor.start(_acquirer(settings))
        for port in api:
            await start(port, "khata", "serve")
        for port in bare:
            await start(port, "bench.web.bare", "litestar", str(port))
        await start(raw, "bench.web.bare", "raw", str(raw))
        async with open_gateway(settings, server.database) as gw:
            merchant = await engage(settings, server.database, gw, Role("Bench", CURRENCY, 0))
            await _open_wallets(server, gw, merchant, wallets)
            tokens = await _tokens(server, settings, gw, merchant, clients)
        yield WebStage(api, bare, raw, pids, merchant.merchant.owner, tokens)


def _acquirer(settings: Settings) -> Program:
    book = settings.home / "meridian"
    given = {
        "--port": settings.acquirer_port,
        "--control-port": settings.acquirer_control_port,
        "--book": book,
        "--settlement-dir": book / "settlement",
    }
    words = tuple(str(word) for pair in given.items() for word in pair)
    ready = partial(listens, settings.acquirer_control_port)
    return Program("acquirer", ("banks.simulators.acquirer", *words), ready)


async def _open_wallets(server: BenchServer, gw: Gateway, member: Member, wallets: int) -> None:
    """Wallets of the merchant's customers, each funded."""
    owner, book_id = member.merchant.owner, member.merchant.book_id
    paths = [wallet(number) for number in range(wallets)]
    accounts = [m.NewAccount(path, CURRENCY, floor=0, owner=owner) for path in paths]
    async with await AsyncConnection.connect(server.database.app_dsn) as conn:
        now = gw.clock()
        await open_accounts(conn, book_id, [m.NewAccount(ESCROW, CURRENCY), *accounts], now=now)
        must_stand(await post(conn, book_id, [fund(path, gw.ids()) for path in paths], now=now))


async def _tokens(
    server: BenchServer, settings: Settings, gw: Gateway, member: Member, clients: int
) -> list[str]:
    """An access token of each of so many clients of the merchant."""
    made: list[tuple[str, str]] = []
    async with await AsyncConnection.connect(server.database.app_dsn) as conn:
        for number in range(clients):
            made.append(
                await create_client(
                    *(conn, api_secrets(settings)),
                    name=f"bench {number}",
                    merchant_id=member.merchant.id,
                    scopes=MERCHANT_SCOPES,
                    now=gw.clock(),
                )
            )
    async with aiohttp.ClientSession() as http:
        return list(await asyncio.gather(*(_token(http, settings, *client) for client in made)))


async def _token(http: aiohttp.ClientSession, settings: Settings, client_id: str, secret: str) -> str:
    form = {"grant_type": "client_credentials", "scope": " ".join(MERCHANT_SCOPES)}
    headers = {"Authorization": aiohttp.encode_basic_auth(client_id, secret)}
    async with http.post(f"{settings.public_url}/oauth/token", data=form, headers=headers) as answer:
        body = await answer.json(content_type=None)
    if answer.status != 200:
        raise RuntimeError(f"no token: {body}")
    return body["access_token"]
