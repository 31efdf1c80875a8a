"""The job worker's tasks: schedules that look for what is due in the database and do it.

Every task is idempotent and claims its rows with SKIP LOCKED, so any number of workers may run, a job may be
delivered twice, and a worker may die anywhere: what is due stays due. Procrastinate (tables in the schema
``procrastinate``) decides when, and that one worker does it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import structlog
from procrastinate import App, PsycopgConnector
from procrastinate.jobs import Status
from psycopg import AsyncConnection

from api.clients import sweep
from api.oauth.keys import rotate_if_due
from api.secrets import ApiSecrets
from gateway import funds, recovery
from gateway.core import Gateway
from gateway.transfers import between_books
from khata.config import Witness
from khata.cosigning import Cosigning
from khata.holds import expire_ledger_holds
from khata.indexing import index_new_journals
from khata.rolling import roll_up_books
from khata.sealing import Sealer, seal_books

log = structlog.get_logger()

BATCH = 100
EVERY_SECOND = "* * * * * *"
EVERY_MINUTE = "* * * * *"
HOURLY = "0 * * * *"
KEEP_FAILED_HOURS = 7 * 24


def job_app(
    dsn: str,
    gw: Gateway,
    secrets: ApiSecrets,
    *,
    log_origin: str = "khata.local",
    witnesses: Sequence[Witness] = (),
) -> App:
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

    transfers = between_books(gw)  # one for all runs: it knows what it has tried in vain
    every(EVERY_SECOND, "recover", lambda: recovery.recover_due(gw, limit=BATCH))
    every(EVERY_SECOND, "expire_payments", lambda: recovery.expire_due(gw))
    every(EVERY_SECOND, "carry_transfers", lambda: transfers.recover(limit=BATCH))
    every(EVERY_SECOND, "expire_holds", lambda: expire_ledger_holds(gw, limit=BATCH))
    every(EVERY_SECOND, "index_journals", lambda: index_new_journals(gw))
    sealer, cosigning = Sealer(log_origin, secrets), Cosigning.of(gw, witnesses)
    every(EVERY_SECOND, "seal_books", lambda: seal_books(gw, sealer, limit=BATCH))
    every(EVERY_SECOND, "show_witnesses", cosigning.show_all)
    every(EVERY_SECOND, "roll_up_books", lambda: roll_up_books(gw, limit=BATCH))
    every(EVERY_MINUTE, "release_funds", lambda: funds.release_due(gw, on=gw.clock().date()))

    _keep_house(app)
    _keep_keys_fresh(app, dsn, gw, secrets)
    return app


def _keep_keys_fresh(app: App, dsn: str, gw: Gateway, secrets: ApiSecrets) -> None:
    @app.periodic(cron=HOURLY)
    @app.task(name="keep_keys_fresh", queueing_lock="keep_keys_fresh")
    async def keep_keys_fresh(timestamp: int) -> None:
        """Signing keys are rotated when due; outdated sign-in attempts, assertions and answers are forgotten."""
        del timestamp
        async with await AsyncConnection.connect(dsn) as conn:
            await rotate_if_due(conn, secrets, now=gw.clock())
            await sweep(conn, now=gw.clock())

    del keep_keys_fresh


def _keep_house(app: App) -> None:
    @app.periodic(cron=EVERY_MINUTE)
    @app.task(name="close_stalled", queueing_lock="close_stalled")
    async def close_stalled(timestamp: int) -> None:
        """Runs of a worker that died are closed, not repeated: the schedule has long begun the next ones."""
        del timestamp
        for job in await app.job_manager.get_stalled_jobs():
            if job.id is not None:
                await app.job_manager.finish_job_by_id_async(job.id, Status.FAILED, delete_job=False)

    @app.periodic(cron=HOURLY)
    @app.task(name="forget_failed", queueing_lock="forget_failed")
    async def forget_failed(timestamp: int) -> None:
        """Failed runs are kept for a look at them, for a week."""
        del timestamp
        await app.job_manager.delete_old_jobs(KEEP_FAILED_HOURS, include_failed=True)

    del close_stalled, forget_failed


async def _drain(name: str, work: Callable[[], Awaitable[int]]) -> None:
    """Batch after batch, until nothing more is due."""
    while done := await work():
        log.info("job", task=name, done=done)
        if done < BATCH:
            return
