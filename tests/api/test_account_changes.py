"""Floors, statuses and velocity limits over HTTP: by the platform, each change once, recorded with who and why."""

from __future__ import annotations

from typing import Any

from gateway.merchants import Merchant
from tests.api.conftest import Api, Caller


async def world(api: Api) -> tuple[Merchant, str, Caller, Caller]:
    """A merchant, a wallet with 1000 in it, its client, an operator."""
    merchant = await api.merchant()
    wallet = await api.wallet(merchant, "c1", 1000)
    return merchant, wallet, await api.caller(merchant), await api.caller(None)


def change(**what: Any) -> dict[str, Any]:
    return {"currency": "INR", "reason": "ticket 17", **what}


def daily(maximum: int, **more: Any) -> dict[str, Any]:
    terms = {"name": "daily", "side": "debit", "measure": "sum", "window": "day", "maximum": maximum}
    return change(**terms, **more)


def spend(merchant: Merchant, wallet: str, amount: int) -> dict[str, Any]:
    payable = f"Liabilities:Merchant:{merchant.owner}:Available"
    return {"legs": [{"debit": wallet, "credit": payable, "amount": amount, "currency": "INR"}]}


async def test_an_account_is_frozen_opened_again_and_each_change_is_kept(api: Api) -> None:
    merchant, wallet, caller, operator = await world(api)
    path = f"/v1/accounts/{wallet}/changes"
    frozen = await operator.post(path, change(status="frozen"), key="k")
    assert frozen.status_code == 201, frozen.text
    assert (frozen.json()["status"], frozen.json()["person"]) == ("frozen", operator.client_id)
    refused = await caller.post("/v1/transfers", spend(merchant, wallet, 1))
    assert refused.json()["code"] == "account_frozen"
    assert (await operator.post(path, change(status="frozen"), key="k")).content == frozen.content
    await operator.post(path, change(status="open", floor=-200, reason="cleared"))
    assert (await caller.post("/v1/transfers", spend(merchant, wallet, 1200))).status_code == 201
    history = (await operator.get(path, currency="INR")).json()["data"]
    assert [(f["number"], f["status"], f["floor"], f["reason"]) for f in history] == [
        (1, "open", 0, "opened"),
        (2, "frozen", 0, "ticket 17"),
        (3, "open", -200, "cleared"),
    ]
    assert [f["after"] for f in history] == [0, 1, 1]


async def test_what_the_balance_forbids_is_refused_and_leaves_its_key_free(api: Api) -> None:
    _, wallet, _, operator = await world(api)
    path = f"/v1/accounts/{wallet}/changes"
    for body in (change(floor=1001), change(status="closed")):
        answer = await operator.post(path, body, key="k")
        assert (answer.status_code, answer.json()["code"]) == (409, "fact_refused")
    assert (await operator.post(path, change(floor=None), key="k")).status_code == 201
    missing = await operator.post("/v1/accounts/Liabilities:Nobody:Wallet/changes", change(status="frozen"))
    assert (missing.status_code, missing.json()["code"]) == (404, "account_unknown")


async def test_a_limit_is_set_shown_with_its_use_and_changed(api: Api) -> None:
    merchant, wallet, caller, operator = await world(api)
    path = f"/v1/accounts/{wallet}/limits"
    answer = await operator.post(path, daily(100))
    assert answer.status_code == 201, answer.text
    await caller.post("/v1/transfers", spend(merchant, wallet, 80))
    refused = await caller.post("/v1/transfers", spend(merchant, wallet, 21))
    assert (refused.status_code, refused.json()["code"]) == (409, "velocity_exceeded")
    await operator.post(path, daily(50, reason="lowered"))
    shown = (await operator.get(path, currency="INR")).json()
    assert [(x["name"], x["maximum"], x["used"], x["left"]) for x in shown["in_force"]] == [
        ("daily", 50, 80, 0)
    ]
    assert [(x["number"], x["maximum"], x["reason"]) for x in shown["history"]] == [
        (1, 100, "ticket 17"),
        (2, 50, "lowered"),
    ]
    other = await operator.post(path, daily(100) | {"window": "hour"})
    assert (other.status_code, other.json()["code"]) == (409, "limit_fixed")
    await operator.post(path, daily(50, active=False))
    assert (await caller.post("/v1/transfers", spend(merchant, wallet, 900))).status_code == 201


async def test_merchants_neither_change_nor_read_them(api: Api) -> None:
    _, wallet, caller, _ = await world(api)
    assert (await caller.post(f"/v1/accounts/{wallet}/changes", change(floor=None))).status_code == 403
    assert (await caller.post(f"/v1/accounts/{wallet}/limits", daily(1))).status_code == 403
    for word in ("changes", "limits"):
        assert (await caller.get(f"/v1/accounts/{wallet}/{word}", currency="INR")).status_code == 403


async def test_what_is_wrong_is_named_by_pointer(api: Api) -> None:
    operator = await api.caller(None)
    for word, body, pointer in (
        ("changes", change(), ""),
        ("changes", change(status="melted"), "/status"),
        ("changes", change(status="open", reason=" "), "/reason"),
        ("changes", change(floor=1.5), "/floor"),
        ("limits", daily(-1), "/maximum"),
        ("limits", daily(1) | {"window": "year"}, "/window"),
        ("limits", daily(1) | {"name": "Daily"}, "/name"),
    ):
        answer = await operator.post(f"/v1/accounts/Equity:Opening/{word}", body)
        assert answer.status_code == 422, answer.text
        assert [e["pointer"] for e in answer.json()["errors"]] == [pointer]
