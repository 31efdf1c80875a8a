"""The authorization matrix, made from the routes: role by operation by own, another merchant's and missing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import pytest
from litestar import Litestar, get

from api.app import create_app
from api.errors import AudienceWrong, PolicyMissing
from api.openapi import operations_of
from api.policy import MERCHANT_SCOPES, Audience, Policy, Principal, Scope, check_policies, judge, public
from gateway import ids
from gateway.merchants import Merchant
from tests.api.conftest import Api, Caller

MISSING = UUID("01a20393-0862-757d-bf44-c271735de994")
WALLET = "Liabilities:Customer:{}:Wallet"


def test_a_route_without_a_policy_stops_the_application() -> None:
    @get("/open", sync_to_thread=False)
    def forgotten() -> None: ...

    @get("/fine", sync_to_thread=False, **public())
    def fine() -> None: ...

    check_policies(Litestar([fine], openapi_config=None))
    with pytest.raises(PolicyMissing, match="GET /open"):
        check_policies(Litestar([fine, forgotten], openapi_config=None))


async def test_the_public_operations_are_these_and_no_more(api: Api) -> None:
    app = create_app(api.deps)
    open_to_all = {f"{m} {p}" for m, p, _, policy, _ in operations_of(app) if policy.scope is None}
    assert open_to_all == {
        "POST /oauth/token",
        "GET /.well-known/jwks.json",
        "GET /.well-known/oauth-authorization-server",
        "GET /health/live",
        "GET /health/ready",
        *(f"GET {path}" for path in PUBLIC_LOG),
    }


# Hashes and what is signed of them; the entries themselves are not among them.
PUBLIC_LOG = {
    f"{prefix}/{name}"
    for prefix in ("/v1/log", "/v1/books/{book}/log")
    for name in (
        *("checkpoint", "keys", "proof/inclusion", "proof/consistency"),
        "tile/{level}/{tile}",
    )
}


async def test_every_change_needs_an_idempotency_key_and_a_writing_scope(api: Api) -> None:
    for method, path, _, policy, operation in operations_of(create_app(api.deps)):
        if path.startswith("/v1/"):
            assert operation.idempotent == (method != "GET"), path
            if policy.scope is None:
                assert (method, path in PUBLIC_LOG) == ("GET", True), path
                continue
            assert policy.scope.value.endswith(":write") == (method != "GET"), path


@pytest.mark.parametrize("audience", list(Audience))
@pytest.mark.parametrize("merchant", [None, MISSING])
def test_the_kind_of_client_is_judged(audience: Audience, merchant: UUID | None) -> None:
    principal = Principal("cli", merchant, frozenset({Scope.PAYMENTS_READ}))
    kind = Audience.PLATFORM if merchant is None else Audience.MERCHANT
    policy = Policy(Scope.PAYMENTS_READ, audience)
    if audience in (Audience.ANY, kind):
        judge(policy, principal)
    else:
        with pytest.raises(AudienceWrong):
            judge(policy, principal)


@dataclass
class World:
    """Two merchants with an object of each kind, and the paths to them by whose they are."""

    api: Api
    mine: Merchant
    other: Merchant
    paths: dict[str, dict[str, str]]


async def world_of(api: Api) -> World:
    mine, other = await api.merchant("Chai Point"), await api.merchant("Dosa Corner")
    paths: dict[str, dict[str, str]] = {}
    for whose, merchant in (("own", mine), ("other", other)):
        caller = await api.caller(merchant)
        wallet = await api.wallet(merchant, whose, 1000)
        payment = (await caller.post("/v1/payments", {"amount": 5, "currency": "INR"})).json()["id"]
        terms = {"debit": wallet, "credit": f"Liabilities:Merchant:{merchant.owner}:Available"}
        hold = (await caller.post("/v1/holds", terms | {"amount": 9, "currency": "INR"})).json()["id"]
        journal = (await caller.get("/v1/journals")).json()["data"][0]["id"]
        paths[whose] = {"payment_id": payment, "hold_id": hold, "journal_id": journal, "account": wallet}
    paths["missing"] = {
        "payment_id": ids.public(ids.PAYMENT, MISSING),
        "hold_id": str(MISSING),
        "journal_id": str(MISSING),
        "account": WALLET.format("missing"),
    }
    for whose in paths.values():
        whose["refund_id"] = ids.public(ids.REFUND, MISSING)  # a refund needs a bank: test_payments
        whose["transfer_id"] = str(MISSING)  # the platform's alone: test_many_books
        whose["proposal_id"] = str(MISSING)  # the platform's alone: test_people
        whose |= {"book": "main", "tile": "000.p/1"}  # the platform's alone: test_log
    await api.seal()
    return World(api, mine, other, paths)


BODIES: dict[str, Any] = {
    "POST /v1/payments": {"amount": 5, "currency": "INR"},
    "POST /v1/payments/{payment_id}/confirm": {"card_token": ids.public(ids.CARD, MISSING)},
    "POST /v1/payments/{payment_id}/capture": {},
    "POST /v1/payments/{payment_id}/void": {},
    "POST /v1/payments/{payment_id}/refunds": {},
    "POST /v1/checkout_sessions": {"payment_id": "{payment_id}", "return_url": "https://shop.example/"},
    "POST /v1/holds": {"debit": "{account}", "credit": "{payable}", "amount": 1, "currency": "INR"},
    "POST /v1/holds/{hold_id}/capture": {"amount": 1},
    "POST /v1/holds/{hold_id}/release": {"amount": 1},
    "POST /v1/holds/{hold_id}/increase": {"amount": 1},
    "POST /v1/holds/capture": {"captures": [{"hold": "{hold_id}", "amount": 1}]},
    "POST /v1/holds/release": {"releases": [{"hold": "{hold_id}", "amount": 1}]},
    "POST /v1/transfers": {
        "legs": [{"debit": "{account}", "credit": "{payable}", "amount": 1, "currency": "INR"}]
    },
}
QUERIES: dict[str, dict[str, str]] = {
    "GET /v1/accounts/{account}/statement": {"currency": "INR"},
    "GET /v1/accounts": {"prefix": "{account}"},
    "GET /v1/totals": {"prefix": "{account}"},
    "GET /v1/restatements": {"effective_as_of": "2026-11-22", "then": "0"},
    "GET /v1/reports/income-statement": {"from": "2026-11-01", "to": "2026-11-30"},
}


def operations(api: Api) -> list[tuple[str, str, Policy]]:
    found = operations_of(create_app(api.deps))
    return [(m, re.sub(r":\w+}", "}", p), policy) for m, p, _, policy, _ in found if policy.scope is not None]


async def ask(world: World, caller: Caller, method: str, path: str, whose: str) -> httpx.Response:
    names = world.paths[whose] | {"payable": f"Liabilities:Merchant:{world.mine.owner}:Available"}

    def filled(value: Any) -> Any:
        match value:
            case str():
                return value.format(**names)
            case dict():
                return {k: filled(v) for k, v in value.items()}  # pyright: ignore[reportUnknownVariableType]
            case list():
                return [filled(v) for v in value]  # pyright: ignore[reportUnknownVariableType]
            case _:
                return value

    body = filled(BODIES.get(f"{method} {path}", {}))
    query = {k: filled(v) for k, v in QUERIES.get(f"{method} {path}", {}).items()}
    if method == "GET":
        return await caller.get(path.format(**names), **query)
    return await caller.post(path.format(**names), body)


def without_names(answer: httpx.Response, names: dict[str, str]) -> dict[str, Any]:
    """The answer with the request's id, and the id that was asked for, taken out."""
    text = answer.text
    for name in names.values():
        text = text.replace(name, "*")
    return {k: v for k, v in httpx.Response(200, text=text).json().items() if k != "instance"}


