"""What the job worker does about workers that died."""

from __future__ import annotations

from psycopg import AsyncConnection

from api.secrets import ApiSecrets
from khata.database import Database
from khata.jobs import job_app
from tests.api.conftest import Clock, gateway_on


async def test_a_run_of_a_worker_that_died_is_closed_though_the_next_one_waits(database: Database) -> None:
    """Given back it would be a second one that waits, which the queueing lock refuses."""
    async with (
        gateway_on(database, Clock()) as (gw, _, _),
        await AsyncConnection.connect(
            database.app_dsn, autocommit=True, options="-c search_path=procrastinate"
        ) as conn,
    ):
        for status in ("doing", "todo"):
            await conn.execute(
                "INSERT INTO procrastinate_jobs (queue_name, task_name, queueing_lock, status)"
                " VALUES ('default', 'recover', 'recover', %s)",
                [status],
            )
        app = job_app(database.app_dsn, gw, ApiSecrets.derive(bytes(32)))
        async with app.open_async():
            await app.tasks["close_stalled"](timestamp=0)
        rows = await conn.execute("SELECT status FROM procrastinate_jobs ORDER BY id")
        assert await rows.fetchall() == [("failed",), ("todo",)]
