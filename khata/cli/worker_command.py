"""khata worker"""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress

import rich_click as click
import structlog
from procrastinate import App
from procrastinate.exceptions import ConnectorException

from khata.bootstrap import open_database
from khata.config import Settings
from khata.database import Database
from khata.jobs import job_app
from khata.logs import configure_logs
from khata.memory import collect_rarely
from khata.wiring import api_secrets, open_gateway

CONCURRENCY = 8
AGAIN_AFTER_S = 0.5

log = structlog.get_logger()


@click.command()
def command() -> None:
    """Run the job worker until Ctrl-C: recovery of unknown outcomes, expiry of holds, funds that become payable.

    Any number of workers may run, on any host. Example: `khata worker`
    """
    settings = Settings()
    configure_logs(settings.log_level)
    with open_database(settings) as (database, _):
        asyncio.run(work(settings, database))


async def work(settings: Settings, database: Database) -> None:
    """Work until SIGTERM or SIGINT; what is running is finished first."""
    stop = asyncio.Event()
    for signal_ in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signal_, stop.set)
    async with open_gateway(settings, database) as gw:
        collect_rarely()
        app = job_app(
            database.app_dsn,
            gw,
            api_secrets(settings),
            log_origin=settings.log_origin,
            witnesses=settings.witnesses,
        )
        async with app.open_async():
            working = asyncio.create_task(_work_on(app, stop))
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            working.cancel()
            with suppress(asyncio.CancelledError):
                await working


async def _work_on(app: App, stop: asyncio.Event) -> None:
    """A worker ends when it loses the database; another goes on as soon as there is one again."""
    while not stop.is_set():
        try:
            await app.run_worker_async(
                name="khata",
                concurrency=CONCURRENCY,
                delete_jobs="successful",
                fetch_job_polling_interval=1.0,
                install_signal_handlers=False,
            )
        except ConnectorException as error:
            log.warning("worker_lost_database", error=str(error.__cause__ or error))
        await asyncio.sleep(0 if stop.is_set() else AGAIN_AFTER_S)
