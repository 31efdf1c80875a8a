"""The access log: every call of a platform client and every denied attempt, one entry each.

An entry of a platform client is committed before its call is carried out, so whatever it saw or did, it stands there:
if the entry cannot be written, the call is refused (503). One that is denied is committed before it is told so. What a
merchant's client does with what is its own is nobody's privilege: it writes nothing here and waits for nothing.

An entry never holds a body, a header or a token. Of the query it holds which parameters were given, and two values
that are no secrets: the number of a book and the id of a merchant.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, cast
from urllib.parse import parse_qsl
from uuid import UUID

import orjson
import structlog
from litestar.types import HTTPScope
from psycopg import AsyncConnection
from psycopg.rows import class_row
from psycopg_pool import AsyncConnectionPool

from gateway.errors import IdInvalid
from gateway.ids import MERCHANT, parse

log = structlog.get_logger("khata.api")

CLAIMED = "khata.claimed"
"""In a request's scope: the client that somebody who is not let in says to be."""
_MOST = 200  # entries a statement
_LONGEST_SUBJECT = 600
_WRITE = """
INSERT INTO api.access_entry
       (entry_id, at, person, address, method, route, subject, asked, book, outcome, code, request_id)
SELECT entry_id, at, person, address, method, route, subject, asked, book, outcome, code, request_id
  FROM jsonb_to_recordset(%s::jsonb)
    AS r (entry_id uuid, at timestamptz, person text, address text, method text, route text, subject text, asked text[],
          book text, outcome text, code text, request_id uuid)"""
_READ = """
SELECT entry_id, at, person, address, method, route, subject, asked, book, outcome, code, request_id
  FROM api.access_entry WHERE entry_id < coalesce(%(before)s, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)"""


@dataclass(frozen=True, slots=True)
class Access:
    """``person``: a client's id or who was logged in; None: a stranger. ``asked``: names of query parameters.

    ``outcome`` admitted: the policy let the caller in; what it then did, the books tell. ``code``: why it was denied.
    """

    entry_id: UUID
    at: datetime
    person: str | None
    address: str
    method: str
    route: str
    outcome: Literal["admitted", "denied"]
    subject: str = ""
    asked: Sequence[str] = ()
    book: str | None = None
    code: str | None = None
    request_id: UUID | None = None


async def write(conn: AsyncConnection[Any], entries: Iterable[Access]) -> None:
    """Add ``entries``. Never commits."""
    await conn.execute(_WRITE, [orjson.dumps(list(entries)).decode()])


async def read(
    conn: AsyncConnection[Any],
    *,
    before: UUID | None = None,
    limit: int,
    person: str | None = None,
    denied: bool = False,
) -> list[Access]:
    """The newest entries first; only ``person``'s, only those denied."""
    sql = _READ + (" AND person = %(person)s" if person is not None else "")
    sql += " AND outcome = 'denied'" if denied else ""
    async with conn.cursor(row_factory=class_row(Access)) as cursor:
        await cursor.execute(
            sql + " ORDER BY entry_id DESC LIMIT %(limit)s",
            {"before": before, "person": person, "limit": limit},
        )
        return await cursor.fetchall()


class AccessLog:
    """Entries that wait at the same time are written by one statement; there is no timer, as in ``api.reads``."""

    def __init__(
        self, pool: AsyncConnectionPool, ids: Callable[[], UUID], clock: Callable[[], datetime]
    ) -> None:
        self._pool = pool
        self._ids = ids
        self._clock = clock
        self._waiting: list[tuple[Access, asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None

    async def admit(self, scope: HTTPScope) -> None:
        """Write that the caller of ``scope`` is let in; that is committed at the end. Raises the database's error."""
        await self._record(self._entry(scope, "admitted", None))

    async def deny(self, scope: HTTPScope, code: str) -> None:
        """Write that it is turned away, and why. What cannot be written is told to our log: it stays turned away."""
        try:
            await self._record(self._entry(scope, "denied", code))
        except Exception as error:
            log.error("denial_not_recorded", code=code, error=type(error).__qualname__)

    def _entry(self, scope: HTTPScope, outcome: Literal["admitted", "denied"], code: str | None) -> Access:
        given = cast("dict[str, Any]", scope)
        client = scope.get("client")
        asked = _asked(given)
        return Access(
            entry_id=self._ids(),
            at=self._clock(),
            person=getattr(given.get("auth"), "client_id", None),
            address=client[0] if client else "unknown",
            method=scope["method"],
            route=given.get("path_template") or "unmatched",
            outcome=outcome,
            subject=_subject(given, asked),
            asked=sorted(asked),
            book=_book(asked),
            code=code,
            request_id=UUID(given["khata.request_id"]) if "khata.request_id" in given else None,
        )

    async def _record(self, entry: Access) -> None:
        written = asyncio.get_running_loop().create_future()
        self._waiting.append((entry, written))
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="access log")
        await written

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
                await self._write(batch)
        finally:
            self._task = None

    async def _write(self, batch: Sequence[tuple[Access, asyncio.Future[None]]]) -> None:
        failed: BaseException | None = None
        try:
            async with self._pool.connection() as conn:
                await write(conn, [entry for entry, _ in batch])
        except BaseException as error:
            failed = error
        for _, written in batch:
            if not written.done():  # it is, if its request was given up
                if failed is None:
                    written.set_result(None)
                else:
                    written.set_exception(failed)
        if failed is not None and not isinstance(failed, Exception):
            raise failed


def _subject(scope: dict[str, Any], asked: dict[str, str]) -> str:
    """The ids in the path and the query's merchant, or the client that is claimed; nothing that no id looks like."""
    ids = [str(value) for value in (scope.get("path_params") or {}).values()]
    said = scope.get(CLAIMED) or " ".join([*ids, *_merchant(asked)])
    return said if said.isprintable() and len(said) <= _LONGEST_SUBJECT else ""


def _asked(scope: dict[str, Any]) -> dict[str, str]:
    """The parameters of the query that the route knows, each once."""
    operation = getattr(scope.get("route_handler"), "opt", {}).get("operation")
    model = getattr(operation, "query", None)
    if model is None or not scope["query_string"]:
        return {}
    known = {field.alias or name for name, field in model.model_fields.items()}
    pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    given = {name.partition("[")[0]: value for name, value in pairs}
    return {name: value for name, value in given.items() if name in known}


def _merchant(asked: dict[str, str]) -> list[str]:
    try:
        parse(MERCHANT, merchant := asked.get("merchant", ""))
    except IdInvalid:
        return []
    return [merchant]


def _book(asked: dict[str, str]) -> str | None:
    book = asked.get("book", "")
    return book if book.isascii() and book.isdigit() and len(book) < 10 else None
