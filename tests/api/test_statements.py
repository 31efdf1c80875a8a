"""Statements and reports over HTTP: pages that join, files that other programs read, and who may have them."""

from __future__ import annotations

import asyncio
import csv
import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from urllib.parse import urlencode

import structlog

from api.app import create_app
from ledger import model as m
from tests.api.conftest import Api, Caller
from tests.reports import readers

CASH, FEES, WALLET = "Assets:Bank:Meridian:Escrow", "Income:Fees:card", "Liabilities:Customer:c42:Wallet"
FIRST, LAST = "2026-11-01", "2026-11-30"
READERS = {
    "csv": ("text/csv", readers.read_csv),
    "camt.053": ("application/xml", readers.read_camt),
    "html": ("text/html", readers.read_html),
    "pdf": ("application/pdf", readers.read_pdf),
}
PERIOD = {"currency": "INR", "from": FIRST, "to": LAST}


async def booked(api: Api) -> None:
    """100.00 in October; 20.00 in and 3.50 out in November, the first of them recorded last; 1.00 in December."""
    await api.open(*(m.NewAccount(path, "INR") for path in (CASH, FEES, WALLET)))
    moves = [
        (CASH, WALLET, 10_000, 10, 7),
        (WALLET, FEES, 350, 11, 9),
        (CASH, WALLET, 100, 12, 1),
        (CASH, WALLET, 2000, 11, 2),
    ]
    for debit, credit, amount, month, day in moves:
        id_ = api.deps.gateway.ids()
        journal = m.Journal(
            *(id_, "transfer", m.Source("test", str(id_), "done")),
            (m.Posting(debit, credit, amount, "INR"),),
            effective_at=datetime(2026, month, day, tzinfo=UTC),
        )
        result = await api.deps.gateway.writers(api.deps.book_id).submit(m.Unit((journal,)))
        assert isinstance(result, m.Posted), result


async def statement(caller: Caller, account: str = WALLET, **query: Any) -> Any:
    return await caller.get(f"/v1/accounts/{account}/statement", **query)


async def test_a_statement_between_days_runs_by_day_and_its_pages_join(api: Api) -> None:
    await booked(api)
    auditor = await api.caller(None)
    first = (await statement(auditor, **PERIOD, limit=1)).json()
    assert (first["opening"], first["closing"]) == (10_000, 12_000)
    assert [(line["amount"], line["posted"]) for line in first["lines"]] == [(2000, 12_000)]
    rest = (await statement(auditor, **PERIOD, after=first["next"], known_as_of=first["known"])).json()
    assert (rest["opening"], rest["closing"], rest["next"]) == (12_000, 11_650, None)
    assert [line["amount"] for line in rest["lines"]] == [-350]


async def test_a_statement_is_the_same_in_every_file(api: Api) -> None:
    await booked(api)
    auditor = await api.caller(None)
    for format, (media_type, read) in READERS.items():
        answer = await statement(auditor, **PERIOD, format=format)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].startswith(media_type)
        name = f"Liabilities-Customer-c42-Wallet-INR-{FIRST}-{LAST}"
        suffix = "xml" if format == "camt.053" else format
        assert f'filename="{name}.{suffix}"' in answer.headers["content-disposition"]
        assert read(answer.content, "INR") == readers.Read(10_000, [2000, -350], 11_650)


async def test_a_page_to_print_comes_under_a_policy_that_allows_its_own_style_and_nothing_else(
    api: Api,
) -> None:
    await booked(api)
    answer = await statement(await api.caller(None), **PERIOD, format="html")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy


async def test_a_statement_as_known_before_a_late_journal_does_not_have_it(api: Api) -> None:
    await booked(api)
    auditor = await api.caller(None)
    answer = await statement(auditor, **PERIOD, known_as_of=3, format="csv")
    assert readers.read_csv(answer.content, "INR") == readers.Read(10_000, [-350], 9650)
    early = await statement(auditor, **PERIOD, known_as_of="2026-01-01T00:00:00Z")
    assert (early.json()["lines"], early.json()["known"]) == ([], 0)


