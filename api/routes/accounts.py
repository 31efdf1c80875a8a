"""Balances and accounts, as of now and as of the past."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from litestar import Response, get
from psycopg import AsyncConnection

from api.answers import view
from api.books import Sight, sight_of
from api.operation import ApiRequest, reads
from api.policy import Audience, Scope
from api.schemas.ledger import AccountView, MerchantBalance
from api.schemas.past import (
    AccountList,
    AccountsQuery,
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
_FIGURES = ("Pending", "Available", "Reserve", "Disputed")
Balances = Sequence[read.Balance] | Sequence[as_of.BalanceAsOf]


async def point_of(conn: AsyncConnection[Any], sight: Sight, asked: PastQuery) -> AsOf:
    """Both axes, what was known as a number: whoever asks for that number later has the same answer."""
    return AsOf(asked.effective_as_of, await as_of.known_seq(conn, sight.book_id, asked.known_as_of))


def _past(at: AsOf) -> Past:
    assert isinstance(at.known, int)
    return Past.of(at, at.known)


def merchant_balances(owner: str, balances: Balances) -> list[MerchantBalance]:
    """A merchant's figures by currency, out of its accounts (accounting.md, "Chart")."""
    found: dict[str, dict[str, int]] = defaultdict(dict)
    figures = {f"Liabilities:Merchant:{owner}:{word}": word.lower() for word in _FIGURES}
    figures[f"Assets:Receivable:Merchant:{owner}"] = "owed"
    for balance in balances:
        if balance.path in figures:
            name = figures[balance.path]
            found[balance.currency][name] = balance.available if name == "available" else balance.posted
    empty = dict.fromkeys(figures.values(), 0)
    return [MerchantBalance(currency=currency, **(empty | own)) for currency, own in sorted(found.items())]


@get(
    "/v1/balance",
    **reads(
        Scope.ACCOUNTS_READ,
        "Your balances",
        _TAG,
        MerchantBalances,
        audience=Audience.MERCHANT,
        query=PastQuery,
    ),
)
async def get_balance(request: ApiRequest) -> Response[bytes]:
    """What is pending, payable, reserved, disputed and owed, one entry a currency."""
    asked = request.asked(PastQuery)
    sight = await sight_of(request.deps, request.auth, asked.book)
    owner, past, found = sight.owner or "", None, list[Any]()
    async with request.deps.pool.connection() as conn:
        if asked.past:
            at = await point_of(conn, sight, asked)
            past, found = _past(at), await as_of.balances(conn, sight.book_id, at, owner=owner)
        else:
            found = await read.balances(conn, sight.book_id, owner=owner)
    return view(MerchantBalances(merchant=owner, as_of=past, data=merchant_balances(owner, found)))


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
