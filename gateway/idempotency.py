"""Same key, same answer, byte for byte (payments.md, "Idempotency").

A key is claimed in the transaction of the request's first effect, and its answer is stored in that of its last.
If the process dies in between, a retry after the lease answers from the object's present state and stores that.
A request refused before it had any effect claims nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from hmac import compare_digest
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.engine import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import store, tables
from gateway.core import Gateway
from gateway.errors import (
    Contended,
    GatewayError,
    IdempotencyInFlight,
    IdempotencyMismatch,
    Invalid,
    Unbookable,
)
from gateway.model import Payment, Refund
from gateway.store import Row, hexed, insertion
from ledger.model import Statement

MAX_KEY = 255
_I = tables.idempotency

Render = Callable[[Payment | Refund], tuple[int, bytes]]


@dataclass(frozen=True, slots=True)
class Idem:
    """A request that may come again. ``request_hash``: SHA-256 of what was asked; ``route``: of which operation.

    ``render`` makes status and body of the answer; it must be pure, it may run more than once.
    """

    key: str
    request_hash: bytes
    render: Render
    route: str = ""
    _rendered: list[tuple[Payment | Refund, tuple[int, bytes]]] = field(
        default_factory=list["tuple[Payment | Refund, tuple[int, bytes]]"], repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if not 1 <= len(self.key) <= MAX_KEY:
            raise Invalid("Idempotency-Key", f"1 to {MAX_KEY} characters")
        if len(self.request_hash) != 32:
            raise Invalid("request_hash", "a SHA-256 digest")

    def answer(self, result: Payment | Refund) -> tuple[int, bytes]:
        """Status and body for ``result``, rendered once: what is stored and what is sent are one."""
        for known, rendered in self._rendered:
            if known is result:
                return rendered
        self._rendered.append((result, self.render(result)))
        return self._rendered[-1][1]


@dataclass(frozen=True, slots=True)
class Answer:
    """``replayed``: it was given before."""

    status: int
    body: bytes
    replayed: bool = False


_CLAIM = insertion(_I) + " ON CONFLICT DO NOTHING"


def claim_row(
    idem: Idem | None, merchant_id: UUID, kind: str, object_id: UUID, *, now: datetime, lease_until: datetime
) -> tuple[Row, ...]:
    """The row of the key, claimed for this payment or refund; without an answer."""
    if idem is None:
        return ()
    row = {
        "merchant_id": merchant_id,
        "route": idem.route,
        "key": idem.key,
        "request_hash": hexed(idem.request_hash),
        "object_kind": kind,
        "object_id": object_id,
        "lease_until": lease_until,
        "created_at": now,
    }
    return (row,)


def claim(
    idem: Idem | None, merchant_id: UUID, kind: str, object_id: UUID, *, now: datetime, lease_until: datetime
) -> tuple[Statement, ...]:
    """The statement that claims the key for this payment or refund; it hits no row if someone else has it."""
    rows = claim_row(idem, merchant_id, kind, object_id, now=now, lease_until=lease_until)
    return tuple(Statement(_CLAIM, row, together=True) for row in rows)


def claims(statement: Statement | None) -> bool:
    """Is this the statement that claims a key?"""
    return statement is not None and statement.sql == _CLAIM


def answer(idem: Idem | None, merchant_id: UUID, result: Payment | Refund) -> tuple[Row, ...]:
    """The row of the final answer, for ``"answer"``."""
    if idem is None:
        return ()
    status, body = idem.answer(result)
    key = {"merchant_id": merchant_id, "route": idem.route, "key": idem.key}
    return (key | {"status": status, "body": hexed(body)},)


async def store_answer(
    conn: AsyncConnection, idem: Idem | None, merchant_id: UUID, result: Payment | Refund
) -> None:
    """Store the final answer where nothing else is written with it, unless there is one."""
    if idem is not None:
        await store.run(conn, (store.change({"answer": answer(idem, merchant_id, result)}),))


async def answered(
    gw: Gateway,
    merchant_id: UUID,
    idem: Idem,
    work: Callable[[], Awaitable[Payment | Refund]],
    *,
    claims_first: bool = False,
) -> Answer:
    """The first answer to this key; ``work`` (a use case given the same ``idem``) has an effect only if there is none.

    ``claims_first``: the first thing that ``work`` writes is the claim, and nothing of it stands without the claim. The
    key is then looked up only if ``work`` is refused, so that a new request is spared the question.

    Raises ``IdempotencyMismatch``, ``IdempotencyInFlight`` and whatever ``work`` raises.
    """
    known = None if claims_first else await replay(gw, merchant_id, idem)
    if known is not None:
        return known
    began = gw.clock()
    try:
        status, body = idem.answer(await work())
    except (Contended, Unbookable):
        raise
    except GatewayError:
        known = await replay(gw, merchant_id, idem) if claims_first else None
        if known is None:
            raise
        return known
    if gw.clock() >= began + gw.policy.lease:
        # It took so long that a retry may have been answered in its place: the answer is what was stored.
        return await replay(gw, merchant_id, idem) or Answer(status, body)
    return Answer(status, body)


async def replay(gw: Gateway, merchant_id: UUID, idem: Idem) -> Answer | None:
    """The stored answer of this key, None if the key is new."""
    async with gw.engine.begin() as conn:
        row = await _find(conn, merchant_id, idem)
        if row is None:
            return None
        if not compare_digest(row["request_hash"], idem.request_hash):
            raise IdempotencyMismatch(idem.key)
        if row["status"] is not None:
            return Answer(row["status"], row["body"], replayed=True)
        now = gw.clock()
        if row["lease_until"] > now:
            wait = (row["lease_until"] - now).total_seconds()
            raise IdempotencyInFlight(idem.key, max(1, min(5, int(wait))))
        return await _answer_now(conn, merchant_id, idem, row)


async def _find(conn: AsyncConnection, merchant_id: UUID, idem: Idem) -> RowMapping | None:
    where = (_I.c.merchant_id == merchant_id, _I.c.route == idem.route, _I.c.key == idem.key)
    return (await conn.execute(select(_I).where(*where))).mappings().one_or_none()


async def _answer_now(conn: AsyncConnection, merchant_id: UUID, idem: Idem, row: RowMapping) -> Answer:
    """The process that had claimed the key is gone: answer from the present state, unless another just did."""
    find = store.load if row["object_kind"] == "payment" else store.load_refund
    await store_answer(conn, idem, merchant_id, await find(conn, row["object_id"], merchant_id))
    stored = await _find(conn, merchant_id, idem)
    assert stored is not None
    return Answer(stored["status"], stored["body"], replayed=True)
