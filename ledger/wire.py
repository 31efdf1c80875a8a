"""The posting path's own way to the server: one prepared statement, binary in and out, one round trip.

psycopg's cursors prepare, adapt and wait for each statement in general; for a batch of one that costs more than
posting it. This sends bytes that are ready through the same libpq connection. Outside an explicit transaction the
statement is one of its own: its answer says that it is committed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from psycopg import AsyncConnection, OperationalError, errors
from psycopg.pq import ExecStatus, Format
from psycopg.pq.abc import PGconn, PGresult

_DONE = (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK)


async def prepare(conn: AsyncConnection[Any], name: bytes, sql: bytes, types: Sequence[int]) -> None:
    """Prepare ``sql`` under ``name`` for this session; ``types``: the oids of its parameters."""
    conn.pgconn.send_prepare(name, sql, types)
    await _result(conn.pgconn)


async def execute(
    conn: AsyncConnection[Any], name: bytes, params: Sequence[bytes | None], *, begin: bool = False
) -> PGresult:
    """Run a prepared statement; every parameter and column is in PostgreSQL's binary format.

    ``begin``: as the first of a transaction that stays open. ``conn`` must not be in use otherwise. Raises
    ``psycopg.Error`` of the server's SQLSTATE, ``OperationalError`` when the connection is lost: then it is unknown
    whether the statement is committed. A caller that is cancelled while it waits leaves the connection unusable.
    """
    pgconn = conn.pgconn
    formats = [Format.BINARY] * len(params)
    if not begin:
        pgconn.send_query_prepared(name, params, param_formats=formats, result_format=Format.BINARY)
        return await _result(pgconn)
    pgconn.enter_pipeline_mode()
    pgconn.send_query_params(b"BEGIN", None)
    pgconn.send_query_prepared(name, params, param_formats=formats, result_format=Format.BINARY)
    pgconn.pipeline_sync()
    results = [await _next(pgconn), await _next(pgconn)]
    await _next(pgconn)  # that everything was answered
    pgconn.exit_pipeline_mode()
    return [_checked(result, pgconn) for result in results][-1]


async def send(conn: AsyncConnection[Any], name: bytes, params: Sequence[bytes | None]) -> None:
    """Hand a prepared statement to the server as a whole; ``answer`` waits for what it says. As ``execute`` otherwise.

    For large ones: who computes while the server is still reading keeps it waiting.
    """
    pgconn = conn.pgconn
    pgconn.send_query_prepared(
        name, params, param_formats=[Format.BINARY] * len(params), result_format=Format.BINARY
    )
    while pgconn.flush() == 1:
        await _ready(asyncio.get_running_loop(), pgconn.socket, writing=True)
        pgconn.consume_input()


async def answer(conn: AsyncConnection[Any]) -> PGresult:
    """What the server says of the statement that was sent. Raises as ``execute`` does."""
    return await _result(conn.pgconn)


async def _result(pgconn: PGconn) -> PGresult:
    return _checked(await _next(pgconn), pgconn)


async def _next(pgconn: PGconn) -> PGresult | None:
    """What the server says of the next statement that was sent."""
    loop = asyncio.get_running_loop()
    last: PGresult | None = None
    while True:
        more_to_send = pgconn.flush() == 1
        while not pgconn.is_busy():
            result = pgconn.get_result()
            if result is None:
                return last
            last = result
            if result.status == ExecStatus.PIPELINE_SYNC:
                return last
        await _ready(loop, pgconn.socket, writing=more_to_send)
        pgconn.consume_input()


async def _ready(loop: asyncio.AbstractEventLoop, socket: int, *, writing: bool) -> None:
    """Wait until the socket has something to read or, if ``writing``, takes more."""
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(socket, wake)
    if writing:
        loop.add_writer(socket, wake)
    try:
        await ready
    finally:
        loop.remove_reader(socket)
        if writing:
            loop.remove_writer(socket)


def _checked(result: PGresult | None, pgconn: PGconn) -> PGresult:
    if result is None:
        raise OperationalError(pgconn.get_error_message())
    if result.status not in _DONE:
        raise errors.error_from_result(result)
    return result
