"""What the routes of people share: who does it, once, in one transaction, for any book."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from litestar import Response
from psycopg import AsyncConnection

from api.books import sight_of
from api.once import change_once, once_of
from api.operation import ApiRequest
from api.schemas.base import View
from gateway.errors import IdempotencyMismatch
from ledger.acts import By
from ledger.errors import ProposalConflict

Conn = AsyncConnection[Any]
T = TypeVar("T")


async def act_once(
    request: ApiRequest,
    route: str,
    asked: int | None,
    reason: str,
    act: Callable[[Conn, int, By], Awaitable[View]],
    *,
    status: int = 200,
) -> Response[bytes]:
    """Answer with the view that ``act`` (connection, book, who) makes, once for each Idempotency-Key.

    The person is the client of the token. Keys are kept for days; the ledger itself knows the same act again after.
    """
    sight = await sight_of(request.deps, request.auth, asked)
    once = await once_of(request, None, route)

    async def change(conn: Conn) -> View:
        return await act(conn, sight.book_id, By(request.auth.client_id, reason, request.deps.clock()))

    try:
        return await change_once(request.deps, once, change, status=status)
    except ProposalConflict:
        # The proposal's id is made from the key: another request with this key came first.
        raise IdempotencyMismatch(once.key) from None


def next_before(page: Sequence[T], limit: int, number: Callable[[T], int]) -> int | None:
    """The number to go on before; None where the page was the last."""
    return number(page[-1]) if len(page) == limit else None
