"""khata worker"""

from __future__ import annotations

import asyncio

import rich_click as click

from khata.bootstrap import open_database
from khata.config import Settings
from khata.database import Database
from khata.jobs import job_app
from khata.logs import configure_logs
from khata.wiring import open_gateway

CONCURRENCY = 8


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
    async with open_gateway(settings, database) as gw:
        app = job_app(database.app_dsn, gw)
        async with app.open_async():
            await app.run_worker_async(
                name="khata",
                concurrency=CONCURRENCY,
                delete_jobs="successful",
                fetch_job_polling_interval=1.0,
            )
