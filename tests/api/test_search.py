"""Journals found over HTTP: by everything they say, alone and together."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from ledger import model as m
from tests.api.conftest import Api, Caller

CASH, FEES, SALES = "Assets:Bank:Meridian:Escrow", "Income:Fees:card", "Income:Sales"


async def found(caller: Caller, **query: Any) -> list[int]:
    answer = await caller.get("/v1/journals", **query)
    assert answer.status_code == 200, answer.text
    return [journal["seq"] for journal in answer.json()["data"]]


@pytest.fixture
async def auditor(api: Api) -> Caller:
    """Journals 1 to 4 in a book."""
    await api.open(*(m.NewAccount(path, "INR") for path in (CASH, FEES, SALES)))
    ids = api.deps.gateway.ids
    for n, (kind, credit, day) in enumerate(
        [("fee", FEES, 1), ("sale", SALES, 15), ("sale", SALES, 31), ("fee", FEES, 31)], start=1
    ):
        journal = m.Journal(
            *(ids(), kind, m.Source("order", f"o-{n}", "paid"), (m.Posting(CASH, credit, 100 * n, "INR"),)),
            effective_at=datetime(2026, 3, day, 23, 59, tzinfo=UTC),
            metadata={"order_id": f"{n}", "shop": "a=b"},
        )
        assert isinstance(
            await api.deps.gateway.writers(api.deps.book_id).submit(m.Unit((journal,))), m.Posted
        )
    return await api.caller(None)


async def test_each_condition_finds_its_journals(auditor: Caller) -> None:
    assert await found(auditor, kind="fee") == [4, 1]
    assert await found(auditor, source_type="order", source_event="paid", limit=3) == [4, 3, 2]
    assert await found(auditor, source_id="o-3") == [3]
    assert await found(auditor, account=SALES) == [3, 2]
    assert await found(auditor, amount=200, currency="INR") == [2]
    assert await found(auditor, **{"metadata[order_id]": "4"}) == [4]
    assert await found(auditor, **{"metadata[shop]": "a=b", "metadata[order_id]": "1"}) == [1]
    assert await found(auditor, effective_from="2026-03-15") == [4, 3, 2]
    assert await found(auditor, effective_from="2026-03-02", effective_to="2026-03-30") == [2]


async def test_conditions_hold_together(auditor: Caller) -> None:
    assert await found(auditor, kind="fee", effective_from="2026-03-31", account=CASH) == [4]
    assert await found(auditor, kind="fee", account=SALES) == []


async def test_recorded_times_are_found_to_the_microsecond(auditor: Caller) -> None:
    journals = (await auditor.get("/v1/journals")).json()["data"]
    at = {j["seq"]: j["recorded_at"] for j in journals}
    assert set(await found(auditor, recorded_from=at[2], recorded_to=at[3])) >= {2, 3}
    assert await found(auditor, recorded_to="2026-01-01T00:00:00Z") == []
    assert len(await found(auditor, recorded_from=at[1])) == 4


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ({"amount": "100"}, "query"),
        ({"currency": "INR"}, "query"),
        ({"amount": "0", "currency": "INR"}, "query/amount"),
        ({"metadata": "x"}, "query/metadata"),
        ({"metadata[Order]": "x"}, "query/metadata/Order"),
        ({"effective_from": "31.03.2026"}, "query/effective_from"),
        ({"recorded_from": "2026-03-31"}, "query/recorded_from"),
        ({"source_event": "Paid!"}, "query/source_event"),
    ],
)
async def test_a_condition_that_says_nothing_clear_is_refused(
    api: Api, query: dict[str, str], pointer: str
) -> None:
    answer = await (await api.caller(None)).get("/v1/journals", **query)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["pointer"].startswith(pointer)


async def test_a_pair_given_twice_is_refused(api: Api) -> None:
    auditor = await api.caller(None)
    for query in ("metadata[a]=1&metadata[a]=2", "metadata[a]=1&metadata=2", "metadata=2&metadata[a]=1"):
        answer = await auditor.http.get(f"/v1/journals?{query}", headers=auditor.headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "malformed_request"), query


async def test_pairs_are_described_as_openapi_describes_them(api: Api) -> None:
    document = (await api.http.get("/openapi.json")).json()
    parameters = {p["name"]: p for p in document["paths"]["/v1/journals"]["get"]["parameters"]}
    assert (parameters["metadata"]["style"], parameters["metadata"]["explode"]) == ("deepObject", True)
