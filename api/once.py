"""Exactly-once for the POSTs that are not the gateway's: one effect and one answer for each Idempotency-Key.

The row that claims a key is committed with the journal, by the ledger's writer. An answer that is known before is in
that row; another is read off the books right after and filled in once: whoever comes later, also after a crash in
between, gets that answer. A key is not looked up before it is used: the journal's source, or the row, tells that it
was used before.
Two requests with one key at the same time meet at the journal's source key, which is made from the key, or, where
they are for different books, at the row: the second waits for the first and gets its answer, or is refused.

Answers are kept sealed: one of them is a link that is as good as a password.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import AsyncConnection

from api.answers import Answer, as_answer
from api.dependencies import AppDependencies
from api.errors import ApiError
from api.operation import ApiRequest
from api.schemas.base import View
from api.secrets import ApiSecrets
from gateway.errors import IdempotencyInFlight, IdempotencyMismatch
from ledger.errors import LedgerError, Refusal, SourceConflict, StatementRefused
from ledger.model import Journal, Source, Statement, Unit

_CLAIM = (
    "INSERT INTO api.idempotency (caller, route, key, request_hash, created_at)"
    " VALUES (%(caller)s, %(route)s, %(key)s, %(hash)s, %(now)s)"
)
_CLAIM_IF_NEW = _CLAIM + " ON CONFLICT DO NOTHING"
# For all of a batch at once (``Statement.together``). Without status and body, the answer is to follow.
_CLAIM_ALL = """
INSERT INTO api.idempotency (caller, route, key, request_hash, status, sealed_body, created_at)
SELECT caller, route, key, decode(hash, 'hex'), status, decode(body, 'hex'), now
  FROM jsonb_to_recordset(%(rows)s::jsonb)
    AS r (caller text, route text, key text, hash text, status integer, body text, now timestamptz)"""
_ANSWER = (
    "UPDATE api.idempotency SET status = %(status)s, sealed_body = %(body)s"
    " WHERE caller = %(caller)s AND route = %(route)s AND key = %(key)s AND sealed_body IS NULL"
)
_FIND = (
    "SELECT request_hash, status, sealed_body FROM api.idempotency"
    " WHERE caller = %(caller)s AND route = %(route)s AND key = %(key)s"
)
Conn = AsyncConnection[Any]


@dataclass(frozen=True, slots=True)
class Once:
    """``caller``: the merchant's public id, or the platform client's id. ``route``: a name, not a path.

    ``digest``: 64 hexadecimal digits for (caller, route, key).
    """

    caller: str
    route: str
    key: str
    request_hash: bytes
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        text = "\n".join((self.caller, self.route, self.key))
        object.__setattr__(self, "digest", hashlib.sha256(text.encode()).hexdigest())

    @property
    def source(self) -> Source:
        """The source key of the journal that this request may cause."""
        return Source("api", self.digest, self.route)

    def source_of(self, index: int) -> Source:
        """The source key of the journal for item ``index`` (from 0) of a request for several."""
        return Source("api", self.digest, f"{self.route}_{index + 1}")

    @property
    def id(self) -> UUID:
        """A UUID of its own (version 8, RFC 9562 §5.8): the same for every try."""
        value = int(self.digest[:32], 16) & ~(0xF << 76) | 0x8 << 76
        return UUID(int=value & ~(0x3 << 62) | 0x2 << 62)


async def once_of(request: ApiRequest, owner: str | None, route: str) -> Once:
    """``owner``: the merchant's public id, None for a platform client. Raises ``IdempotencyKeyMissing``."""
    path = request.scope.get("root_path", "") + request.scope["path"]
    digest = request.deps.secrets.request_hash(request.method, path, await request.body())
    return Once(owner or request.auth.client_id, route, request.idempotency_key(), digest)


class _Row(NamedTuple):
    request_hash: bytes
    status: int | None
    sealed_body: bytes | None


async def replay(conn: Conn, secrets: ApiSecrets, once: Once) -> Answer | None:
    """The first answer, byte for byte; None if there is none yet. Raises ``IdempotencyMismatch``."""
    found = await (await conn.execute(_FIND, _key(once))).fetchone()
    if found is None:
        return None
    row = _Row(*found)
    if not hmac.compare_digest(row.request_hash, once.request_hash):
        raise IdempotencyMismatch(once.key)
    if row.status is None or row.sealed_body is None:
        return None
    return as_answer(secrets.open(row.sealed_body, once.digest), status=row.status)


async def first_or(deps: AppDependencies, once: Once, work: Callable[[], Awaitable[Answer]]) -> Answer:
    """What ``work`` answers. Where it refuses, the first answer to the key, if it was answered before: the books may
    have changed since. Raises ``IdempotencyMismatch``, else the refusal.
    """
    try:
        return await work()
    except (ApiError, LedgerError):
        async with deps.pool.connection() as conn:
            known = await replay(conn, deps.secrets, once)
        if known is None:
            raise
        return known


