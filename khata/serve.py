"""Serves the API and the pages: one process, one event loop, everything opened before and closed after."""

from __future__ import annotations

import uvicorn
import uvloop
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from api.app import create_app
from api.dependencies import AppDependencies
from api.pages.plugin import Pages
from khata.clock import utc_now
from khata.config import Settings
from khata.database import Database
from khata.memory import collect_rarely
from khata.wiring import api_secrets, open_gateway
from ledger.books import create_book

DRAIN_S = 10


def serve(settings: Settings, database: Database) -> None:
    """Serve until SIGTERM or SIGINT; requests under way are answered first."""
    uvloop.run(_serve(settings, database))


async def _serve(settings: Settings, database: Database) -> None:
    url = settings.public_url or f"http://{settings.api_host}:{settings.api_port}"
    check = AsyncConnectionPool[AsyncConnection].check_connection
    pool = AsyncConnectionPool[AsyncConnection](
        database.app_dsn, min_size=1, max_size=20, open=False, check=check
    )
    async with open_gateway(settings, database) as gateway, pool:
        async with pool.connection() as conn:
            book_id = await create_book(conn, name=settings.book, now=utc_now())
        deps = AppDependencies(
            gateway=gateway,
            pool=pool,
            secrets=api_secrets(settings),
            issuer=url,
            base_url=url,
            book_id=book_id,
            clock=utc_now,
        )
        config = uvicorn.Config(
            create_app(deps, plugins=[Pages()]),
            host=settings.api_host,
            port=settings.api_port,
            http="httptools",
            ws="none",
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=DRAIN_S,
        )
        collect_rarely()
        await uvicorn.Server(config).serve()