REFUSED: list[tuple[dict[str, str], str]] = [
    ({"format": "csv"}, "validation_failed"),
    ({"from": FIRST}, "validation_failed"),
    ({"known_as_of": "3"}, "validation_failed"),
    ({"from": FIRST, "to": LAST, "format": "xlsx"}, "validation_failed"),
    ({"from": FIRST, "to": LAST, "format": "csv", "after": "2026-11-02.4.1"}, "validation_failed"),
    ({"from": "1926-11-01", "to": LAST}, "validation_failed"),
    ({"from": LAST, "to": FIRST}, "period_invalid"),
    ({"from": LAST, "to": FIRST, "format": "pdf"}, "period_invalid"),
    ({"from": FIRST, "to": LAST, "known_as_of": "99"}, "not_recorded"),
    ({"from": FIRST, "to": LAST, "known_as_of": "99", "format": "csv"}, "not_recorded"),
]


async def test_what_is_no_statement_is_a_problem_document(api: Api) -> None:
    await booked(api)
    auditor = await api.caller(None)
    for query, code in REFUSED:
        answer = await statement(auditor, currency="INR", **query)
        assert (answer.status_code, answer.json()["code"]) == (422, code), query


async def test_a_merchant_has_statements_of_its_own_accounts_and_another_is_like_a_missing_one(
    api: Api,
) -> None:
    mine, other = await api.merchant("Chai Point"), await api.merchant("Dosa Corner")
    own, theirs = await api.wallet(mine, "own", 1000), await api.wallet(other, "theirs", 1000)
    caller = await api.caller(mine)
    today = api.clock().date()
    for format in ("json", *READERS):
        asked = {
            "currency": "INR",
            "from": str(today - timedelta(days=1)),
            "to": str(today),
            "format": format,
        }
        assert (await statement(caller, own, **asked)).status_code == 200
        refused = [await statement(caller, path, **asked) for path in (theirs, theirs + "x", CASH)]
        assert {(answer.status_code, answer.json()["code"]) for answer in refused} == {
            (404, "account_unknown")
        }


async def test_statements_that_nobody_reads_take_neither_every_connection_nor_the_places_of_others(
    api: Api,
) -> None:
    await booked(api)
    auditor = await api.caller(None)
    mine, theirs = await api.merchant(), await api.merchant("Dosa Corner")
    caller, wallet = await api.caller(mine), await api.wallet(mine, "mine", 100)
    with api.deps.documents.taken(None), api.deps.documents.taken(None):
        answer = await statement(auditor, **PERIOD, format="csv")
        assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
        assert (await statement(caller, wallet, **PERIOD, format="csv")).status_code == 200
        with api.deps.documents.taken(theirs.owner), api.deps.documents.taken(theirs.owner):
            assert (await statement(caller, wallet, **PERIOD, format="csv")).status_code == 429
    assert (await statement(auditor, **PERIOD, format="csv")).status_code == 200


async def unread(api: Api, caller: Caller, **deps: Any) -> list[int]:
    """Ask for a statement as csv of an application with other ``deps``, whose answer is not read beyond its head;
    returns the statuses answered."""
    app = create_app(replace(api.deps, **deps))
    begun = list[int]()

    async def receive() -> Any:
        if begun:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        begun.append(message.get("status", 0))
        if message["type"] == "http.response.body" and "send_s" in deps:
            await asyncio.Event().wait()
        await asyncio.sleep(0)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": f"/v1/accounts/{WALLET}/statement", "raw_path": b"", "root_path": "",
        "query_string": urlencode({**PERIOD, "format": "csv"}).encode(), "client": None, "server": None,
        "headers": [(name.lower().encode(), value.encode()) for name, value in caller.headers.items()],
        "extensions": {}, "state": {},
    }  # fmt: skip
    async with app.lifespan():
        await asyncio.wait_for(app(cast(Any, scope), receive, send), 60)
    # Its places and its connection are free again as soon as it is over.
    with app.state["deps"].documents.taken(None), app.state["deps"].documents.taken(None):
        pass
    assert api.deps.pool.get_stats()["pool_available"] == api.deps.pool.get_stats()["pool_size"]
    return begun


