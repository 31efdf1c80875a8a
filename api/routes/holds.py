"""Holds on ledger accounts: place, increase, capture, release."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from litestar import Response, get, post
from litestar.params import FromPath
from psycopg import AsyncConnection

from api.answers import Answer, view
from api.books import Sight, sight_of
from api.dependencies import AppDependencies
from api.errors import AccountManaged, ItemRefused
from api.once import Once, first_or, once_of, post_once, replay
from api.operation import ApiRequest, changes, reads
from api.paths import uuid_in
from api.policy import Scope
from api.schemas.holds import (
    CaptureHoldBody,
    CaptureHoldsBody,
    HoldEntry,
    HoldList,
    IncreaseHoldBody,
    NewHoldBody,
    ReleaseHoldBody,
    ReleaseHoldsBody,
)
from api.schemas.ledger import BookQuery
from api.schemas.transfers import Leg
from ledger import read
from ledger.errors import AccountUnknown, HoldUnknown, Refusal
from ledger.model import Capture, HoldAction, Increase, Journal, Place, Release

_TAG = "Holds"
Conn = AsyncConnection[Any]


def require_unmanaged(path: str, sight: Sight) -> None:
    """Raise ``AccountManaged`` for an account that gateway and settlement keep the balance of.

    Card authorizations sit on the memo accounts, what books owe each other on the clearing accounts, and a merchant
    that could book between its own receivable, pending and payable accounts could make itself payable.
    """
    if path.startswith(("Equity:Memo:", "Assets:Clearing:")):
        raise AccountManaged(path)
    mine = (f"Liabilities:Merchant:{sight.owner}:Available", "Liabilities:Customer:")
    if sight.owner is not None and path != mine[0] and not path.startswith(mine[1]):
        raise AccountManaged(path)


async def require_accounts(deps: AppDependencies, sight: Sight, pair: NewHoldBody | Leg) -> None:
    """Raise ``AccountUnknown`` for an account that is not there or not this client's, else as above."""
    for path in (pair.debit, pair.credit):
        owner = await deps.accounts.owner_of(sight.book_id, path, pair.currency)
        if sight.owner not in (None, owner):
            raise AccountUnknown(path, pair.currency)
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
    request: ApiRequest,
    sight: Sight,
    once: Once,
    kind: str,
    action: HoldAction,
    *,
    made: HoldEntry | None = None,
    **said: Any,
) -> Answer:
    """Post the hold's journal once and answer with the hold; ``made``: as it will stand, where that is known."""
    deps = request.deps
    journal = Journal(deps.gateway.ids(), kind, once.source, hold=action, **said)

    async def answer(conn: Conn) -> HoldEntry:
        return HoldEntry.of(await find_hold(conn, sight, action.hold_id))

    status = 201 if kind == "hold" else 200
    return await post_once(deps, once, sight.book_id, (journal,), answer, status=status, made=made)


async def change_all(
    request: ApiRequest,
    body: CaptureHoldsBody | ReleaseHoldsBody,
    kind: str,
    actions: Mapping[str, HoldAction],
) -> Response[bytes]:
    """Capture or release all of these, by the JSON pointer of each, or none of them, once."""
    deps = request.deps
    sight = await sight_of(deps, request.auth, body.book)
    once = await once_of(request, sight.owner, f"{kind}s")
    async with deps.pool.connection() as conn:
        known = await replay(conn, deps.secrets, once)
        if known is not None:
            return known
        for pointer, action in actions.items():
            await require_hold(conn, sight, pointer, action.hold_id)
    # How many there are is part of each: with another number the key was used for another request.
    others = {"together_with": str(len(actions) - 1)}
    journals = [
        Journal(
            deps.gateway.ids(),
            kind,
            once.source_of(index),
            hold=action,
            description=body.description,
            metadata=others,
        )
        for index, action in enumerate(actions.values())
    ]

    async def answer(conn: Conn) -> HoldList:
        found = [await find_hold(conn, sight, action.hold_id) for action in actions.values()]
        return HoldList(data=[HoldEntry.of(hold) for hold in found])

    try:
        return await post_once(deps, once, sight.book_id, journals, answer)
    except Refusal as refusal:
        if refusal.index is None:
            raise
        raise ItemRefused(list(actions)[refusal.index], refusal) from refusal


async def require_hold(conn: Conn, sight: Sight, pointer: str, hold_id: UUID) -> None:
    """Raise ``ItemRefused`` for a hold that this client may not see or change."""
    try:
        found = await find_hold(conn, sight, hold_id)
        for path in (found.debit, found.credit):
            require_unmanaged(path, sight)
    except (HoldUnknown, AccountManaged) as error:
        raise ItemRefused(pointer, error) from error


@post("/v1/holds", **changes(Scope.HOLDS_WRITE, "Place a hold", _TAG, HoldEntry, NewHoldBody, status=201))
async def place_hold(request: ApiRequest) -> Response[bytes]:
    """Reserve money on its way from one account to another. Merchants: between wallets of their customers and
    their own payable account."""
    body = await request.read(NewHoldBody)
    sight = await sight_of(request.deps, request.auth, body.book)
    once = await once_of(request, sight.owner, "hold_place")

    async def place() -> Answer:
        await require_accounts(request.deps, sight, body)
        hold = Place(
            *(once.id, body.debit, body.credit, body.amount, body.currency),
            expires_at=body.expires_at,
            tolerance_bps=body.tolerance_bps,
        )
        said = {"description": body.description, "metadata": body.metadata}
        return await book(request, sight, once, "hold", hold, made=HoldEntry.placed(hold), **said)

    return await first_or(request.deps, once, place)


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


@post(
    "/v1/holds/capture",
    **changes(Scope.HOLDS_WRITE, "Capture several holds", _TAG, HoldList, CaptureHoldsBody),
)
async def capture_holds(request: ApiRequest) -> Response[bytes]:
    """All of them or none: `errors[0].pointer` of a refusal is the one that is to blame."""
    body = await request.read(CaptureHoldsBody)
    actions = {f"/captures/{n}": Capture(c.hold, c.amount, c.final) for n, c in enumerate(body.captures)}
    return await change_all(request, body, "hold_capture", actions)


@post(
    "/v1/holds/release",
    **changes(Scope.HOLDS_WRITE, "Release several holds", _TAG, HoldList, ReleaseHoldsBody),
)
async def release_holds(request: ApiRequest) -> Response[bytes]:
    """All of them or none: `errors[0].pointer` of a refusal is the one that is to blame."""
    body = await request.read(ReleaseHoldsBody)
    actions = {f"/releases/{n}": Release(r.hold, r.amount) for n, r in enumerate(body.releases)}
    return await change_all(request, body, "hold_release", actions)


routes = (
    place_hold,
    get_hold,
    capture_hold,
    release_hold,
    increase_hold,
    capture_holds,
    release_holds,
)
