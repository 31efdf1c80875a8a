"""Exactly-once for the POSTs that are not the gateway's: one journal and one answer for each Idempotency-Key.

The row that claims the key is committed with the journal, by the ledger's writer. The answer is read off the
books right after and filled in once: whoever comes later, also after a crash in between, gets that answer.
Two requests with one key at the same time meet at the journal's source key, which is made from the key: the
second waits for the first and gets its answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, cast
from uuid import UUID

from litestar import Response
from psycopg import AsyncConnection

from api.answers import JSON, as_answer
from api.dependencies import AppDependencies
from api.schemas.base import View
from gateway.errors import IdempotencyMismatch
from ledger.errors import Refusal, SourceConflict
from ledger.model import Journal, Source, Statement, Unit

_CLAIM = (
    "INSERT INTO api.idempotency (caller, route, key, request_hash, created_at)"
    " VALUES (%(caller)s, %(route)s, %(key)s, %(hash)s, %(now)s)"
)
_ANSWER = (
    "UPDATE api.idempotency SET status = %(status)s, content_type = %(type)s, body = %(body)s"
    " WHERE caller = %(caller)s AND route = %(route)s AND key = %(key)s AND body IS NULL"
)
_FIND = (
    "SELECT request_hash, status, content_type, body FROM api.idempotency"
    " WHERE caller = %(caller)s AND route = %(route)s AND key = %(key)s"
)
Conn = AsyncConnection[Any]


@dataclass(frozen=True, slots=True)
class Once:
    """``caller``: the merchant's public id, or the platform client's id. ``route``: a name, not a path."""

    caller: str
    route: str
    key: str
    request_hash: bytes

    @property
    def digest(self) -> str:
        """64 hexadecimal digits for (caller, route, key)."""
        return hashlib.sha256("\n".join((self.caller, self.route, self.key)).encode()).hexdigest()

    @property
    def source(self) -> Source:
        """The source key of the journal that this request may cause."""
        return Source("api", self.digest, self.route)

    @property
    def id(self) -> UUID:
        """A UUID of its own (version 8, RFC 9562 §5.8): the same for every try."""
        value = int(self.digest[:32], 16) & ~(0xF << 76) | 0x8 << 76
        return UUID(int=value & ~(0x3 << 62) | 0x2 << 62)


class _Row(NamedTuple):
    request_hash: bytes
    status: int | None
    content_type: str | None
    body: bytes | None


async def replay(conn: Conn, once: Once) -> Response[bytes] | None:
    """The first answer, byte for byte; None if there is none yet. Raises ``IdempotencyMismatch``."""
    row = await _find(conn, once)
    return None if row is None or row.body is None else _response(row)


async def post_once(
    deps: AppDependencies,
    once: Once,
    book_id: int,
    journal: Journal,
    answer: Callable[[Conn], Awaitable[View]],
    *,
    status: int = 200,
) -> Response[bytes]:
    """Post ``journal`` (with ``once.source`` as its source) and answer with ``answer``'s view of the books.

    Raises the ledger's refusal; nothing is kept of it, so the same request may succeed later.
    """
    claim = Statement(_CLAIM, _key(once) | {"hash": once.request_hash, "now": deps.clock()})
    result = await deps.gateway.writers(book_id).submit(Unit((journal,), (claim,)))
    if isinstance(result, SourceConflict):
        raise IdempotencyMismatch(once.key)
    if isinstance(result, Refusal):
        raise result
    return await _complete(deps, once, answer, status)


async def _complete(
    deps: AppDependencies, once: Once, answer: Callable[[Conn], Awaitable[View]], status: int
) -> Response[bytes]:
    async with deps.pool.connection() as conn:
        row = await _find(conn, once)
        if row is not None and row.body is None:
            body = (await answer(conn)).json_bytes()
            await conn.execute(_ANSWER, _key(once) | {"status": status, "type": JSON, "body": body})
            # Somebody else may have been faster: what stands in the row is the answer.
            row = await _find(conn, once)
    assert row is not None
    return _response(row)


def _response(row: _Row) -> Response[bytes]:
    return as_answer(
        cast(bytes, row.body), status=cast(int, row.status), media_type=cast(str, row.content_type)
    )


async def _find(conn: Conn, once: Once) -> _Row | None:
    found = await (await conn.execute(_FIND, _key(once))).fetchone()
    if found is None:
        return None
    row = _Row(*found)
    if bytes(row.request_hash) != once.request_hash:
        raise IdempotencyMismatch(once.key)
    return row


def _key(once: Once) -> dict[str, Any]:
    return {"caller": once.caller, "route": once.route, "key": once.key}
