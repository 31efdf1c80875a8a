"""What an account may do, changed by people: floor, status, velocity limits. Each change is a recorded fact."""

from __future__ import annotations

from typing import Any

from litestar import Response, get, post
from litestar.params import FromPath
from psycopg import AsyncConnection

from api.answers import view
from api.books import sight_of
from api.once import change_once, once_of
from api.operation import ApiRequest, changes, reads
from api.paths import account_in
from api.policy import Audience, Scope
from api.schemas.account_changes import (
    AccountChange,
    AccountChangeBody,
    AccountHistory,
    AccountLimits,
    CurrencyQuery,
    LimitBody,
    LimitChange,
    LimitInForce,
)
from ledger.books import account_history, change_account
from ledger.errors import AccountUnknown
from ledger.limits import LimitTerms, Measure, Side, Window, limit_history, limits_in_force, set_limit
from ledger.model import AccountStatus

_TAG = "Accounts"
Conn = AsyncConnection[Any]


@post(
    "/v1/accounts/{account:str}/changes",
    **changes(
        Scope.ACCOUNTS_WRITE,
        "Change an account's floor or status",
        _TAG,
        AccountChange,
        AccountChangeBody,
        audience=Audience.PLATFORM,
        status=201,
    ),
)
async def change(request: ApiRequest, account: FromPath[str]) -> Response[bytes]:
    """Freeze (holds may still be given back), open again, close for good once it is empty, or set the floor."""
    body = await request.read(AccountChangeBody)
    sight = await sight_of(request.deps, request.auth, body.book)
    once = await once_of(request, sight.owner, "account_change")
    of_account = (sight.book_id, account_in(account, body.currency), body.currency)

    async def made(conn: Conn) -> AccountChange:
        await change_account(
            conn,
            *of_account,
            now=request.deps.clock(),
            reason=body.reason,
            person=request.auth.client_id,
            floor=body.floor if "floor" in body.model_fields_set else ...,
            status=AccountStatus(body.status) if body.status else None,
        )
        return AccountChange.of((await account_history(conn, *of_account) or [])[-1])

    return await change_once(request.deps, once, made, status=201)


@get(
    "/v1/accounts/{account:str}/changes",
    **reads(
        Scope.ACCOUNTS_READ,
        "An account's floors and statuses",
        _TAG,
        AccountHistory,
        audience=Audience.PLATFORM,
        query=CurrencyQuery,
    ),
)
async def get_changes(request: ApiRequest, account: FromPath[str]) -> Response[bytes]:
    """Who set what, why, and from which journal on."""
    asked = request.asked(CurrencyQuery)
    sight = await sight_of(request.deps, request.auth, asked.book)
    path = account_in(account, asked.currency)
    async with request.deps.pool.connection() as conn:
        found = await account_history(conn, sight.book_id, path, asked.currency)
    if found is None:
        raise AccountUnknown(path, asked.currency)
    data = [AccountChange.of(fact) for fact in found]
    return view(AccountHistory(account=path, currency=asked.currency, data=data))


@post(
    "/v1/accounts/{account:str}/limits",
    **changes(
        Scope.ACCOUNTS_WRITE,
        "Set a velocity limit",
        _TAG,
        LimitChange,
        LimitBody,
        audience=Audience.PLATFORM,
        status=201,
    ),
)
async def limit(request: ApiRequest, account: FromPath[str]) -> Response[bytes]:
    """Or change one. A maximum below what the window has used already is allowed: it bounds what follows."""
    body = await request.read(LimitBody)
    sight = await sight_of(request.deps, request.auth, body.book)
    once = await once_of(request, sight.owner, "account_limit")
    of_account = (sight.book_id, account_in(account, body.currency), body.currency)
    terms = LimitTerms(
        body.name,
        Side(body.side),
        Measure(body.measure),
        body.maximum,
        Window(body.window),
        body.active,
    )

    async def made(conn: Conn) -> LimitChange:
        person, now = request.auth.client_id, request.deps.clock()
        await set_limit(conn, *of_account, terms, now=now, reason=body.reason, person=person)
        return LimitChange.of((await limit_history(conn, *of_account, name=body.name) or [])[-1])

    return await change_once(request.deps, once, made, status=201)


@get(
    "/v1/accounts/{account:str}/limits",
    **reads(
        Scope.ACCOUNTS_READ,
        "An account's velocity limits",
        _TAG,
        AccountLimits,
        audience=Audience.PLATFORM,
        query=CurrencyQuery,
    ),
)
async def get_limits(request: ApiRequest, account: FromPath[str]) -> Response[bytes]:
    """Those in force, with what the current window has used, and every change of any."""
    asked = request.asked(CurrencyQuery)
    sight = await sight_of(request.deps, request.auth, asked.book)
    path = account_in(account, asked.currency)
    async with request.deps.pool.connection() as conn:
        now = request.deps.clock()
        in_force = await limits_in_force(conn, sight.book_id, path, asked.currency, now=now)
        history = await limit_history(conn, sight.book_id, path, asked.currency)
    if in_force is None or history is None:
        raise AccountUnknown(path, asked.currency)
    return view(
        AccountLimits(
            account=path,
            currency=asked.currency,
            in_force=[LimitInForce.of(limit) for limit in in_force],
            history=[LimitChange.of(fact) for fact in history],
        )
    )


routes = (change, get_changes, limit, get_limits)