async def test_nobody_gets_in_without_a_token(api: Api) -> None:
    world = await world_of(api)
    anonymous = Caller(api.http, "", "", "")
    anonymous.headers = {}
    for method, path, _ in operations(api):
        answer = await ask(world, anonymous, method, path, "own")
        assert answer.status_code == 401, (method, path)
        assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_a_token_without_the_scope_is_refused_whatever_it_asks_for(api: Api) -> None:
    world = await world_of(api)
    for merchant, granted in ((world.mine, MERCHANT_SCOPES), (None, frozenset(Scope))):
        lacking: dict[Scope | None, Caller] = {}
        for method, path, policy in operations(api):
            if policy.scope not in lacking:
                lacking[policy.scope] = await api.caller(
                    merchant, frozenset(granted - {policy.scope}) or None
                )
            caller = lacking[policy.scope]
            for whose in ("own", "other", "missing"):
                answer = await ask(world, caller, method, path, whose)
                assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing"), (method, path)


async def test_a_client_of_the_wrong_kind_is_refused(api: Api) -> None:
    world = await world_of(api)
    merchant, platform = await api.caller(world.mine), await api.caller(None)
    for method, path, policy in operations(api):
        if policy.audience is Audience.MERCHANT:
            answer = await ask(world, platform, method, path, "own")
            assert (answer.status_code, answer.json()["code"]) == (403, "client_kind_wrong"), (method, path)
        if policy.audience is Audience.PLATFORM:
            answer = await ask(world, merchant, method, path, "own")
            assert answer.status_code == 403, (method, path)


async def test_another_merchants_object_answers_exactly_like_a_missing_one(api: Api) -> None:
    world = await world_of(api)
    caller = await api.caller(world.mine)
    judged = 0
    for method, path, policy in operations(api):
        named = "{" in path or "{" in str(BODIES.get(f"{method} {path}", {}).values())
        if not named or policy.audience is Audience.PLATFORM:
            continue
        other, missing = [await ask(world, caller, method, path, w) for w in ("other", "missing")]
        assert other.status_code == missing.status_code == 404, (method, path, other.text)
        same = [without_names(a, world.paths[w]) for a, w in ((other, "other"), (missing, "missing"))]
        assert same[0] == same[1], (method, path)
        assert {k: v for k, v in other.headers.items() if k not in _OF_ONE_ANSWER} == {
            k: v for k, v in missing.headers.items() if k not in _OF_ONE_ANSWER
        }
        judged += 1
    assert judged >= 17


_OF_ONE_ANSWER = {"x-request-id", "date", "content-length"}


async def test_own_objects_are_found(api: Api) -> None:
    world = await world_of(api)
    caller = await api.caller(world.mine)
    for method, path, policy in operations(api):
        if policy.audience is Audience.PLATFORM or "refund_id" in path:
            continue
        answer = await ask(world, caller, method, path, "own")
        assert answer.status_code not in (401, 403, 500), (method, path, answer.text)
        if answer.status_code == 404:
            assert answer.json()["code"] == "token_not_found", (method, path, answer.text)


async def test_lists_show_no_row_of_another_merchant(api: Api) -> None:
    world = await world_of(api)
    caller = await api.caller(world.mine)
    for path in ("/v1/payments", "/v1/accounts", "/v1/journals", "/v1/balance"):
        text = (await caller.get(path)).text
        assert world.other.owner not in text, path
        assert all(name not in text for name in list(world.paths["other"].values())[:4]), path