async def post_once(
    deps: AppDependencies,
    once: Once,
    book_id: int,
    journals: Sequence[Journal],
    answer: Callable[[Conn], Awaitable[View]],
    *,
    status: int = 200,
    made: View | None = None,
) -> Answer:
    """Post ``journals`` (``once``'s sources are theirs) as one unit and answer with ``answer``'s view of the books.

    ``made``: what that view will be if they stand, where it is known: kept with them, and nothing is read again.
    Raises the ledger's refusal; nothing is kept of it, so the same request may succeed later.
    """
    body = None if made is None else made.json_bytes()
    claim = Statement(_CLAIM_ALL, _claimed(deps, once, status, body), together=True)
    result = await deps.gateway.writers(book_id).submit(Unit(tuple(journals), (claim,)))
    if isinstance(result, SourceConflict):
        raise IdempotencyMismatch(once.key)
    if isinstance(result, StatementRefused):
        return await _first_answer(deps, once)
    if isinstance(result, Refusal):
        raise result
    if body is not None and not result.replayed:
        return as_answer(body, status=status)
    async with deps.pool.connection() as conn:
        known = await replay(conn, deps.secrets, once)
        return known or await _fill(conn, deps, once, await answer(conn), status)


def _claimed(deps: AppDependencies, once: Once, status: int, body: bytes | None) -> dict[str, Any]:
    """An element of ``_CLAIM_ALL``."""
    return {
        "caller": once.caller,
        "route": once.route,
        "key": once.key,
        "hash": once.request_hash.hex(),
        "status": None if body is None else status,
        "body": None if body is None else deps.secrets.seal(body, once.digest).hex(),
        "now": deps.clock().isoformat(),
    }


async def _first_answer(deps: AppDependencies, once: Once) -> Answer:
    """Another request has claimed the key meanwhile, with another journal: its answer, if it was the same request.

    Raises ``IdempotencyMismatch``, and ``IdempotencyInFlight`` while there is no answer.
    """
    async with deps.pool.connection() as conn:
        known = await replay(conn, deps.secrets, once)
    if known is None:
        raise IdempotencyInFlight(once.key, 1)
    return known


async def change_once(
    deps: AppDependencies, once: Once, change: Callable[[Conn], Awaitable[View]], *, status: int = 200
) -> Answer:
    """Answer with what ``change`` makes of the database, in one transaction with the key and the answer.

    Raises what ``change`` raises; then nothing is kept, so the same request may succeed later.
    """
    async with deps.pool.connection() as conn:
        # The row of the key makes a second request wait until the first has been committed.
        await conn.execute(_CLAIM_IF_NEW, _claim(once, deps.clock()))
        known = await replay(conn, deps.secrets, once)
        return known or await _fill(conn, deps, once, await change(conn), status)


async def make_once(
    deps: AppDependencies, once: Once, make: Callable[[], Awaitable[View]], *, status: int = 200
) -> Answer:
    """Answer with what ``make`` makes, the first time.

    For things that do no harm if they are made and their answer is lost: another is made then.
    """
    async with deps.pool.connection() as conn:
        known = await replay(conn, deps.secrets, once)
    return known or await _make(deps, once, make, status)


async def send_once(
    deps: AppDependencies, once: Once, send: Callable[[], Awaitable[View]], *, status: int = 200
) -> Answer:
    """Answer with what ``send`` did, which takes several transactions, so none of them can hold the key.

    The key is this request's before anything is sent, and stays so when ``send`` raises: what was sent by then is
    known only to the same request, which goes on where it stopped. ``send`` itself does nothing twice.
    """
    async with deps.pool.connection() as conn:
        await conn.execute(_CLAIM_IF_NEW, _claim(once, deps.clock()))
        known = await replay(conn, deps.secrets, once)
    return known or await _make(deps, once, send, status)


async def _make(
    deps: AppDependencies, once: Once, make: Callable[[], Awaitable[View]], status: int
) -> Answer:
    made = await make()
    async with deps.pool.connection() as conn:
        return await _fill(conn, deps, once, made, status)


async def _fill(conn: Conn, deps: AppDependencies, once: Once, made: View, status: int) -> Answer:
    """Keep ``made`` as the answer, unless another request was faster: what is kept is the answer.

    The key may have to be claimed again: a journal stands for ever, its answer is kept for days.
    """
    sealed = deps.secrets.seal(made.json_bytes(), once.digest)
    await conn.execute(_CLAIM_IF_NEW, _claim(once, deps.clock()))
    await conn.execute(_ANSWER, _key(once) | {"status": status, "body": sealed})
    kept = await replay(conn, deps.secrets, once)
    assert kept is not None
    return kept


def _key(once: Once) -> dict[str, Any]:
    return {"caller": once.caller, "route": once.route, "key": once.key}


def _claim(once: Once, now: datetime) -> dict[str, Any]:
    return _key(once) | {"hash": once.request_hash, "now": now}
