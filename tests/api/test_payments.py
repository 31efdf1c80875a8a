"""Payments over HTTP, on a real socket to the API and from there to the simulated acquirer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import pytest

from api.policy import AUDITOR_SCOPES
from api.schemas.payments import CheckoutView, PaymentView, RefundView
from banks.card.connection import Endpoint
from banks.card.rail import CardRail
from khata.database import Database
from ledger.log.note import Verifier
from tests.api.conftest import Api, Caller, Clock, api_on
from tests.api.test_access import entries
from tests.api.test_log import judged
from tests.banks.acquirer import ACQUIRER_ID, AcquirerProcess

VISA, NO_HONOUR, LOST_ANSWER = "4111111111111111", "4000000000000002", "4000000000000077"


@pytest.fixture
def acquirer(tmp_path: Path) -> Iterator[AcquirerProcess]:
    process = AcquirerProcess(tmp_path)
    process.start()
    yield process
    process.stop()


@pytest.fixture
async def bank_api(database: Database, acquirer: AcquirerProcess) -> AsyncGenerator[Api]:
    endpoint = Endpoint("127.0.0.1", acquirer.port, response_timeout_s=2.0, ready_timeout_s=3.0)
    chance = random.Random(7)
    async with (
        CardRail("meridian", endpoint, acquirer=ACQUIRER_ID, clock=Clock(), random=chance.random) as rail,
        api_on(database, rails={"meridian": rail}) as running,
    ):
        yield running


def card(number: str = VISA) -> dict[str, Any]:
    return {"number": number, "expiry_month": 12, "expiry_year": 2030, "cvv": "123"}


def payment(amount: int = 100_000, **more: Any) -> dict[str, Any]:
    return {"amount": amount, "currency": "INR", **more}


async def shop(api: Api) -> Caller:
    return await api.caller(await api.merchant())


async def test_a_payments_receipts_are_signed_at_once_and_proved_once_sealed(
    bank_api: Api,
) -> None:
    caller = await shop(bank_api)
    await bank_api.seal()
    made = await caller.post("/v1/payments", payment())
    path = f"/v1/payments/{made.json()['id']}"
    assert (await caller.get(f"{path}/receipts")).json() == {"data": []}
    await caller.post(f"{path}/confirm", {"card": card()})
    await caller.post(f"{path}/refunds", {"amount": 40_000})
    keys = [Verifier.parse(k["vkey"]) for k in (await bank_api.http.get("/v1/log/keys")).json()["data"]]
    receipts = (await caller.get(f"{path}/receipts")).json()["data"]
    assert [judged(receipt, keys) for receipt in receipts] == [False, False]
    await bank_api.seal()
    again = (await caller.get(f"{path}/receipts")).json()["data"]
    assert [judged(receipt, keys) for receipt in again] == [True, True]
    assert [receipt["statement"] for receipt in again] == [receipt["statement"] for receipt in receipts]
    single = await caller.get(f"/v1/journals/{again[0]['journal']}/receipt")
    assert single.json() == again[0]


async def test_a_payment_is_created_confirmed_and_captured_and_the_balance_shows_it(bank_api: Api) -> None:
    caller = await shop(bank_api)
    made = await caller.post("/v1/payments", payment(reference="order-1", metadata={"cart": "9"}))
    assert made.status_code == 201, made.text
    assert made.json()["status"] == "requires_payment_method"
    path = f"/v1/payments/{made.json()['id']}"
    paid = await caller.post(f"{path}/confirm", {"card": card()})
    assert paid.status_code == 200, paid.text
    assert (paid.json()["status"], paid.json()["captured"]) == ("succeeded", 100_000)
    assert paid.json()["method"] == {"type": "card", "brand": "visa", "last4": "1111"}
    assert (await caller.get(path)).json()["metadata"] == {"cart": "9"}
    balances = (await caller.get("/v1/balance")).json()
    inr = next(b for b in balances["data"] if b["currency"] == "INR")
    assert (inr["pending"], inr["available"]) == (97_640, 0)  # less 2 % and 18 % GST on it


async def test_a_payment_with_its_card_is_one_request(bank_api: Api) -> None:
    caller = await shop(bank_api)
    paid = (await caller.post("/v1/payments", payment(card=card(), capture_method="manual"))).json()
    assert (paid["status"], paid["authorized"]) == ("requires_capture", 100_000)
    path = f"/v1/payments/{paid['id']}"
    part = (await caller.post(f"{path}/capture", {"amount": 40_000})).json()
    assert (part["status"], part["captured"]) == ("partially_captured", 40_000)
    voided = (await caller.post(f"{path}/void", {})).json()
    assert (voided["status"], voided["voided"]) == ("succeeded", 60_000)
    over = await caller.post(f"{path}/capture", {"amount": 1})
    assert over.status_code == 409


async def test_a_refund_is_made_and_read(bank_api: Api) -> None:
    caller = await shop(bank_api)
    paid = (await caller.post("/v1/payments", payment(card=card()))).json()
    refund = await caller.post(f"/v1/payments/{paid['id']}/refunds", {"amount": 30_000, "reason": "torn"})
    assert refund.status_code == 201, refund.text
    assert (refund.json()["status"], refund.json()["amount"]) == ("succeeded", 30_000)
    assert (await caller.get(f"/v1/refunds/{refund.json()['id']}")).json() == refund.json()
    too_much = await caller.post(f"/v1/payments/{paid['id']}/refunds", {"amount": 70_001})
    assert (too_much.status_code, too_much.json()["code"]) == (409, "amount_exceeded")


async def test_a_decline_is_an_answer_and_not_an_error(bank_api: Api) -> None:
    caller = await shop(bank_api)
    declined = await caller.post("/v1/payments", payment(card=card(NO_HONOUR)))
    assert declined.status_code == 201
    assert declined.json()["status"] == "requires_payment_method"
    assert declined.json()["last_refusal"]["code"] == "05"


async def test_a_bank_that_does_not_answer_leaves_the_payment_unknown(bank_api: Api) -> None:
    caller = await shop(bank_api)
    lost = (await caller.post("/v1/payments", payment(card=card(LOST_ANSWER)))).json()
    assert (lost["status"], lost["outcome"]) == ("processing", "unknown")
    assert lost["unknown_since"]
    captured = await caller.post(f"/v1/payments/{lost['id']}/capture", {})
    assert (captured.status_code, captured.json()["code"]) == (409, "outcome_unknown")


@pytest.mark.parametrize("body", [payment(), payment(card=card())])
async def test_a_repeated_key_gives_the_same_bytes_and_one_payment(
    bank_api: Api, body: dict[str, Any]
) -> None:
    caller = await shop(bank_api)
    first = await caller.post("/v1/payments", body, key="k")
    again = await caller.post("/v1/payments", body, key="k")
    assert (again.status_code, again.content) == (first.status_code, first.content)
    other = await caller.post("/v1/payments", body | {"amount": 5}, key="k")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
    assert len((await caller.get("/v1/payments")).json()["data"]) == 1


async def test_while_the_first_request_runs_the_second_is_told_to_wait(bank_api: Api) -> None:
    caller = await shop(bank_api)
    body = payment(card=card(LOST_ANSWER))  # two seconds of waiting for the bank
    first = asyncio.create_task(caller.post("/v1/payments", body, key="k"))
    await asyncio.sleep(0.2)
    second = await caller.post("/v1/payments", body, key="k")
    assert (second.status_code, second.json()["code"]) == (409, "idempotency_in_flight")
    assert int(second.headers["retry-after"]) >= 1
    assert (await first).status_code == 201
    assert (await caller.post("/v1/payments", body, key="k")).content == (await first).content


async def test_many_captures_at_once_take_no_more_than_was_authorized(bank_api: Api) -> None:
    caller = await shop(bank_api)
    paid = (await caller.post("/v1/payments", payment(card=card(), capture_method="manual"))).json()
    path = f"/v1/payments/{paid['id']}"
    answers = await asyncio.gather(*(caller.post(f"{path}/capture", {"amount": 30_000}) for _ in range(8)))
    assert {a.status_code for a in answers} <= {200, 409}
    assert (await caller.get(path)).json()["captured"] == 90_000


async def test_payments_are_listed_newest_first_by_page(bank_api: Api) -> None:
    caller = await shop(bank_api)
    made = [(await caller.post("/v1/payments", payment(n))).json()["id"] for n in (1, 2, 3)]
    first = (await caller.get("/v1/payments", limit=2)).json()
    assert [p["id"] for p in first["data"]] == made[:0:-1]
    rest = (await caller.get("/v1/payments", limit=2, before=first["next"])).json()
    assert ([p["id"] for p in rest["data"]], rest["next"]) == (made[:1], None)


async def test_a_checkout_session_is_a_link_given_once(bank_api: Api) -> None:
    caller = await shop(bank_api)
    made = (await caller.post("/v1/payments", payment())).json()["id"]
    body = {"payment_id": made, "return_url": "https://shop.example/thanks"}
    first = await caller.post("/v1/checkout_sessions", body, key="k")
    assert first.status_code == 201, first.text
    CheckoutView.model_validate_json(first.content, strict=True)
    assert first.json()["url"].startswith("https://pay.example.test/pay/")
    assert (await caller.post("/v1/checkout_sessions", body, key="k")).content == first.content
    other = await caller.post(
        "/v1/checkout_sessions", body | {"return_url": "https://evil.example/"}, key="k"
    )
    assert other.json()["code"] == "idempotency_mismatch"
    async with bank_api.deps.pool.connection() as conn:
        rows = await (await conn.execute("SELECT sealed_body FROM api.idempotency")).fetchall()
    assert first.json()["url"].rpartition("/")[2].encode() not in bytes(rows[0][0])


@pytest.mark.parametrize("url", ["javascript:alert(1)", "shop.example", "https://", "ftp://shop.example/"])
async def test_a_return_address_must_be_one(bank_api: Api, url: str) -> None:
    caller = await shop(bank_api)
    made = (await caller.post("/v1/payments", payment())).json()["id"]
    answer = await caller.post("/v1/checkout_sessions", {"payment_id": made, "return_url": url})
    assert answer.status_code == 422


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"number": "4111111111111112"}, "card_invalid"),
        ({"expiry_year": 2020}, "card_invalid"),
        ({"cvv": "12a"}, "card_invalid"),
        ({"number": "4111"}, "validation_failed"),
        ({"expiry_month": 13}, "validation_failed"),
    ],
)
async def test_a_card_that_cannot_be_one_is_refused_without_repeating_it(
    bank_api: Api, change: dict[str, Any], code: str
) -> None:
    caller = await shop(bank_api)
    wrong = card() | change
    answer = await caller.post("/v1/payments", payment(card=wrong))
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert str(wrong["number"]) not in answer.text
    assert not (await caller.get("/v1/payments")).json()["data"]


async def test_answers_are_what_the_description_says(bank_api: Api) -> None:
    caller = await shop(bank_api)
    paid = await caller.post("/v1/payments", payment(card=card()))
    shown = PaymentView.model_validate_json(paid.content, strict=True)
    assert set(paid.json()) == set(PaymentView.model_fields)
    assert shown.created_at.tzinfo is not None
    assert paid.json()["created_at"].endswith("Z")
    refund = await caller.post(f"/v1/payments/{paid.json()['id']}/refunds", {})
    RefundView.model_validate_json(refund.content, strict=True)
    assert set(refund.json()) == set(RefundView.model_fields)


async def test_a_currency_the_merchant_does_not_trade_in_is_refused(bank_api: Api) -> None:
    caller = await shop(bank_api)
    answer = await caller.post("/v1/payments", {"amount": 1, "currency": "EUR"})
    assert (answer.status_code, answer.json()["code"]) == (422, "currency_unknown")


async def test_an_auditor_reads_any_merchants_payments_refunds_and_receipts_and_each_read_is_written_down(
    bank_api: Api,
) -> None:
    auditor = await bank_api.caller(None, AUDITOR_SCOPES)
    for _ in range(2):
        caller = await shop(bank_api)
        await bank_api.seal()
        paid = (await caller.post("/v1/payments", payment(card=card()))).json()
        path = f"/v1/payments/{paid['id']}"
        refund = (await caller.post(f"{path}/refunds", {"amount": 100})).json()
        before = len(await entries(bank_api))
        for asked in (path, f"/v1/refunds/{refund['id']}"):
            assert (await auditor.get(asked)).json() == (await caller.get(asked)).json()
        theirs, all_of_it = [(await c.get(f"{path}/receipts")).json()["data"] for c in (caller, auditor)]
        assert {r["journal"] for r in theirs} < {r["journal"] for r in all_of_it}
        merchant = paid["merchant_id"]
        for asked in ("/v1/payments", "/v1/balance"):
            seen = await auditor.get(asked, merchant=merchant)
            assert seen.json() == (await caller.get(asked, merchant=merchant)).json(), asked
            assert seen.json() == (await caller.get(asked)).json(), asked
        assert len(await entries(bank_api)) == before + 5
        assert (await entries(bank_api))[0].asked == ["merchant"]
        refused = await auditor.post(f"{path}/refunds", {"amount": 1})
        assert (refused.status_code, refused.json()["code"]) == (403, "scope_missing")
