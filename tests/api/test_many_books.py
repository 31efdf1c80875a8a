"""Several books over HTTP: transfers between them, once each; and all of them together."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from api.policy import Scope
from gateway.transfers import between_books
from ledger import model as m
from ledger.books import create_book, open_accounts
from ledger.transfers import Transfer, clearing
from tests.api.conftest import Api, Caller

WALLET, OPENING = "Liabilities:Customer:c:Wallet", "Equity:Opening"
PLATFORM = frozenset({Scope.TRANSFERS_WRITE, Scope.ACCOUNTS_READ})


@pytest.fixture
async def caller(api: Api) -> Caller:
    """A platform client; book 1 and book 2 each have a wallet, the first with 1000 in it."""
    accounts = [m.NewAccount(WALLET, "INR", floor=0), m.NewAccount(OPENING, "INR")]
    async with api.deps.pool.connection() as conn:
        assert await create_book(conn, name="second", now=api.clock()) == 2
        for book_id in (1, 2):
            await open_accounts(conn, book_id, accounts, now=api.clock())
    await api.move(OPENING, WALLET, 1000)
    return await api.caller(None, PLATFORM)


def body(amount: int = 300, **other: Any) -> dict[str, Any]:
    return {
        "to_book": 2,
        "account": WALLET,
        "to_account": WALLET,
        "amount": amount,
        "currency": "INR",
    } | other


async def test_a_transfer_to_another_book_is_made_once_and_found_by_its_id(api: Api, caller: Caller) -> None:
    sent = await caller.post("/v1/book-transfers", body(), key="k1")
    assert sent.status_code == 201, sent.text
    told = sent.json()
    assert (told["state"], told["book"], told["to_book"], told["side"]) == ("completed", 1, 2, "debit")
    again = await caller.post("/v1/book-transfers", body(), key="k1")
    assert again.content == sent.content
    other = await caller.post("/v1/book-transfers", body(301), key="k1")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch"), other.text
    found = await caller.get(f"/v1/book-transfers/{told['id']}")
    assert found.json() == told
    assert (await caller.get(f"/v1/book-transfers/{told['id']}", book="2")).status_code == 404
    wallets = [
        (await caller.get("/v1/accounts", book=b, prefix=WALLET)).json()["data"][0] for b in ("1", "2")
    ]
    assert [w["posted"] for w in wallets] == [700, 300]


async def test_an_answer_that_was_lost_is_given_by_the_same_transfer(api: Api, caller: Caller) -> None:
    sent = await caller.post("/v1/book-transfers", body(), key="k1")
    async with api.deps.pool.connection() as conn:
        await conn.execute("DELETE FROM api.idempotency")
    again = await caller.post("/v1/book-transfers", body(), key="k1")
    assert again.json() == sent.json()
    async with api.deps.pool.connection() as conn:
        await conn.execute("DELETE FROM api.idempotency")
    other = await caller.post("/v1/book-transfers", body(301), key="k1")
    assert other.status_code == 422, other.text


async def test_what_either_book_refuses_is_told(caller: Caller) -> None:
    short = await caller.post("/v1/book-transfers", body(1001))
    assert (short.status_code, short.json()["code"]) == (409, "insufficient_funds")
    back = await caller.post("/v1/book-transfers", body(to_account="Liabilities:Customer:nobody:Wallet"))
    assert back.status_code == 201
    assert (back.json()["state"], back.json()["reason"]) == ("returned", "account_unknown")
    for wrong, status in (
        (body(to_book=99), 404), (body(to_book=1), 422), (body(account=clearing("second")), 403),
        (body(to_account="Equity:Memo:Issuers"), 403), (body(side="left"), 422),
    ):  # fmt: skip
        answer = await caller.post("/v1/book-transfers", wrong)
        assert answer.status_code == status, answer.text


async def test_what_is_in_flight_is_listed_page_by_page(api: Api, caller: Caller) -> None:
    """As after a crash: sent, and carried no further yet."""
    gw = api.deps.gateway
    carrier = between_books(gw)
    sent = [Transfer(gw.ids(), 1, 2, WALLET, WALLET, n, "INR") for n in (1, 2, 3)]
    for t in sent:
        assert isinstance(await gw.writers(1).submit(await carrier.prepare(t)), m.Posted)
    first = (await caller.get("/v1/book-transfers", limit="2")).json()
    rest = (await caller.get("/v1/book-transfers", limit="2", after=str(first["next"]))).json()
    assert [t["id"] for t in first["data"] + rest["data"]] == [str(t.id) for t in sent]
    assert rest["next"] is None
    assert await carrier.recover() == 3
    assert (await caller.get("/v1/book-transfers")).json() == {"data": [], "next": None}


async def test_all_books_together_at_numbers_of_their_own(caller: Caller) -> None:
    told = (await caller.post("/v1/book-transfers", body())).json()
    path = "/v1/reports/consolidated-trial-balance"
    now = (await caller.get(path)).json()
    assert now["books"] == [{"book": 1, "seq": 2}, {"book": 2, "seq": 1}]
    rows = {row["account"]: (row["debit"], row["credit"]) for row in now["rows"]}
    assert rows == {WALLET: (0, 1000), OPENING: (1000, 0)}
    assert [(line["book"], line["net"]) for line in now["eliminated"]] == [(1, -300), (2, 300)]
    assert (now["on_the_way"], now["unexplained"]) == ([], [])
    before = (await caller.get(path, at="1:2,2:0")).json()
    assert [(way["id"], way["net"], way["early"]) for way in before["on_the_way"]] == [
        (told["id"], -300, False)
    ]
    for at, status in (("1:99", 422), ("9:1", 404), ("1", 422), ("1:2,", 422), ("1:1,2:0,01:1", 422)):
        assert (await caller.get(path, at=at)).status_code == status, at


async def test_no_merchant_sees_or_moves_anything_between_books(api: Api) -> None:
    merchant = await api.caller(await api.merchant())
    answers = [
        await merchant.post("/v1/book-transfers", body()),
        await merchant.get("/v1/book-transfers"),
        await merchant.get("/v1/reports/consolidated-trial-balance"),
    ]
    assert {(a.status_code, a.json()["code"]) for a in answers} == {(403, "client_kind_wrong")}


async def test_one_key_moves_money_out_of_one_book_only(api: Api, caller: Caller) -> None:
    """The id that follows from the key is unique in each sending book, not over them all."""
    async with api.deps.pool.connection() as conn:
        third = await create_book(conn, name="third", now=api.clock())
        await open_accounts(conn, third, [m.NewAccount(WALLET, "INR")], now=api.clock())
    await caller.post("/v1/book-transfers", body(500))
    asked = [body(10, to_book=third), body(10, book=2, to_book=third)]
    told = await asyncio.gather(*(caller.post("/v1/book-transfers", one, key="k") for one in asked * 2))
    assert sorted(answer.status_code for answer in told) == [201, 201, 422, 422]
    assert {a.json()["code"] for a in told if a.status_code == 422} == {"idempotency_mismatch"}
    (wallet,) = (await caller.get("/v1/accounts", book=str(third), prefix=WALLET)).json()["data"]
    assert wallet["posted"] == 10


async def test_a_refused_transfer_may_be_sent_again_with_its_key(api: Api, caller: Caller) -> None:
    short = await caller.post("/v1/book-transfers", body(1001), key="k")
    assert (short.status_code, short.json()["code"]) == (409, "insufficient_funds")
    other = await caller.post("/v1/book-transfers", body(1), key="k")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
    await api.move(OPENING, WALLET, 1)
    sent = await caller.post("/v1/book-transfers", body(1001), key="k")
    assert (sent.status_code, sent.json()["state"]) == (201, "completed")


async def test_books_are_summed_whatever_their_currencies_are_called(api: Api, caller: Caller) -> None:
    await api.open(m.NewAccount("Assets:Gold", "XAU"), m.NewAccount("Equity:Gold", "XAU"))
    await api.move("Assets:Gold", "Equity:Gold", 7, "XAU")
    told = await caller.get("/v1/reports/consolidated-trial-balance")
    assert told.status_code == 200, told.text
    gold = [row for row in told.json()["rows"] if row["currency"] == "XAU"]
    assert [(row["account"], row["debit"], row["credit"]) for row in gold] == [
        ("Assets:Gold", 7, 0),
        ("Equity:Gold", 0, 7),
    ]
