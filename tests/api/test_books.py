"""Reading the books over HTTP: figures, statements and journals that explain them."""

from __future__ import annotations

import contextlib
import hashlib
from datetime import timedelta
from uuid import uuid4

import pytest

from ledger import model as m
from tests.api.conftest import Api

CASH, OPENING = "Assets:Bank:Meridian:Escrow", "Equity:Opening"


async def some_moves(api: Api, amounts: list[int]) -> None:
    await api.open(m.NewAccount(CASH, "INR"), m.NewAccount(OPENING, "INR"))
    for amount in amounts:
        await api.move(CASH, OPENING, amount)


async def test_a_statement_pages_by_line_and_each_line_has_its_balance(api: Api) -> None:
    await some_moves(api, [100, 20, 3])
    auditor = await api.caller(None)
    first = (await auditor.get(f"/v1/accounts/{CASH}/statement", currency="INR", limit=2)).json()
    assert (first["opening"], first["closing"], first["next"]) == (0, 120, "2.1")
    assert [(line["amount"], line["posted"]) for line in first["lines"]] == [(100, 100), (20, 120)]
    assert first["lines"][0]["counter_account"] == OPENING
    rest = (await auditor.get(f"/v1/accounts/{CASH}/statement", currency="INR", after=first["next"])).json()
    assert (rest["opening"], rest["closing"], rest["next"]) == (120, 123, None)
    journal = (await auditor.get(f"/v1/journals/{rest['lines'][0]['journal']}")).json()
    assert journal["postings"] == [
        {"debit": CASH, "credit": OPENING, "amount": 3, "currency": "INR", "layer": "posted", "hold": None}
    ]
    assert len(journal["leaf_hash"]) == 64
    assert journal["recorded_at"].endswith("Z")


async def test_accounts_are_found_below_a_prefix(api: Api) -> None:
    await some_moves(api, [5])
    auditor = await api.caller(None)
    found = (await auditor.get("/v1/accounts", prefix="Assets:Bank")).json()["data"]
    assert [(a["path"], a["posted"], a["type"]) for a in found] == [(CASH, 5, "asset")]


async def test_journals_page_newest_first_and_filter(api: Api) -> None:
    await some_moves(api, [1, 2, 3])
    auditor = await api.caller(None)
    first = (await auditor.get("/v1/journals", limit=2)).json()
    assert [j["seq"] for j in first["data"]] == [3, 2]
    rest = (await auditor.get("/v1/journals", limit=2, before=first["next"])).json()
    assert ([j["seq"] for j in rest["data"]], rest["next"]) == ([1], None)
    assert not (await auditor.get("/v1/journals", kind="capture")).json()["data"]
    source = first["data"][0]["source"].split("/")[1]
    found = (await auditor.get("/v1/journals", source_type="test", source_id=source)).json()["data"]
    assert [j["seq"] for j in found] == [3]
    assert len((await auditor.get("/v1/journals", account=CASH)).json()["data"]) == 3


async def test_a_merchant_sees_its_own_journals_and_only_its_own_postings(api: Api) -> None:
    mine, other = await api.merchant("Chai Point"), await api.merchant("Dosa Corner")
    a, b = await api.wallet(mine, "a", 100), await api.wallet(other, "b", 100)
    id_ = api.deps.gateway.ids()
    shared = m.Journal(
        *(id_, "split", m.Source("test", "both", "done")),
        (m.Posting(OPENING, a, 1, "INR"), m.Posting(OPENING, b, 2, "INR")),
    )
    await api.deps.gateway.writers(api.deps.book_id).submit(m.Unit((shared,)))
    caller = await api.caller(mine)
    seen = (await caller.get("/v1/journals")).json()["data"]
    assert [j["kind"] for j in seen] == ["split", "transfer"]
    assert [(p["credit"], p["amount"]) for p in seen[0]["postings"]] == [(a, 1)]
    assert (await caller.get(f"/v1/journals/{id_}")).json() == seen[0]
    assert [j["kind"] for j in (await caller.get("/v1/journals", kind="split")).json()["data"]] == ["split"]
    one = (await caller.get("/v1/journals", source_type="test", source_id="both")).json()["data"]
    assert one == [seen[0]]
    assert not (await caller.get("/v1/journals", account=b)).json()["data"]


async def test_another_merchants_account_journal_and_book_are_unknown(api: Api) -> None:
    mine, other = await api.merchant("Chai Point"), await api.merchant("Dosa Corner")
    wallet = await api.wallet(other, "b", 100)
    caller, auditor = await api.caller(mine), await api.caller(None)
    (journal,) = (await auditor.get("/v1/journals", account=wallet)).json()["data"]
    for path, query in (
        (f"/v1/accounts/{wallet}/statement", {"currency": "INR"}),
        (f"/v1/journals/{journal['id']}", {}),
        (f"/v1/journals/{uuid4()}", {}),
        ("/v1/journals/nonsense", {}),
        ("/v1/accounts", {"book": 77}),
    ):
        assert (await caller.get(path, **query)).status_code == 404, path
    assert all(a["path"] != wallet for a in (await caller.get("/v1/accounts")).json()["data"])