async def test_a_statement_that_is_not_read_ends_and_gives_back_what_it_held(api: Api) -> None:
    await booked(api)
    auditor = await api.caller(None)
    with structlog.testing.capture_logs() as said:
        assert (await unread(api, auditor, send_s=0.01))[0] == 200
    assert [(entry["log_level"], entry.get("status")) for entry in said] == [("info", 499)]


async def test_a_statement_that_is_read_too_slowly_as_a_whole_ends(api: Api) -> None:
    await booked(api)
    auditor = await api.caller(None)
    with structlog.testing.capture_logs() as said:
        assert (await unread(api, auditor, stream_s=-1))[0] == 200
    assert [(entry["log_level"], entry.get("status")) for entry in said] == [("info", 499)]


# ---------------------------------------------------------------- reports


async def test_the_reports_of_a_book_agree_with_each_other(api: Api) -> None:
    await booked(api)
    auditor = await api.caller(None)
    as_of = {"effective_as_of": LAST}
    [trial] = (await auditor.get("/v1/reports/trial-balance", **as_of)).json()["data"]
    assert {line["account"]: line["debit"] - line["credit"] for line in trial["lines"]} == {
        CASH: 12_000,
        FEES: -350,
        WALLET: -11_650,
    }
    assert trial["debit"] == trial["credit"] == 12_000
    [sheet] = (await auditor.get("/v1/reports/balance-sheet", **as_of)).json()["data"]
    assert (sheet["assets"]["total"], sheet["liabilities"]["total"], sheet["result"]) == (12_000, 11_650, 350)
    [earned] = (await auditor.get("/v1/reports/income-statement", **{"from": FIRST, "to": LAST})).json()[
        "data"
    ]
    assert (earned["income"]["lines"], earned["result"]) == ([{"account": FEES, "amount": 350}], 350)


async def test_a_report_says_what_it_knows_and_is_the_same_when_the_book_has_grown(api: Api) -> None:
    await booked(api)
    auditor = await api.caller(None)
    then = (await auditor.get("/v1/reports/balance-sheet", known_as_of=3)).json()
    assert then["known"] == 3
    await api.move(CASH, WALLET, 5)
    assert (await auditor.get("/v1/reports/balance-sheet", known_as_of=3)).json() == then
    assert (await auditor.get("/v1/reports/balance-sheet")).json()["known"] == 5


async def test_ageing_shows_what_a_bank_has_not_settled(api: Api) -> None:
    due = "Assets:Receivable:meridian"
    await api.open(m.NewAccount(due, "INR"))
    await booked(api)
    await api.move(due, WALLET, 700)
    auditor = await api.caller(None)
    [age] = (await auditor.get("/v1/reports/ageing")).json()["data"]
    assert (age["account"], age["open"], age["days_0_1"], age["over_30_days"]) == (due, 700, 700, 0)
    later = str(api.clock().date() + timedelta(days=5))
    [age] = (await auditor.get("/v1/reports/ageing", effective_as_of=later)).json()["data"]
    assert (age["days_0_1"], age["days_4_7"]) == (0, 700)


async def test_each_report_comes_as_csv_and_only_to_the_platform(api: Api) -> None:
    await booked(api)
    auditor, merchant = await api.caller(None), await api.caller(await api.merchant())
    for report in ("trial-balance", "balance-sheet", "income-statement", "ageing"):
        period = {"from": FIRST, "to": LAST} if report == "income-statement" else {}
        answer = await auditor.get(f"/v1/reports/{report}", format="csv", **period)
        assert answer.headers["content-type"].startswith("text/csv")
        rows = list(csv.reader(io.StringIO(answer.text, newline="")))
        assert rows[0][:2] in (["row", "section"], ["row", "account"])
        assert {len(row) for row in rows} == {len(rows[0])}
        refused = await merchant.get(f"/v1/reports/{report}", **period)
        assert (refused.status_code, refused.json()["code"]) == (403, "client_kind_wrong")
