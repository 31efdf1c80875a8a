"""Holds over HTTP: who may place them where, what they answer, and that each happens once."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from api.clients import sweep
from gateway.merchants import Merchant
from ledger import model as m
from tests.api.conftest import Api, Caller


def available(merchant: Merchant) -> str:
    return f"Liabilities:Merchant:{merchant.owner}:Available"


def terms(debit: str, credit: str, amount: int = 500, **more: Any) -> dict[str, Any]:
    return {"debit": debit, "credit": credit, "amount": amount, "currency": "INR", **more}


async def wallet_and_caller(api: Api) -> tuple[Merchant, str, Caller]:
    merchant = await api.merchant()
    wallet = await api.wallet(merchant, "c1", 1000)
    return merchant, wallet, await api.caller(merchant)


async def test_a_hold_is_placed_increased_captured_in_part_and_released(api: Api) -> None:
    merchant, wallet, caller = await wallet_and_caller(api)
    placed = await caller.post("/v1/holds", terms(wallet, available(merchant), metadata={"order_id": "7"}))
    assert placed.status_code == 201, placed.text
    hold = placed.json()
    assert (hold["status"], hold["held"], hold["remaining"]) == ("open", 500, 500)
    path = f"/v1/holds/{hold['id']}"
    assert (await caller.get(path)).json() == hold
    assert (await caller.post(f"{path}/increase", {"amount": 100})).json()["held"] == 600
    captured = (await caller.post(f"{path}/capture", {"amount": 350})).json()
    assert (captured["captured"], captured["remaining"]) == (350, 250)
    part = (await caller.post(f"{path}/release", {"amount": 50})).json()
    assert (part["released"], part["remaining"]) == (50, 200)
    ended = (await caller.post(f"{path}/release", {})).json()
    assert (ended["status"], ended["released"], ended["remaining"]) == ("ended", 250, 0)
    again = await caller.post(f"{path}/capture", {"amount": 1})
    assert (again.status_code, again.json()["code"]) == (409, "hold_ended")
    balances = {
        a["path"]: a for a in (await caller.get("/v1/accounts")).json()["data"] if a["currency"] == "INR"
    }
    assert balances[wallet]["available"] == balances[wallet]["posted"] == 650
    assert balances[available(merchant)]["available"] == 350


async def test_the_same_key_and_body_give_the_same_bytes_and_one_effect(api: Api) -> None:
    merchant, wallet, caller = await wallet_and_caller(api)
    first = await caller.post("/v1/holds", terms(wallet, available(merchant)), key="k")
    await caller.post(f"/v1/holds/{first.json()['id']}/capture", {"amount": 100})
    second = await caller.post("/v1/holds", terms(wallet, available(merchant)), key="k")
    assert (second.status_code, second.content) == (first.status_code, first.content)
    assert second.headers["content-type"] == first.headers["content-type"]
    (account,) = (await caller.get("/v1/accounts", prefix=wallet)).json()["data"]
    assert account["pending_out"] == 400


async def test_the_same_key_with_another_body_is_refused(api: Api) -> None:
    merchant, wallet, caller = await wallet_and_caller(api)
    await caller.post("/v1/holds", terms(wallet, available(merchant)), key="k")
    other = await caller.post("/v1/holds", terms(wallet, available(merchant), 501), key="k")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
    hold = (await caller.post("/v1/holds", terms(wallet, available(merchant), 1))).json()["id"]
    await caller.post(f"/v1/holds/{hold}/capture", {"amount": 1}, key="c")
    elsewhere = await caller.post(f"/v1/holds/{uuid4()}/capture", {"amount": 1}, key="c")
    assert elsewhere.json()["code"] == "idempotency_mismatch"


async def test_many_requests_with_one_key_at_once_have_one_effect(api: Api) -> None:
    merchant, wallet, caller = await wallet_and_caller(api)
    body = terms(wallet, available(merchant), 100)
    answers = await asyncio.gather(*(caller.post("/v1/holds", body, key="k") for _ in range(20)))
    assert {a.status_code for a in answers} == {201}
    assert len({a.content for a in answers}) == 1
    (account,) = (await caller.get("/v1/accounts", prefix=wallet)).json()["data"]
    assert account["pending_out"] == 100


async def test_keys_of_two_clients_of_a_merchant_are_one_and_of_two_merchants_two(api: Api) -> None:
    merchant, wallet, caller = await wallet_and_caller(api)
    colleague = await api.caller(merchant)
    body = terms(wallet, available(merchant), 10)
    first = await caller.post("/v1/holds", body, key="k")
    assert (await colleague.post("/v1/holds", body, key="k")).content == first.content
    other = await api.merchant("Dosa Corner")
    wallet2 = await api.wallet(other, "c2", 100)
    stranger = await api.caller(other)
    second = await stranger.post("/v1/holds", terms(wallet2, available(other), 10), key="k")
    assert second.status_code == 201
    assert second.json()["id"] != first.json()["id"]


async def test_a_refused_hold_leaves_its_key_free(api: Api) -> None:
    merchant, wallet, caller = await wallet_and_caller(api)
    body = terms(wallet, available(merchant), 1500)
    refused = await caller.post("/v1/holds", body, key="k")
    assert (refused.status_code, refused.json()["code"]) == (409, "insufficient_funds")
    await api.move("Equity:Opening", wallet, 1000)
    assert (await caller.post("/v1/holds", body, key="k")).status_code == 201


async def test_a_key_whose_answer_was_forgotten_still_has_no_second_effect(api: Api) -> None:
    merchant, wallet, caller = await wallet_and_caller(api)
    body = terms(wallet, available(merchant), 100)
    first = await caller.post("/v1/holds", body, key="k")
    async with api.deps.pool.connection() as conn:
        await sweep(conn, now=api.clock() + timedelta(days=8))
    again = await caller.post("/v1/holds", body, key="k")
    assert (again.status_code, again.json()) == (201, first.json())
    async with api.deps.pool.connection() as conn:
        await sweep(conn, now=api.clock() + timedelta(days=8))
    other = await caller.post("/v1/holds", body | {"amount": 101}, key="k")
    assert other.json()["code"] == "idempotency_mismatch"
    (account,) = (await caller.get("/v1/accounts", prefix=wallet)).json()["data"]
    assert account["pending_out"] == 100


async def test_a_crash_between_effect_and_answer_loses_neither(api: Api) -> None:
    """The key was claimed with the journal, and then the process died: the next try answers, and books nothing."""
    merchant, wallet, caller = await wallet_and_caller(api)
    body = terms(wallet, available(merchant), 100)
    first = await caller.post("/v1/holds", body, key="k")
    async with api.deps.pool.connection() as conn:
        await conn.execute("UPDATE api.idempotency SET status = NULL, sealed_body = NULL")
    again = await caller.post("/v1/holds", body, key="k")
    assert (again.status_code, again.content) == (201, first.content)
    (account,) = (await caller.get("/v1/accounts", prefix=wallet)).json()["data"]
    assert account["pending_out"] == 100


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": ""}, {"Idempotency-Key": "x" * 256}])
async def test_a_key_is_needed(api: Api, headers: dict[str, str]) -> None:
    merchant, wallet, caller = await wallet_and_caller(api)
    answer = await api.http.post(
        "/v1/holds", json=terms(wallet, available(merchant)), headers=caller.headers | headers
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "idempotency_key_missing")


async def test_a_merchant_cannot_make_itself_payable(api: Api) -> None:
    """Between its own accounts it could book its debt, or funds not settled yet, into what is paid out."""
    merchant, wallet, caller = await wallet_and_caller(api)
    for managed in (
        f"Assets:Receivable:Merchant:{merchant.owner}",
        f"Liabilities:Merchant:{merchant.owner}:Pending",
        f"Liabilities:Merchant:{merchant.owner}:Reserve",
        f"Liabilities:Merchant:{merchant.owner}:Disputed",
    ):
        for body in (terms(managed, available(merchant)), terms(wallet, managed)):
            answer = await caller.post("/v1/holds", body)
            assert (answer.status_code, answer.json()["code"]) == (403, "account_managed"), managed


async def test_another_merchants_account_and_hold_are_unknown(api: Api) -> None:
    merchant, wallet, caller = await wallet_and_caller(api)
    stranger = await api.caller(await api.merchant("Dosa Corner"))
    missing = "Liabilities:Customer:nobody:Wallet"
    for body in (terms(wallet, missing), terms(missing, wallet)):
        answer = await stranger.post("/v1/holds", body)
        assert (answer.status_code, answer.json()["code"]) == (404, "account_unknown")
    hold = (await caller.post("/v1/holds", terms(wallet, available(merchant)))).json()["id"]
    for path, body in (("capture", {"amount": 1}), ("release", {}), ("increase", {"amount": 1})):
        answer = await stranger.post(f"/v1/holds/{hold}/{path}", body)
        assert (answer.status_code, answer.json()["code"]) == (404, "hold_unknown")
    assert (await stranger.get(f"/v1/holds/{hold}")).status_code == 404


async def test_the_platform_may_hold_on_any_account_but_those_of_card_authorizations(api: Api) -> None:
    merchant, wallet, _ = await wallet_and_caller(api)
    operator = await api.caller(None)
    pending = f"Liabilities:Merchant:{merchant.owner}:Pending"
    assert (await operator.post("/v1/holds", terms(wallet, pending, 5))).status_code == 201
    memo = terms("Equity:Memo:Authorizations", "Equity:Memo:Issuers")
    answer = await operator.post("/v1/holds", memo)
    assert (answer.status_code, answer.json()["code"]) == (403, "account_managed")


async def test_an_expired_hold_cannot_be_captured_although_no_job_has_run(api: Api) -> None:
    merchant, wallet, caller = await wallet_and_caller(api)
    until = (api.clock() + timedelta(hours=1)).isoformat()
    hold = (await caller.post("/v1/holds", terms(wallet, available(merchant), expires_at=until))).json()
    assert hold["expires_at"].endswith("Z")
    api.clock.ahead += timedelta(hours=2)
    fresh = await api.caller(merchant)
    answer = await fresh.post(f"/v1/holds/{hold['id']}/capture", {"amount": 1})
    assert (answer.status_code, answer.json()["code"]) == (409, "hold_expired")


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"amount": 0}, "/amount"),
        ({"amount": 1.0}, "/amount"),
        ({"amount": True}, "/amount"),
        ({"amount": "5"}, "/amount"),
        ({"amount": 10**16}, "/amount"),
        ({"currency": "inr"}, "/currency"),
        ({"currency": "XXX"}, "/currency"),
        ({"currency": "XAU"}, "/currency"),
        ({"debit": "Cash"}, "/debit"),
        ({"expires_at": "2026-11-22T10:00:00"}, "/expires_at"),
        ({"expires_at": 1795000000}, "/expires_at"),
        ({"expires_at": "9999-12-31T23:59:59-23:59"}, "/expires_at"),
        ({"metadata": {"Bad Key": "x"}}, "/metadata/Bad Key/[key]"),
        ({"metadata": {"a": "\x00"}}, "/metadata/a"),
        ({"description": "line\nbreak"}, "/description"),
        ({"owner": "me"}, "/owner"),
        ({"tolerance_bps": 10001}, "/tolerance_bps"),
    ],
)
async def test_what_is_wrong_is_named_by_pointer(api: Api, change: dict[str, Any], pointer: str) -> None:
    caller = await api.caller(None)
    body = terms("Liabilities:Customer:a:Wallet", "Liabilities:Customer:b:Wallet") | change
    answer = await caller.post("/v1/holds", body)
    assert answer.status_code == 422, answer.text
    assert [e["pointer"] for e in answer.json()["errors"]] == [pointer]


async def test_both_sides_the_same_account_is_refused(api: Api) -> None:
    caller = await api.caller(None)
    answer = await caller.post("/v1/holds", terms("Equity:Opening", "Equity:Opening"))
    assert answer.json()["errors"][0]["code"] == "same_account"


async def test_a_frozen_account_says_so(api: Api) -> None:
    from ledger.books import change_account

    merchant, wallet, caller = await wallet_and_caller(api)
    async with api.deps.pool.connection() as conn:
        await change_account(
            *(conn, api.deps.book_id, wallet, "INR"),
            now=api.clock(),
            reason="test",
            person="tester",
            status=m.AccountStatus.FROZEN,
        )
    answer = await caller.post("/v1/holds", terms(wallet, available(merchant)))
    assert (answer.status_code, answer.json()["code"]) == (409, "account_frozen")
