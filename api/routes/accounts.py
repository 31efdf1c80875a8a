"""Balances and accounts."""

from __future__ import annotations

from collections import defaultdict

from litestar import Response, get

from api.answers import view
from api.books import sight_of
from api.operation import ApiRequest, reads
from api.policy import Audience, Scope
from api.schemas.ledger import (
    AccountList,
    AccountsQuery,
    AccountView,
    BalanceSheet,
    MerchantBalance,
)
from ledger import read

_TAG = "Accounts"
_FIGURES = ("Pending", "Available", "Reserve", "Disputed")


def merchant_balances(owner: str, balances: list[read.Balance]) -> list[MerchantBalance]:
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
        Scope.ACCOUNTS_READ, "Your balances", _TAG, BalanceSheet, audience=Audience.MERCHANT, problems=()
    ),
)
async def get_balance(request: ApiRequest) -> Response[bytes]:
    """What is pending, payable, reserved, disputed and owed, one entry a currency."""
    sight = await sight_of(request.deps, request.auth)
    owner = sight.owner or ""
    async with request.deps.pool.connection() as conn:
        found = await read.balances(conn, sight.book_id, owner=owner)
    return view(BalanceSheet(merchant=owner, data=merchant_balances(owner, found)))


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
    async with request.deps.pool.connection() as conn:
        found = await read.balances(conn, sight.book_id, prefix=asked.prefix, owner=sight.owner)
    return view(AccountList.model_construct(data=[AccountView.of(balance) for balance in found]))


routes = (get_balance, list_accounts)
