"""Holds on ledger accounts: place, increase, capture, release."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from litestar import Response, get, post
from litestar.params import FromPath
from psycopg import AsyncConnection

from api.answers import view
from api.books import Sight, sight_of
from api.errors import AccountManaged
from api.once import Once, once_of, post_once, replay
from api.operation import ApiRequest, changes, reads
from api.paths import uuid_in
from api.policy import Scope
from api.schemas.holds import CaptureHoldBody, HoldEntry, IncreaseHoldBody, NewHoldBody, ReleaseHoldBody
from api.schemas.ledger import BookQuery
from ledger import read
from ledger.errors import AccountUnknown, HoldUnknown
from ledger.model import Capture, HoldAction, Increase, Journal, Place, Release

_TAG = "Holds"
Conn = AsyncConnection[Any]


def require_unmanaged(path: str, sight: Sight) -> None:
    """Raise ``AccountManaged`` for an account that gateway and settlement keep the balance of.

    Card authorizations sit on the memo accounts, and a merchant that could book between its own receivable,
    pending and payable accounts could make itself payable.
    """
    if path.startswith("Equity:Memo:"):
        raise AccountManaged(path)
    mine = (f"Liabilities:Merchant:{sight.owner}:Available", "Liabilities:Customer:")
    if sight.owner is not None and path != mine[0] and not path.startswith(mine[1]):
        raise AccountManaged(path)


async def require_accounts(conn: Conn, sight: Sight, body: NewHoldBody) -> None:
    """Raise ``AccountUnknown`` for an account that is not there or not this client's, else as above."""
    for path in (body.debit, body.credit):
        if await read.balance(conn, sight.book_id, path, body.currency, owner=sight.owner) is None:
            raise AccountUnknown(path, body.currency)
        require_unmanaged(path, sight)


async def find_hold(conn: Conn, sight: Sight, hold_id: UUID) -> read.HoldView:
    found = await read.hold(conn, sight.book_id, hold_id, owner=sight.owner)
    if found is None:
        raise HoldUnknown(hold_id)
    return found


async def change(
    request: ApiRequest,
    body: CaptureHoldBody | ReleaseHoldBody | IncreaseHoldBody,
    route: str,
    action: HoldAction,
) -> Response[bytes]:
    """Capture, release or increase a hold that this client may see, once."""
    sight = await sight_of(request.deps, request.auth, body.book)
    once = await once_of(request, sight.owner, route)
    async with request.deps.pool.connection() as conn:
        known = await replay(conn, request.deps.secrets, once)
        if known is not None:
            return known
        found = await find_hold(conn, sight, action.hold_id)
    for path in (found.debit, found.credit):
        require_unmanaged(path, sight)
    return await book(request, sight, once, route, action, description=body.description)


async def book(
    request: ApiRequest, sight: Sight, once: Once, kind: str, action: HoldAction, **said: Any
) -> Response[bytes]:
    """Post the hold's journal once and answer with the hold."""
    deps = request.deps
    journal = Journal(deps.gateway.ids(), kind, once.source, hold=action, **said)

    async def answer(conn: Conn) -> HoldEntry:
        return HoldEntry.of(await find_hold(conn, sight, action.hold_id))

    return await post_once(deps, once, sight.book_id, journal, answer, status=201 if kind == "hold" else 200)


@post("/v1/holds", **changes(Scope.HOLDS_WRITE, "Place a hold", _TAG, HoldEntry, NewHoldBody, status=201))
async def place_hold(request: ApiRequest) -> Response[bytes]:
    """Reserve money on its way from one account to another. Merchants: between wallets of their customers and
    their own payable account."""
    body = await request.read(NewHoldBody)
    sight = await sight_of(request.deps, request.auth, body.book)
    once = await once_of(request, sight.owner, "hold_place")
    async with request.deps.pool.connection() as conn:
        known = await replay(conn, request.deps.secrets, once)
        if known is not None:
            return known
        await require_accounts(conn, sight, body)
    terms = (
        once.id,
        body.debit,
        body.credit,
        body.amount,
        body.currency,
        body.expires_at,
        body.tolerance_bps,
    )
    said = {"description": body.description, "metadata": body.metadata}
    return await book(request, sight, once, "hold", Place(*terms), **said)


@get("/v1/holds/{hold_id:str}", **reads(Scope.HOLDS_READ, "One hold", _TAG, HoldEntry, query=BookQuery))
async def get_hold(request: ApiRequest, hold_id: FromPath[str]) -> Response[bytes]:
    """Its terms and what became of it."""
    sight = await sight_of(request.deps, request.auth, request.asked(BookQuery).book)
    async with request.deps.pool.connection() as conn:
        return view(HoldEntry.of(await find_hold(conn, sight, uuid_in(hold_id))))


@post(
    "/v1/holds/{hold_id:str}/capture",
    **changes(Scope.HOLDS_WRITE, "Capture a hold", _TAG, HoldEntry, CaptureHoldBody),
)
async def capture_hold(request: ApiRequest, hold_id: FromPath[str]) -> Response[bytes]:
    """Book all or part of it. Captures may come several times, until the hold is used up, final or expired."""
    body = await request.read(CaptureHoldBody)
    action = Capture(uuid_in(hold_id), body.amount, body.final)
    return await change(request, body, "hold_capture", action)


@post(
    "/v1/holds/{hold_id:str}/release",
    **changes(Scope.HOLDS_WRITE, "Release a hold", _TAG, HoldEntry, ReleaseHoldBody),
)
async def release_hold(request: ApiRequest, hold_id: FromPath[str]) -> Response[bytes]:
    """Give back all or part of what is left of it."""
    body = await request.read(ReleaseHoldBody)
    return await change(request, body, "hold_release", Release(uuid_in(hold_id), body.amount))


@post(
    "/v1/holds/{hold_id:str}/increase",
    **changes(Scope.HOLDS_WRITE, "Increase a hold", _TAG, HoldEntry, IncreaseHoldBody),
)
async def increase_hold(request: ApiRequest, hold_id: FromPath[str]) -> Response[bytes]:
    """Reserve more on the same accounts."""
    body = await request.read(IncreaseHoldBody)
    return await change(request, body, "hold_increase", Increase(uuid_in(hold_id), body.amount))


routes = (place_hold, get_hold, capture_hold, release_hold, increase_hold)
