"""Balances and accounts, as of now and as of the past."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson
from litestar import Response, get
from psycopg import AsyncConnection

from api.answers import as_answer, view
from api.books import Sight, merchant_asked, sight_of, sight_of_merchant
from api.operation import ApiRequest, reads
from api.policy import Audience, Scope
from api.reads import FIGURE_PATHS, Figures
from api.schemas.ledger import AccountView
from api.schemas.past import (
    AccountList,
    AccountsQuery,
    BalanceQuery,
    MerchantBalances,
    Past,
    PastBalance,
    PastQuery,
    RestatementQuery,
    RestatementView,
    TotalList,
    TotalsQuery,
    TotalView,
)
from ledger import as_of, read
from ledger.as_of import AsOf

_TAG = "Accounts"
_FIGURES = ("pending", "available", "reserve", "disputed", "owed")  # of FIGURE_PATHS
_NOTHING = dict.fromkeys(_FIGURES, 0)
Conn = AsyncConnection[Any]


async def point_of(conn: Conn, sight: Sight, asked: PastQuery) -> AsOf:
    """Both axes, what was known as a number: whoever asks for that number later has the same answer."""
    return AsOf(asked.effective_as_of, await as_of.known_seq(conn, sight.book_id, asked.known_as_of))


def _past(at: AsOf) -> Past:
    assert isinstance(at.known, int)
    return Past.of(at, at.known)


def merchant_balances(figures: Iterable[Figures]) -> list[dict[str, str | int]]:
    """A ``MerchantBalance`` of each currency, not built: this is what is asked most often."""
    found: list[dict[str, str | int]] = []
    for currency, of_accounts in sorted(figures):
        own: dict[str, str | int] = {"currency": currency, **_NOTHING}
        for account, posted, available in of_accounts:
            name = _FIGURES[account]
            own[name] = available if name == "available" else posted
        found.append(own)
    return found


async def figures_then(conn: Conn, sight: Sight, at: AsOf) -> list[Figures]:
    """As of the past: out of all the owner's accounts."""
    accounts = {path.replace("*", sight.owner or ""): index for index, path in enumerate(FIGURE_PATHS)}
    found: dict[str, list[list[int]]] = {}
    for b in await as_of.balances(conn, sight.book_id, at, owner=sight.owner):
        if b.path in accounts:
            found.setdefault(b.currency, []).append([accounts[b.path], b.posted, b.available])
    return list(found.items())


@get(
    "/v1/balance",
    **reads(
        Scope.ACCOUNTS_READ,
        "A merchant's balances",
        _TAG,
        MerchantBalances,
        query=BalanceQuery,
    ),
)
async def get_balance(request: ApiRequest) -> Response[bytes]:
    """What is pending, payable, reserved, disputed and owed, one entry a currency. A platform client names the
    merchant (422 `merchant_required`)."""
    asked = request.asked(BalanceQuery)
    merchant_id = await merchant_asked(request.deps, request.auth, asked.merchant)
    sight = await sight_of_merchant(request.deps, merchant_id, asked.book)
    owner, past = sight.owner or "", None
    if asked.past:
        async with request.deps.pool.connection() as conn:
            at = await point_of(conn, sight, asked)
            past, found = _past(at).model_dump(mode="json"), await figures_then(conn, sight, at)
    else:
        found = await request.deps.reads.figures(sight.book_id, owner)
    return as_answer(orjson.dumps({"merchant": owner, "as_of": past, "data": merchant_balances(found)}))


@get(
    "/v1/accounts",
    **reads(
        Scope.ACCOUNTS_READ,
        "Accounts with their balances",
        _TAG,
        AccountList,
        query=AccountsQuery,
    ),
)
async def list_accounts(request: ApiRequest) -> Response[bytes]:
    """By path and currency. A merchant sees its own."""
    asked = request.asked(AccountsQuery)
    sight = await sight_of(request.deps, request.auth, asked.book)
    path, _, currency = (asked.after or "").rpartition(".")
    page: dict[str, Any] = {"prefix": asked.prefix, "owner": sight.owner, "after": (path, currency)}
    page["limit"] = asked.limit + 1
    past, data = None, list[Any]()
    async with request.deps.pool.connection() as conn:
        if asked.past:
            at = await point_of(conn, sight, asked)
            past = _past(at)
            data = [PastBalance.of(b) for b in await as_of.balances(conn, sight.book_id, at, **page)]
        else:
            data = [AccountView.of(b) for b in await read.balances(conn, sight.book_id, **page)]
    shown = data[: asked.limit]
    following = f"{shown[-1].path}.{shown[-1].currency}" if len(data) > asked.limit else None
    return view(AccountList.model_construct(as_of=past, data=shown, next=following))


@get(
    "/v1/totals",
    **reads(Scope.ACCOUNTS_READ, "The sum over accounts below a path", _TAG, TotalList, query=TotalsQuery),
)
async def get_totals(request: ApiRequest) -> Response[bytes]:
    """One entry a currency. A merchant's sums are over its own accounts."""
    asked = request.asked(TotalsQuery)
    sight = await sight_of(request.deps, request.auth, asked.book)
    async with request.deps.pool.connection() as conn:
        at = await point_of(conn, sight, asked)
        found = await as_of.totals(conn, sight.book_id, asked.prefix, at, owner=sight.owner)
    data = [TotalView.of(total) for total in found]
    return view(TotalList.model_construct(prefix=asked.prefix, as_of=_past(at), data=data))


@get(
    "/v1/restatements",
    **reads(
        Scope.ACCOUNTS_READ,
        "A report as of then against what is known now",
        _TAG,
        RestatementView,
        audience=Audience.PLATFORM,
        query=RestatementQuery,
    ),
)
async def get_restatement(request: ApiRequest) -> Response[bytes]:
    """Which balances of the reported days are others now, and the journals that came late."""
    asked = request.asked(RestatementQuery)
    sight = await sight_of(request.deps, request.auth, asked.book)
    async with request.deps.pool.connection() as conn:
        found = await as_of.restated(
            *(conn, sight.book_id, asked.effective_as_of),
            then=asked.then,
            now=asked.now,
            after=asked.after,
            limit=asked.limit,
        )
    return view(RestatementView.of(found))


routes = (get_balance, list_accounts, get_totals, get_restatement)
