"""The posting path's own way to the server: prepared statements, binary, in one round trip.

psycopg's cursors prepare, adapt and wait for each statement in general; for a batch of one that costs more than
posting it. This sends bytes that are ready through the same libpq connection.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from psycopg import AsyncConnection, OperationalError, errors
from psycopg.pq import ExecStatus, Format
from psycopg.pq.abc import PGconn, PGresult

_names: WeakKeyDictionary[PGconn, dict[bytes, bytes]] = WeakKeyDictionary()
_numbers = itertools.count(1)
_DONE = (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK)


async def prepare(conn: AsyncConnection[Any], name: bytes, sql: bytes, types: Sequence[int]) -> None:
    """Prepare ``sql`` under ``name`` for this session; ``types``: the oids of its parameters."""
    conn.pgconn.send_prepare(name, sql, types)
    await _result(conn.pgconn)


async def execute(conn: AsyncConnection[Any], name: bytes, params: Sequence[bytes | None]) -> PGresult:
    """Run a prepared statement; every parameter and column is in PostgreSQL's binary format.

    Outside a transaction it is one of its own, and its answer says that it is committed. ``conn`` must not be in use
    otherwise. Raises ``psycopg.Error`` of the server's SQLSTATE, ``OperationalError`` when the connection is lost: then
    it is unknown whether the statement is committed. A caller that is cancelled while it waits leaves the connection
    unusable.
    """
    await send(conn, name, params)
    return await answer(conn)


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


@dataclass(frozen=True, slots=True)
class Call:
    """A statement and its parameters. ``types``: their oids, 0 for one that the server infers.

    ``form``: theirs, of all of them.
    """

    sql: bytes
    types: Sequence[int]
    params: Sequence[bytes | None]
    form: Format = Format.BINARY


async def named(conn: AsyncConnection[Any], sql: bytes, types: Sequence[int]) -> bytes:
    """The name of ``sql`` on this connection, prepared when it is first asked for."""
    names = _names.setdefault(conn.pgconn, {})
    if sql not in names:
        name = f"khata_{next(_numbers)}".encode()  # never twice: what psycopg gives up, it may give up later
        await prepare(conn, name, sql, types)
        names[sql] = name
    return names[sql]


def rolled_back(conn: AsyncConnection[Any]) -> None:
    """psycopg gives up what was prepared on a connection when it rolls back: say so."""
    _names.pop(conn.pgconn, None)


async def send_call(conn: AsyncConnection[Any], call: Call) -> None:
    """As ``send``."""
    await send(conn, await named(conn, call.sql, call.types), call.params)


async def send_begin(conn: AsyncConnection[Any], calls: Sequence[Call]) -> None:
    """Send a transaction that ``calls`` are the first of; it stays open. ``answers_of_begin`` waits for them."""
    pgconn = conn.pgconn
    names = [await named(conn, call.sql, call.types) for call in calls]
    pgconn.enter_pipeline_mode()
    pgconn.send_query_params(b"BEGIN", None)
    for name, call in zip(names, calls, strict=True):
        formats = [call.form] * len(call.params)
        pgconn.send_query_prepared(name, call.params, param_formats=formats, result_format=Format.BINARY)
    pgconn.pipeline_sync()
    pgconn.flush()


async def answers_of_begin(conn: AsyncConnection[Any], calls: int) -> list[PGresult]:
    """What the server says of each. Raises as ``execute`` does."""
    pgconn = conn.pgconn
    results = [await _next(pgconn) for _ in range(1 + calls)]
    await _next(pgconn)  # that all of them were answered
    pgconn.exit_pipeline_mode()
    return [_checked(result, pgconn) for result in results][1:]


async def commit(conn: AsyncConnection[Any]) -> None:
    """Commit what ``send_begin`` opened. Raises as ``execute`` does."""
    conn.pgconn.send_query_params(b"COMMIT", None)
    await answer(conn)


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