async def test_a_merchants_balance_has_one_entry_a_currency(api: Api) -> None:
    merchant = await api.merchant()
    await api.open(m.NewAccount(OPENING, "INR"))
    await api.move(OPENING, f"Liabilities:Merchant:{merchant.owner}:Pending", 70)
    await api.move(OPENING, f"Liabilities:Merchant:{merchant.owner}:Available", 30)
    caller = await api.caller(merchant)
    answer = (await caller.get("/v1/balance")).json()
    nothing = {"pending": 0, "available": 0, "reserve": 0, "disputed": 0, "owed": 0}
    assert answer == {
        "merchant": merchant.owner,
        "as_of": None,
        "data": [
            {"currency": "INR"} | nothing | {"pending": 70, "available": 30},
            {"currency": "JPY"} | nothing,
        ],
    }


@pytest.mark.parametrize(
    ("path", "query", "pointer"),
    [
        ("/v1/journals", {"limit": "0"}, "query/limit"),
        ("/v1/journals", {"limit": "201"}, "query/limit"),
        ("/v1/journals", {"limit": "1.5"}, "query/limit"),
        ("/v1/journals", {"before": "-1"}, "query/before"),
        ("/v1/journals", {"before": "9" * 30}, "query/before"),
        ("/v1/journals", {"sort": "kind"}, "query/sort"),
        ("/v1/journals", {"kind": "'; DROP"}, "query/kind"),
        (f"/v1/accounts/{CASH}/statement", {}, "query/currency"),
        (f"/v1/accounts/{CASH}/statement", {"currency": "ZZZ"}, "query/currency"),
        ("/v1/accounts", {"prefix": "%"}, "query/prefix"),
    ],
)
async def test_a_query_is_judged_strictly(api: Api, path: str, query: dict[str, str], pointer: str) -> None:
    auditor = await api.caller(None)
    answer = await auditor.get(path, **query)
    assert answer.status_code == 422, answer.text
    assert [e["pointer"] for e in answer.json()["errors"]] == [pointer]


@pytest.mark.parametrize("account", ["nothing", "Assets:Bank%00", "%2e%2e", "Assets:" + "x" * 3000])
async def test_an_account_that_is_not_there_is_404(api: Api, account: str) -> None:
    auditor = await api.caller(None)
    answer = await auditor.get(f"/v1/accounts/{account}/statement", currency="INR")
    assert answer.status_code == 404


@pytest.mark.parametrize("format", ["jsonl", "csv", "hledger", "ledger", "beancount"])
async def test_the_journal_is_exported_in_each_format(api: Api, format: str) -> None:
    await some_moves(api, [100, 20, 3])
    auditor = await api.caller(None)
    answer = await auditor.get("/v1/exports/journal", format=format)
    assert answer.status_code == 200, answer.text
    assert "attachment" in answer.headers["content-disposition"]
    assert answer.headers["cache-control"] == "no-store"
    assert CASH in answer.text


async def test_the_lines_of_an_export_are_the_preimages_of_the_leaf_hashes(api: Api) -> None:
    await some_moves(api, [100, 20, 3])
    auditor = await api.caller(None)
    lines = (await auditor.get("/v1/exports/journal", after=1)).content.splitlines()
    hashes = [hashlib.sha256(b"\x00" + line).hexdigest() for line in lines]
    shown = (await auditor.get("/v1/journals")).json()["data"]
    assert hashes == [j["leaf_hash"] for j in reversed(shown) if j["seq"] > 1]


async def test_an_export_is_of_the_days_and_the_account_that_are_asked_for(api: Api) -> None:
    today = api.clock().date()
    await some_moves(api, [100, 20, 3])
    auditor = await api.caller(None)

    async def exported(**asked: object) -> int:
        answer = await auditor.get("/v1/exports/journal", **asked)
        assert answer.status_code == 200, answer.text
        return len(answer.content.splitlines())

    everything = await exported()
    assert everything >= 3
    assert await exported(**{"from": today, "to": today + timedelta(days=1)}) == everything
    assert await exported(**{"from": today + timedelta(days=2)}) == 0
    assert await exported(to=today - timedelta(days=1)) == 0
    assert await exported(account=CASH) >= 3
    for asked, status in (
        ({"account": "Assets:Nowhere"}, 404),
        ({"owner": "nobody"}, 422),
        ({"from": today, "after": 1}, 422),
        ({"from": today, "to": today - timedelta(days=1)}, 422),
    ):
        assert (await auditor.get("/v1/exports/journal", **asked)).status_code == status, asked


async def test_an_export_of_no_book_is_a_problem_and_not_an_empty_file(api: Api) -> None:
    auditor = await api.caller(None)
    answer = await auditor.get("/v1/exports/journal", book=77)
    assert (answer.status_code, answer.json()["code"]) == (404, "book_unknown")


async def test_exports_that_nobody_reads_do_not_take_every_connection(api: Api) -> None:
    await some_moves(api, [1])
    auditor = await api.caller(None)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(3):
            await stack.enter_async_context(api.deps.exporting)
        answer = await auditor.get("/v1/exports/journal")
        assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
    assert (await auditor.get("/v1/exports/journal")).status_code == 200
