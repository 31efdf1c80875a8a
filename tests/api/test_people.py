"""What takes people, over HTTP: adjustments by two clients, closing and reopening, the log of acts."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any
from uuid import uuid4

from ledger import adjustments
from ledger.acts import By
from ledger.adjustments import Adjustment
from ledger.model import Posting
from tests.api.conftest import Api, Caller

OPENING, WALLET = "Equity:Opening", "Liabilities:Customer:c1:Wallet"


async def three(api: Api) -> tuple[Caller, Caller, Caller]:
    """Three platform clients, and a wallet with 1000 in it."""
    await api.wallet(await api.merchant(), "c1", 1000)
    asha, ben, chen = [await api.caller(None) for _ in range(3)]
    return asha, ben, chen


def adjustment(amount: int = 250, **more: Any) -> dict[str, Any]:
    posting = {"debit": WALLET, "credit": OPENING, "amount": amount, "currency": "INR"}
    return {"postings": [posting], "reason": "ticket 4711", **more}


async def available(caller: Caller) -> int:
    (account,) = (await caller.get("/v1/accounts", prefix=WALLET)).json()["data"]
    return account["available"]


SEEN = {"reason": "seen it"}


async def test_one_client_proposes_another_approves_and_it_is_booked(api: Api) -> None:
    asha, ben, _ = await three(api)
    answer = await asha.post("/v1/adjustments", adjustment(description="fee twice", metadata={"order": "7"}))
    assert answer.status_code == 201, answer.text
    proposed = answer.json()
    assert (proposed["status"], proposed["proposer"], proposed["verdict"]) == ("open", asha.client_id, None)
    path = f"/v1/adjustments/{proposed['id']}"
    assert (await ben.get("/v1/adjustments")).json() == {"data": [proposed], "next": None}
    mine = await asha.post(f"{path}/approve", SEEN)
    assert (mine.status_code, mine.json()["code"]) == (409, "same_person")
    assert await available(ben) == 1000
    approved = (await ben.post(f"{path}/approve", SEEN)).json()
    assert (approved["status"], approved["verdict"]["person"]) == ("approved", ben.client_id)
    assert await available(ben) == 750
    assert (await asha.get(path)).json() == approved
    (journal,) = (await ben.get("/v1/journals", kind="adjustment")).json()["data"]
    assert journal["seq"] == approved["journal_seq"]
    assert journal["metadata"] == {
        "order": "7",
        "adjustment.approved_act": str(approved["verdict"]["number"]),
        "adjustment.proposed_act": str(proposed["number"]),
    }
    assert (await ben.get("/v1/adjustments")).json()["data"] == []
    assert (await ben.get("/v1/adjustments", status="all")).json()["data"] == [approved]


async def test_a_key_sent_again_gives_the_same_bytes_and_one_effect(api: Api) -> None:
    asha, ben, _ = await three(api)
    proposed = await asha.post("/v1/adjustments", adjustment(), key="p")
    assert (await asha.post("/v1/adjustments", adjustment(), key="p")).content == proposed.content
    other = await asha.post("/v1/adjustments", adjustment(251), key="p")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
    path = f"/v1/adjustments/{proposed.json()['id']}/approve"
    told = await asyncio.gather(*(ben.post(path, SEEN, key="a") for _ in range(4)))
    assert {(answer.status_code, answer.content) for answer in told} == {(200, told[0].content)}
    assert await available(ben) == 750
    assert len((await ben.get("/v1/acts")).json()["data"]) == 2


async def test_an_act_stands_once_though_its_key_is_forgotten(api: Api) -> None:
    asha, ben, _ = await three(api)
    proposed = await asha.post("/v1/adjustments", adjustment(), key="p")
    path = f"/v1/adjustments/{proposed.json()['id']}/approve"
    approved = await ben.post(path, SEEN, key="a")
    closed = await asha.post("/v1/periods/close", {"through": "2026-01-31", "reason": "year"}, key="c")
    async with api.deps.pool.connection() as conn:
        await conn.execute("DELETE FROM api.idempotency")  # answers are kept for days
    assert (await asha.post("/v1/adjustments", adjustment(), key="p")).json()["id"] == proposed.json()["id"]
    assert (await ben.post(path, SEEN, key="a")).json() == approved.json()
    again = await asha.post("/v1/periods/close", {"through": "2026-01-31", "reason": "year"}, key="c")
    assert again.json() == closed.json()
    assert len((await ben.get("/v1/acts")).json()["data"]) == 3


async def test_two_verdicts_at_once_and_one_stands(api: Api) -> None:
    asha, ben, chen = await three(api)
    path = f"/v1/adjustments/{(await asha.post('/v1/adjustments', adjustment())).json()['id']}"
    told = await asyncio.gather(ben.post(f"{path}/approve", SEEN), chen.post(f"{path}/reject", SEEN))
    assert sorted(answer.status_code for answer in told) == [200, 409]
    (refused,) = [answer.json() for answer in told if answer.status_code == 409]
    assert refused["code"] == "proposal_decided"


async def test_what_the_ledger_refuses_stays_open_and_says_why(api: Api) -> None:
    asha, ben, _ = await three(api)
    proposed = (await asha.post("/v1/adjustments", adjustment(1001))).json()
    path = f"/v1/adjustments/{proposed['id']}"
    refused = await ben.post(f"{path}/approve", SEEN, key="a")
    assert (refused.status_code, refused.json()["code"]) == (409, "insufficient_funds")
    assert (await ben.get(path)).json() == proposed
    await api.move(OPENING, WALLET, 1)
    assert (await ben.post(f"{path}/approve", SEEN, key="a")).json()["status"] == "approved"


async def test_what_cannot_be_proposed_is_refused(api: Api) -> None:
    asha, _, _ = await three(api)
    same = {"debit": WALLET, "credit": WALLET, "amount": 1, "currency": "INR"}
    for body, code in (
        (adjustment(reason=""), "validation_failed"),
        (adjustment(reason="   "), "validation_failed"),
        (adjustment(postings=[]), "validation_failed"),
        (adjustment(on_closed="later"), "validation_failed"),
        (adjustment(person="ben"), "validation_failed"),
        (adjustment(postings=[same]), "invalid_entry"),
        (adjustment(metadata={"adjustment.approved_act": "1"}), "validation_failed"),
    ):
        answer = await asha.post("/v1/adjustments", body)
        assert (answer.status_code, answer.json()["code"]) == (422, code), body
    missing = await asha.post(f"/v1/adjustments/{uuid4()}/approve", SEEN)
    assert (missing.status_code, missing.json()["code"]) == (404, "proposal_unknown")
    nowhere = await asha.post("/v1/adjustments", adjustment(book=99))
    assert (nowhere.status_code, nowhere.json()["code"]) == (404, "book_unknown")


async def test_a_proposal_that_is_no_adjustment_says_so_and_hides_no_other(api: Api) -> None:
    """Put there by raw SQL: both sides are one account."""
    asha, ben, _ = await three(api)
    right = (await asha.post("/v1/adjustments", adjustment())).json()
    posting = {"debit": WALLET, "credit": WALLET, "amount": "1", "currency": "INR", "layer": "posted"}
    content = {
        "description": "",
        "effective_at": None,
        "metadata": {},
        "on_closed": "refuse",
        "postings": [posting],
    }
    async with api.deps.pool.connection() as conn:
        await conn.execute(
            "SELECT ledger.propose(book_id, %s, 'adjustment', %s::jsonb, 'eve', 'why', recorded_at)"
            " FROM ledger.proposal p JOIN ledger.book b USING (book_id) WHERE proposal_id = %s",
            [id_ := uuid4(), json.dumps(content), right["id"]],
        )
    wrong, other = (await ben.get("/v1/adjustments")).json()["data"]
    assert (other, wrong["id"], wrong["postings"]) == (right, str(id_), [])
    assert "same account" in wrong["unreadable"]
    path = f"/v1/adjustments/{id_}"
    refused = await ben.post(f"{path}/approve", SEEN)
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_entry")
    assert (await ben.post(f"{path}/reject", SEEN)).json()["status"] == "rejected"


async def test_a_period_is_closed_and_reopened_by_two(api: Api) -> None:
    asha, ben, _ = await three(api)
    today = api.clock().date()
    yesterday, before = today - timedelta(days=1), today - timedelta(days=30)
    early = await asha.post("/v1/periods/close", {"through": str(today), "reason": "month end"})
    assert (early.status_code, early.json()["code"]) == (409, "period_not_over")
    closed = await asha.post("/v1/periods/close", {"through": str(yesterday), "reason": "month end"})
    assert closed.status_code == 201, closed.text
    assert (closed.json()["action"], closed.json()["through"]) == ("close", str(yesterday))
    assert len(closed.json()["trial_balance_hash"]) == 64
    back = await asha.post("/v1/periods/close", {"through": str(before), "reason": "again"})
    assert (back.status_code, back.json()["code"]) == (409, "period_already_closed")

    late = adjustment(1, effective_at=f"{yesterday}T10:00:00Z")
    path = f"/v1/adjustments/{(await asha.post('/v1/adjustments', late)).json()['id']}"
    refused = await ben.post(f"{path}/approve", SEEN)
    assert (refused.status_code, refused.json()["code"]) == (409, "period_closed")

    wrong = await asha.post("/v1/periods/reopenings", {"through": str(yesterday), "reason": "no"})
    assert (wrong.status_code, wrong.json()["code"]) == (409, "period_not_closed")
    asked = await asha.post("/v1/periods/reopenings", {"through": str(before), "reason": "late invoice"})
    assert asked.status_code == 201, asked.text
    assert (await ben.get("/v1/periods/reopenings")).json()["data"] == [asked.json()]
    verdict = f"/v1/periods/reopenings/{asked.json()['id']}"
    assert (await asha.post(f"{verdict}/approve", SEEN)).json()["code"] == "same_person"
    assert (await ben.post(f"{verdict}/approve", SEEN)).json()["status"] == "approved"
    assert (await ben.post(f"{verdict}/reject", SEEN)).json()["code"] == "proposal_decided"
    assert (await ben.post(f"{path}/approve", SEEN)).json()["status"] == "approved"
    page = (await ben.get("/v1/periods", limit=1)).json()
    assert [(f["action"], f["through"], f["person"]) for f in page["data"]] == [
        ("reopen", str(before), ben.client_id)
    ]
    assert (await ben.get("/v1/periods", before=page["next"])).json()["data"] == [closed.json()]


async def test_a_late_adjustment_may_count_from_the_first_open_day(api: Api) -> None:
    asha, ben, _ = await three(api)
    yesterday = api.clock().date() - timedelta(days=1)
    await asha.post("/v1/periods/close", {"through": str(yesterday), "reason": "month end"})
    late = adjustment(1, effective_at=f"{yesterday}T10:00:00Z", on_closed="first_open_day")
    path = f"/v1/adjustments/{(await asha.post('/v1/adjustments', late)).json()['id']}"
    assert (await ben.post(f"{path}/approve", SEEN)).status_code == 200
    (journal,) = (await ben.get("/v1/journals", kind="adjustment")).json()["data"]
    assert journal["effective_at"] == f"{api.clock().date()}T00:00:00.000000Z"


async def test_the_log_of_acts_is_paged_and_picked_from(api: Api) -> None:
    asha, ben, _ = await three(api)
    one = (await asha.post("/v1/adjustments", adjustment())).json()
    await ben.post(f"/v1/adjustments/{one['id']}/reject", {"reason": "not ours"})
    first = (await ben.get("/v1/acts", limit=1)).json()
    assert [(a["action"], a["person"], a["reason"]) for a in first["data"]] == [
        ("adjustment_rejected", ben.client_id, "not ours")
    ]
    rest = (await ben.get("/v1/acts", before=first["next"])).json()
    assert [(a["action"], a["subject"]) for a in rest["data"]] == [("adjustment_proposed", one["id"])]
    assert (await ben.get("/v1/acts", person=asha.client_id)).json()["data"] == rest["data"]
    assert len((await ben.get("/v1/acts", subject=one["id"])).json()["data"]) == 2


async def test_adjustments_are_listed_whatever_their_currencies_are_called(api: Api) -> None:
    asha, _, _ = await three(api)
    async with api.deps.pool.connection() as conn:
        gold = Adjustment((Posting(WALLET, OPENING, 7, "XAU"),))
        await adjustments.propose(conn, 1, uuid4(), gold, By("ops", "as the CLI lets one", api.clock()))
    listed = await asha.get("/v1/adjustments")
    assert listed.status_code == 200, listed.text
    (one,) = listed.json()["data"]
    assert one["postings"] == [{"debit": WALLET, "credit": OPENING, "amount": 7, "currency": "XAU"}]
    assert (await asha.get(f"/v1/adjustments/{one['id']}")).json() == one


async def test_what_no_act_or_period_is_about_is_refused(api: Api) -> None:
    asha = await api.caller(None)
    assert (await asha.get("/v1/acts", subject="\0")).json()["errors"][0]["code"] == "not_printable"
    for path in ("/v1/periods/close", "/v1/periods/reopenings"):
        for day in ("0001-01-01", "1999-12-31", "2200-01-01", "9999-12-31"):
            answer = await asha.post(path, {"through": day, "reason": "month end"})
            assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed"), day
