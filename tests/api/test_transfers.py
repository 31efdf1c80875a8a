"""Transfers over HTTP: all legs or none, as much as is available, exactly once, between accounts one may hold on."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from gateway.merchants import Merchant
from ledger import model as m
from ledger.books import create_book, open_accounts
from tests.api.conftest import Api, Caller


async def world(api: Api) -> tuple[Merchant, str, str, Caller]:
    """A merchant, its payable account, a wallet with 1000 in it, its client."""
    merchant = await api.merchant()
    wallet = await api.wallet(merchant, "c1", 1000)
    return merchant, f"Liabilities:Merchant:{merchant.owner}:Available", wallet, await api.caller(merchant)


def leg(debit: str, credit: str, amount: int, **more: Any) -> dict[str, Any]:
    return {"debit": debit, "credit": credit, "amount": amount, "currency": "INR", **more}


async def available(caller: Caller, path: str) -> int:
    (account,) = (await caller.get("/v1/accounts", prefix=path)).json()["data"]
    return account["available"]


async def test_legs_are_one_journal_and_the_answer_shows_it(api: Api) -> None:
    merchant, payable, wallet, caller = await world(api)
    other = await api.wallet(merchant, "c2", 0)
    body = {"legs": [leg(wallet, other, 300), leg(other, payable, 100)], "metadata": {"order_id": "7"}}
    answer = await caller.post("/v1/transfers", body, key="k")
    assert answer.status_code == 201, answer.text
    journal = answer.json()
    assert (journal["kind"], journal["metadata"]) == ("transfer", {"order_id": "7"})
    assert [p["amount"] for p in journal["postings"]] == [300, 100]
    assert (await caller.get(f"/v1/journals/{journal['id']}")).json() == journal
    assert [await available(caller, path) for path in (wallet, other)] == [700, 200]
    again = await caller.post("/v1/transfers", body, key="k")
    assert (again.status_code, again.content) == (201, answer.content)
    assert await available(caller, wallet) == 700
    changed = await caller.post("/v1/transfers", {"legs": [leg(wallet, payable, 1)]}, key="k")
    assert (changed.status_code, changed.json()["code"]) == (422, "idempotency_mismatch")


async def test_one_leg_that_cannot_stand_stops_all(api: Api) -> None:
    merchant, payable, wallet, caller = await world(api)
    other = await api.wallet(merchant, "c2", 0)
    answer = await caller.post("/v1/transfers", {"legs": [leg(wallet, payable, 400), leg(other, payable, 1)]})
    assert (answer.status_code, answer.json()["code"]) == (409, "insufficient_funds")
    assert [(e["pointer"], e["code"]) for e in answer.json()["errors"]] == [("/legs/1", "insufficient_funds")]
    assert await available(caller, wallet) == 1000


async def test_the_leg_to_blame_is_named_for_each_kind_of_refusal(api: Api) -> None:
    merchant, payable, wallet, caller = await world(api)
    frozen, bounded = await api.wallet(merchant, "c2", 10), await api.wallet(merchant, "c3", 10)
    ops = await api.caller(None)
    said = {"currency": "INR", "reason": "r"}
    await ops.post(f"/v1/accounts/{frozen}/changes", said | {"status": "frozen"})
    bound = {"name": "d", "side": "debit", "measure": "sum", "maximum": 5, "window": "day"}
    await ops.post(f"/v1/accounts/{bounded}/limits", said | bound)
    first = leg(wallet, payable, 1)
    for wrong, code in (
        (leg(frozen, payable, 1), "account_frozen"),
        (leg(bounded, payable, 6), "velocity_exceeded"),
        (leg(wallet, payable, 1000), "insufficient_funds"),
    ):
        answer = await caller.post("/v1/transfers", {"legs": [first, first, wrong, first]})
        assert (answer.status_code, answer.json()["code"]) == (409, code), answer.text
        assert [(e["pointer"], e["code"]) for e in answer.json()["errors"]] == [("/legs/2", code)]


async def test_as_much_as_is_available_is_booked_and_a_repeat_books_no_more(api: Api) -> None:
    _, payable, wallet, caller = await world(api)
    body = {"legs": [leg(wallet, payable, 5000, up_to=True)]}
    answer = await caller.post("/v1/transfers", body, key="k")
    assert answer.json()["postings"][0]["amount"] == 1000
    await api.move("Equity:Opening", wallet, 70)
    assert (await caller.post("/v1/transfers", body, key="k")).content == answer.content
    assert await available(caller, wallet) == 70
    await caller.post("/v1/transfers", body)
    nothing = await caller.post("/v1/transfers", body)
    assert (nothing.status_code, nothing.json()["code"]) == (409, "insufficient_funds")


async def test_a_merchant_moves_between_wallets_and_its_payable_account_only(api: Api) -> None:
    merchant, payable, wallet, caller = await world(api)
    for kept in (
        f"Liabilities:Merchant:{merchant.owner}:Pending",
        f"Assets:Receivable:Merchant:{merchant.owner}",
    ):
        answer = await caller.post(
            "/v1/transfers", {"legs": [leg(wallet, payable, 1), leg(kept, payable, 1)]}
        )
        assert (answer.status_code, answer.json()["code"]) == (403, "account_managed")
        assert answer.json()["errors"][0]["pointer"] == "/legs/1"
    stranger = await api.caller(await api.merchant("Dosa Corner"))
    answer = await stranger.post("/v1/transfers", {"legs": [leg(wallet, payable, 1)]})
    assert (answer.status_code, answer.json()["code"]) == (404, "account_unknown")


async def test_what_is_wrong_is_named_by_pointer(api: Api) -> None:
    caller = await api.caller(None)
    for legs, pointer in (
        ([], "/legs"),
        ([leg("Equity:Opening", "Equity:Opening", 1)], "/legs/0"),
        ([leg("Equity:Opening", "Equity:Other", 1, up_to="yes")], "/legs/0/up_to"),
        ([leg("Equity:Opening", "Equity:Other", 1)] * 101, "/legs"),
    ):
        answer = await caller.post("/v1/transfers", {"legs": legs})
        assert answer.status_code == 422
        assert [e["pointer"] for e in answer.json()["errors"]] == [pointer]


# ---------------------------------------------------------------- sets of holds


async def holds(caller: Caller, wallet: str, payable: str, *amounts: int) -> list[str]:
    placed = [await caller.post("/v1/holds", leg(wallet, payable, amount)) for amount in amounts]
    return [answer.json()["id"] for answer in placed]


async def test_several_holds_are_captured_at_once_and_once(api: Api) -> None:
    _, payable, wallet, caller = await world(api)
    first, second = await holds(caller, wallet, payable, 300, 200)
    captures = [
        {"hold": first, "amount": 100},
        {"hold": second, "amount": 150, "final": True},
        {"hold": first, "amount": 200},
    ]
    answer = await caller.post("/v1/holds/capture", {"captures": captures}, key="k")
    assert answer.status_code == 200, answer.text
    found = answer.json()["data"]
    assert [(h["id"], h["captured"], h["status"]) for h in found] == [
        (first, 300, "ended"),
        (second, 150, "ended"),
        (first, 300, "ended"),
    ]
    assert (await caller.post("/v1/holds/capture", {"captures": captures}, key="k")).content == answer.content
    assert await available(caller, wallet) == 550
    fewer = await caller.post("/v1/holds/capture", {"captures": captures[:1]}, key="k")
    assert fewer.json()["code"] == "idempotency_mismatch"


async def test_a_key_whose_answer_was_forgotten_does_not_capture_part_of_the_set(api: Api) -> None:
    _, payable, wallet, caller = await world(api)
    ids = await holds(caller, wallet, payable, 300, 200)
    captures = [{"hold": hold, "amount": 100} for hold in ids]
    await caller.post("/v1/holds/capture", {"captures": captures}, key="k")
    async with api.deps.pool.connection() as conn:
        await conn.execute("DELETE FROM api.idempotency")
    fewer = await caller.post("/v1/holds/capture", {"captures": captures[:1]}, key="k")
    assert (fewer.status_code, fewer.json()["code"]) == (422, "idempotency_mismatch")
    again = await caller.post("/v1/holds/capture", {"captures": captures}, key="k")
    assert [h["captured"] for h in again.json()["data"]] == [100, 100]


async def test_a_refusal_names_the_culprit_and_nothing_was_done(api: Api) -> None:
    _, payable, wallet, caller = await world(api)
    first, second = await holds(caller, wallet, payable, 300, 200)
    captures = [{"hold": first, "amount": 300}, {"hold": second, "amount": 201}]
    answer = await caller.post("/v1/holds/capture", {"captures": captures}, key="k")
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (409, "hold_exceeded")
    assert [(e["pointer"], e["code"]) for e in problem["errors"]] == [("/captures/1", "hold_exceeded")]
    assert second in problem["detail"]
    assert (await caller.get(f"/v1/holds/{first}")).json()["captured"] == 0
    captures[1]["amount"] = 200
    assert (await caller.post("/v1/holds/capture", {"captures": captures}, key="k")).status_code == 200


async def test_several_holds_are_released_at_once_or_not_at_all(api: Api) -> None:
    _, payable, wallet, caller = await world(api)
    first, second = await holds(caller, wallet, payable, 300, 200)
    twice = await caller.post("/v1/holds/release", {"releases": [{"hold": first}, {"hold": first}]})
    assert twice.json()["errors"][0] == {
        "pointer": "/releases/1",
        "code": "hold_ended",
        "detail": twice.json()["detail"],
    }
    answer = await caller.post(
        "/v1/holds/release", {"releases": [{"hold": first, "amount": 1}, {"hold": second}, {"hold": first}]}
    )
    assert [h["released"] for h in answer.json()["data"]] == [300, 200, 300]
    assert await available(caller, wallet) == 1000


async def test_another_merchants_hold_among_them_is_unknown(api: Api) -> None:
    _, payable, wallet, caller = await world(api)
    [hold] = await holds(caller, wallet, payable, 300)
    stranger = await api.caller(await api.merchant("Dosa Corner"))
    answer = await stranger.post("/v1/holds/release", {"releases": [{"hold": hold}]})
    assert (answer.status_code, answer.json()["code"]) == (404, "hold_unknown")
    assert answer.json()["errors"][0]["pointer"] == "/releases/0"


async def test_one_key_for_two_bodies_at_once_stands_for_one_of_them(api: Api) -> None:
    """Of two books, so nothing but the key itself makes one wait for the other."""
    async with api.deps.pool.connection() as conn:
        second = await create_book(conn, name="second", now=api.clock())
        accounts = [m.NewAccount(path, "INR") for path in ("Equity:Opening", "Equity:Other")]
        await open_accounts(conn, second, accounts, now=api.clock())
    await api.open(*accounts)
    caller = await api.caller(None)
    legs = [leg("Equity:Opening", "Equity:Other", 1)]
    for key in ("k1", "k2", "k3"):
        told = await asyncio.gather(
            *(caller.post("/v1/transfers", {"book": b, "legs": legs}, key=key) for b in (1, second))
        )
        assert sorted(answer.status_code for answer in told) in ([201, 409], [201, 422])
        codes = {answer.json().get("code") for answer in told} - {None}
        assert codes <= {"idempotency_mismatch", "idempotency_in_flight"}


async def test_a_key_claimed_meanwhile_gives_the_answer_or_says_why_there_is_none(api: Api) -> None:
    merchant, payable, wallet, caller = await world(api)
    body = {"legs": [leg(wallet, payable, 1)]}
    secrets, before = api.deps.secrets, await available(caller, wallet)
    path = "/v1/transfers"
    same = secrets.request_hash("POST", path, json.dumps(body, separators=(",", ":")).encode())
    once = {"k1": same, "k2": b"x" * 32}
    async with api.deps.pool.connection() as conn:
        for key, digest in once.items():
            await conn.execute(
                "INSERT INTO api.idempotency (caller, route, key, request_hash, created_at)"
                " VALUES (%s, 'transfer', %s, %s, %s)",
                (merchant.owner, key, digest, api.clock()),
            )
    told = [await caller.post(path, body, key=key) for key in once]
    assert [(a.status_code, a.json()["code"]) for a in told] == [
        (409, "idempotency_in_flight"),
        (422, "idempotency_mismatch"),
    ]
    assert await available(caller, wallet) == before


async def test_nobody_writes_metadata_that_tells_of_an_approval(api: Api) -> None:
    _, payable, wallet, caller = await world(api)
    for path, body in (
        ("/v1/transfers", {"legs": [leg(wallet, payable, 1)]}),
        ("/v1/holds", leg(wallet, payable, 1)),
    ):
        answer = await caller.post(path, body | {"metadata": {"adjustment.approver": "cli_x"}})
        assert (answer.status_code, answer.json()["errors"][0]["code"]) == (422, "key_reserved")
        assert (await caller.post(path, body | {"metadata": {"adjustment": "x"}})).status_code == 201
