"""Balances of the past over HTTP: both axes of time, sums below a path, what late journals restated."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import pytest

from ledger import model as m
from tests.api.conftest import Api, Caller

CASH, OPENING = "Assets:Bank:Meridian:Escrow", "Equity:Opening"


async def move(api: Api, credit: str, amount: int, *, days_ago: int = 0) -> None:
    """Cash in, one second after the last."""
    api.clock.ahead += timedelta(seconds=1)
    id_ = api.deps.gateway.ids()
    journal = m.Journal(
        *(id_, "transfer", m.Source("test", str(id_), "done")),
        (m.Posting(CASH, credit, amount, "INR"),),
        effective_at=api.clock() - timedelta(days=days_ago),
        description=f"{amount}",
    )
    result = await api.deps.gateway.writers(api.deps.book_id).submit(m.Unit((journal,)))
    assert isinstance(result, m.Posted), result


async def asked(caller: Caller, path: str, **query: Any) -> Any:
    answer = await caller.get(path, **query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def posted(caller: Caller, **query: Any) -> int:
    found = await asked(caller, "/v1/accounts", prefix=CASH, **query)
    return found["data"][0]["posted"]


async def test_a_balance_counts_what_was_known_and_what_was_effective_by_then(api: Api) -> None:
    await api.open(m.NewAccount(CASH, "INR"), m.NewAccount(OPENING, "INR"))
    await move(api, OPENING, 100)
    between = api.clock()
    await move(api, OPENING, 20, days_ago=3)
    await move(api, OPENING, 3, days_ago=-2)
    auditor, today = await api.caller(None), api.clock().date()
    assert await posted(auditor) == 123
    assert await posted(auditor, effective_as_of=today) == 120
    assert await posted(auditor, effective_as_of=today - timedelta(days=1)) == 20
    assert await posted(auditor, known_as_of=1) == 100
    assert await posted(auditor, known_as_of=0) == 0
    assert await posted(auditor, known_as_of=between.isoformat()) == 100
    assert await posted(auditor, known_as_of=2, effective_as_of=today) == 120
    assert await posted(auditor, known_as_of=1, effective_as_of=today - timedelta(days=1)) == 0
    found = await asked(auditor, "/v1/accounts", prefix=CASH, known_as_of=between.isoformat())
    assert found["as_of"] == {"effective_as_of": None, "known_as_of": 1}
    assert "floor" not in found["data"][0]  # of floors and statuses it does not speak
    assert (await asked(auditor, "/v1/accounts", prefix=CASH))["as_of"] is None


async def test_a_merchants_figures_have_a_past_too(api: Api) -> None:
    merchant = await api.merchant()
    pending = f"Liabilities:Merchant:{merchant.owner}:Pending"
    await api.open(m.NewAccount(CASH, "INR"))
    await move(api, pending, 70)
    await move(api, pending, 5, days_ago=9)
    caller, today = await api.caller(merchant), api.clock().date()

    async def pending_as_of(**query: Any) -> int:
        return (await asked(caller, "/v1/balance", **query))["data"][0]["pending"]

    assert await pending_as_of() == 75
    assert await pending_as_of(known_as_of=1) == 70
    assert await pending_as_of(effective_as_of=today - timedelta(days=1)) == 5
    [total] = [t for t in await totals(caller, pending, known_as_of=1) if t["currency"] == "INR"]
    assert (total["posted"], total["accounts"]) == (70, 1)
    assert await totals(caller, CASH) == []  # another's


async def totals(caller: Caller, prefix: str, **query: Any) -> list[dict[str, Any]]:
    return (await asked(caller, "/v1/totals", prefix=prefix, **query))["data"]


async def test_totals_sum_up_what_is_below_a_path(api: Api) -> None:
    accounts = [m.NewAccount(f"Liabilities:Customer:c{n}:Wallet", "INR") for n in range(3)]
    await api.open(m.NewAccount(CASH, "INR"), *accounts)
    for n, account in enumerate(accounts):
        await move(api, account.path, 10**n, days_ago=n)
    auditor, today = await api.caller(None), api.clock().date()
    [now] = await totals(auditor, "Liabilities:Customer")
    assert (now["posted"], now["available"], now["accounts"]) == (111, 111, 3)
    [then] = await totals(
        auditor, "Liabilities:Customer", effective_as_of=today - timedelta(days=1), known_as_of=2
    )
    assert then["posted"] == 10
    assert await totals(auditor, "Liabilities:Cust") == []


@pytest.mark.parametrize("past", [{}, {"known_as_of": 0}])
async def test_accounts_page_by_path_and_currency(api: Api, past: dict[str, Any]) -> None:
    paths = [f"Liabilities:Customer:c{n}:Wallet" for n in range(5)]
    await api.open(*(m.NewAccount(path, currency) for path in paths for currency in ("INR", "JPY")))
    auditor = await api.caller(None)
    seen: list[tuple[str, str]] = []
    query: dict[str, Any] = {"prefix": "Liabilities:Customer", "limit": 3} | past
    while True:
        page = await asked(auditor, "/v1/accounts", **query)
        seen += [(a["path"], a["currency"]) for a in page["data"]]
        if page["next"] is None:
            break
        assert len(page["data"]) == 3
        query["after"] = page["next"]
    assert seen == [(path, currency) for path in paths for currency in ("INR", "JPY")]


async def test_a_restatement_names_the_late_journals_page_by_page(api: Api) -> None:
    await api.open(m.NewAccount(CASH, "INR"), m.NewAccount(OPENING, "INR"))
    await move(api, OPENING, 100, days_ago=2)
    reported = api.clock()
    for amount, days_ago in ((20, 2), (3, 1), (7, 40)):  # the second is effective after the days reported
        await move(api, OPENING, amount, days_ago=days_ago)
    auditor = await api.caller(None)
    query = {
        "effective_as_of": (reported - timedelta(days=2)).date(),
        "then": reported.isoformat(),
        "limit": 1,
    }
    first = await asked(auditor, "/v1/restatements", **query)
    assert (first["then"], first["now"], first["next"]) == (1, 4, 2)
    assert [j["description"] for j in first["late"]] == ["20"]
    assert [(c["path"], c["reported"]["posted"], c["restated"]["posted"]) for c in first["changed"]] == [
        (CASH, 100, 127),
        (OPENING, 100, 127),
    ]
    rest = await asked(auditor, "/v1/restatements", **query, after=first["next"])
    assert ([j["description"] for j in rest["late"]], rest["next"]) == (["7"], None)
    assert rest["changed"] == first["changed"]
    merchant = await api.caller(await api.merchant())
    assert (await merchant.get("/v1/restatements", **query)).status_code == 403


@pytest.mark.parametrize(
    ("path", "query", "pointer"),
    [
        ("/v1/accounts", {"effective_as_of": "2026-02-30"}, "query/effective_as_of"),
        ("/v1/accounts", {"effective_as_of": "1899-01-01"}, "query/effective_as_of"),
        ("/v1/accounts", {"known_as_of": "yesterday"}, "query/known_as_of"),
        ("/v1/accounts", {"known_as_of": "-1"}, "query/known_as_of"),
        ("/v1/accounts", {"known_as_of": "9" * 19}, "query/known_as_of"),
        ("/v1/accounts", {"known_as_of": "2026-11-22T09:00:00"}, "query/known_as_of"),  # of which zone?
        ("/v1/accounts", {"after": "Assets:Bank"}, "query/after"),
        ("/v1/totals", {}, "query/prefix"),
        ("/v1/restatements", {"effective_as_of": "2026-11-22"}, "query/then"),
        (
            "/v1/restatements",
            {"effective_as_of": "2026-11-22", "then": "0", "after": str(2**63 - 1)},
            "query/after",
        ),
    ],
)
async def test_a_point_in_time_that_is_none_is_refused(
    api: Api, path: str, query: dict[str, str], pointer: str
) -> None:
    answer = await (await api.caller(None)).get(path, **query)
    assert answer.status_code == 422, answer.text
    assert all(error["pointer"].startswith(pointer) for error in answer.json()["errors"])


async def test_what_is_not_recorded_yet_cannot_be_asked_for(api: Api) -> None:
    auditor = await api.caller(None)
    for path, query in (
        ("/v1/accounts", {"known_as_of": 1}),
        ("/v1/restatements", {"effective_as_of": date(2026, 1, 1), "then": 0, "now": 10**18}),
    ):
        answer = await auditor.get(path, **query)
        assert (answer.status_code, answer.json()["code"]) == (422, "not_recorded")


async def test_an_instant_before_everything_knows_nothing(api: Api) -> None:
    await api.open(m.NewAccount(CASH, "INR"))
    at = datetime.fromisoformat("2001-01-01T00:00:00+05:30")
    assert await posted(await api.caller(None), known_as_of=at.isoformat()) == 0
