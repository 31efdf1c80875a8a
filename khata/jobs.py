"""The job worker's tasks: schedules that look for what is due in the database and do it.

Every task is idempotent and claims its rows with SKIP LOCKED, so any number of workers may run, a job may be
delivered twice, and a worker may die anywhere: what is due stays due. Procrastinate (tables in the schema
``procrastinate``) decides when, and that one worker does it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog
from procrastinate import App, PsycopgConnector

from gateway import funds, recovery
from gateway.core import Gateway
from khata.holds import expire_ledger_holds

log = structlog.get_logger()

BATCH = 100
EVERY_SECOND = "* * * * * *"
EVERY_MINUTE = "* * * * *"
HOURLY = "0 * * * *"


def job_app(dsn: str, gw: Gateway) -> App:
    """The procrastinate application of ``gw``. ``dsn``: libpq URL of ``khata_app``."""
    options = {"options": "-c search_path=procrastinate"}
    app = App(connector=PsycopgConnector(conninfo=dsn, kwargs=options, min_size=1, max_size=4))

    def every(cron: str, name: str, work: Callable[[], Awaitable[int]]) -> None:
        # A queueing lock: while one run waits for a worker, the next is not queued behind it.
        @app.periodic(cron=cron)
        @app.task(name=name, queueing_lock=name, pass_context=False)
        async def task(timestamp: int) -> None:
            del timestamp
            await _drain(name, work)

        del task

    every(EVERY_SECOND, "recover", lambda: recovery.recover_due(gw, limit=BATCH))
    every(EVERY_SECOND, "expire_payments", lambda: recovery.expire_due(gw))
    every(EVERY_SECOND, "expire_holds", lambda: expire_ledger_holds(gw, limit=BATCH))
    every(EVERY_MINUTE, "release_funds", lambda: funds.release_due(gw, on=gw.clock().date()))

    @app.periodic(cron=EVERY_MINUTE)
    @app.task(name="retry_stalled", queueing_lock="retry_stalled")
    async def retry_stalled(timestamp: int) -> None:
        """Jobs of a worker that died are given to another."""
        del timestamp
        for job in await app.job_manager.get_stalled_jobs():
            await app.job_manager.retry_job(job, retry_at=gw.clock())

    del retry_stalled
    return app


async def _drain(name: str, work: Callable[[], Awaitable[int]]) -> None:
    """Batch after batch, until nothing more is due."""
    while done := await work():
        log.info("job", task=name, done=done)
        if done < BATCH:
            return
