"""What a platform client must say to read what is a merchant's, and what an export answers."""

from __future__ import annotations

from datetime import timedelta

import pytest

from api.policy import AUDITOR_SCOPES
from tests.api.conftest import Api


@pytest.mark.parametrize("path", ["/v1/payments", "/v1/balance"])
async def test_a_platform_client_says_whose_and_a_merchant_asks_for_no_other(api: Api, path: str) -> None:
    auditor = await api.caller(None, AUDITOR_SCOPES)
    mine, other = await api.merchant("Chai Point"), await api.merchant("Dosa Corner")
    unsaid = await auditor.get(path)
    assert (unsaid.status_code, unsaid.json()["code"]) == (422, "merchant_required")
    missing = "mer_" + "0" * 26
    for caller, asked in ((auditor, missing), (await api.caller(mine), other.owner)):
        answer = await caller.get(path, merchant=asked)
        assert (answer.status_code, answer.json()["code"]) == (404, "merchant_not_found")
    assert (await auditor.get(path, merchant="chai")).json()["code"] == "validation_failed"


@pytest.mark.parametrize(
    ("format", "media_type"),
    [
        ("jsonl", "application/x-ndjson"),
        ("csv", "text/csv; charset=utf-8"),
        *((name, "text/plain; charset=utf-8") for name in ("hledger", "ledger", "beancount")),
    ],
)
async def test_an_export_says_its_media_type_once(api: Api, format: str, media_type: str) -> None:
    await api.wallet(await api.merchant(), "c42", 100)
    answer = await (await api.caller(None)).get("/v1/exports/journal", format=format)
    assert answer.headers["content-type"] == media_type


async def test_an_export_of_days_that_are_no_period_says_so_in_the_words_of_the_query(api: Api) -> None:
    today = api.clock().date()
    asked = {"from": today, "to": today - timedelta(days=1)}
    answer = (await (await api.caller(None)).get("/v1/exports/journal", **asked)).json()
    assert (answer["code"], answer["title"]) == ("period_invalid", "The days are no period")
    assert answer["detail"] == f"from {asked['from']} is after to {asked['to']}"
