"""The card rail against the simulated acquirer: real sockets, one process against another."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from structlog.testing import capture_logs

from banks.outcomes import (
    Approved,
    Declined,
    NotSent,
    NotSentReason,
    Outcome,
    Unknown,
    UnknownReason,
)
from banks.simulators.cards import (
    AMOUNTS,
    CARDS,
    FIRST_TIME_ONLY,
    REVERSAL_FAMILY,
    Behaviour,
    Magic,
    magic_amount,
)
from tests.banks.acquirer import AcquirerProcess
from tests.banks.conftest import LATE_MS, TIMEOUT_S, NewReference, Rail
from tests.banks.words import APPROVED_PAN, approved, authorize, capture, reverse

UNKNOWN_BY_BEHAVIOUR = {
    Behaviour.LOSE_REQUEST: UnknownReason.TIMED_OUT,
    Behaviour.LOSE_ANSWER: UnknownReason.TIMED_OUT,
    Behaviour.SILENT: UnknownReason.TIMED_OUT,
    Behaviour.SILENT_BOOKED: UnknownReason.TIMED_OUT,
    Behaviour.LATE: UnknownReason.TIMED_OUT,
    Behaviour.WRONG_AMOUNT: UnknownReason.AMOUNT_MISMATCH,
    Behaviour.RESET: UnknownReason.CONNECTION_LOST,
    Behaviour.GARBAGE: UnknownReason.UNREADABLE,
}
NOT_BOOKED = {Behaviour.LOSE_REQUEST, Behaviour.SILENT}


def assert_as_documented(outcome: Outcome, magic: Magic) -> None:
    match magic.behaviour:
        case Behaviour.NORMAL:
            assert isinstance(outcome, Approved)
        case Behaviour.DECLINE:
            assert isinstance(outcome, Declined)
            assert outcome.response_code == magic.code
            assert outcome.retryable == (magic.code == "91")
        case behaviour:
            assert isinstance(outcome, Unknown)
            assert outcome.reason is UNKNOWN_BY_BEHAVIOUR[behaviour]
            assert outcome.conflicted == (behaviour is Behaviour.WRONG_AMOUNT)


@pytest.mark.parametrize("pan", CARDS)
async def test_every_magic_card_does_what_its_table_says(
    pan: str, shared_acquirer: AcquirerProcess, shared_rail: Rail, new_ref: NewReference
) -> None:
    ref, magic = new_ref(), CARDS[pan]
    async with shared_rail() as card_rail:
        outcome = await authorize(card_rail, ref, pan=pan)
    assert_as_documented(outcome, magic)
    assert outcome.reference == ref
    booked = shared_acquirer.entries(rrn=ref.rrn)
    assert len(booked) == (0 if magic.behaviour in NOT_BOOKED else 1)


@pytest.mark.parametrize("code", range(1, 11))
async def test_every_magic_amount_does_what_its_table_says_to_captures(
    code: int, shared_acquirer: AcquirerProcess, shared_rail: Rail, new_ref: NewReference
) -> None:
    amount, magic, ref = magic_amount(code), AMOUNTS[code], new_ref()
    async with shared_rail() as card_rail:
        authorization = await approved(card_rail, new_ref())
        first = await capture(card_rail, ref, authorization, amount)
        repeated = await capture(card_rail, ref, authorization, amount, repeat=True)
    assert_as_documented(first, magic)
    if magic.behaviour in FIRST_TIME_ONLY:
        assert isinstance(repeated, Approved)
    elif magic.behaviour is not Behaviour.LATE:  # the first answer may come in time for the repeat
        assert type(repeated) is type(first)
    assert len(shared_acquirer.entries(rrn=ref.rrn)) == (0 if magic.behaviour is Behaviour.SILENT else 1)


@pytest.mark.parametrize("code", range(1, 11))
async def test_every_magic_amount_does_what_its_table_says_to_refunds(
    code: int, shared_rail: Rail, new_ref: NewReference
) -> None:
    async with shared_rail() as card_rail:
        authorization = await approved(card_rail, new_ref())
        captured = await capture(card_rail, new_ref(), authorization, 100_000, final=True)
        refund = await card_rail.refund(
            new_ref(), amount=magic_amount(code), currency="INR", original=captured.reference
        )
    assert_as_documented(refund, AMOUNTS[code])


@pytest.mark.parametrize("code", [1, 2, 5, 7, 8])
async def test_a_reversal_that_stays_unknown_is_repeated_until_it_is_answered(
    code: int, acquirer: AcquirerProcess, rail: Rail, new_ref: NewReference
) -> None:
    amount, ref = magic_amount(code, REVERSAL_FAMILY), new_ref()
    async with rail(response_timeout_s=LATE_MS / 1000 * 2 if code == 5 else TIMEOUT_S) as card_rail:
        authorization = await approved(card_rail, new_ref(), amount=amount)
        first = await reverse(card_rail, ref, authorization.reference, amount=amount)
        assert isinstance(first, Approved if code == 5 else Unknown)
        again = await reverse(card_rail, ref, authorization.reference, amount=amount, repeat=True)
    assert isinstance(again, Approved)
    assert acquirer.get("/book")["open"] == []
    assert len(acquirer.entries(kind="reversal")) == 1


@pytest.mark.parametrize(("currency", "amount"), [("JPY", 1000), ("INR", 100_050), ("KWD", 12_345)])
async def test_amounts_are_minor_units_of_their_currency(
    currency: str, amount: int, acquirer: AcquirerProcess, rail: Rail, new_ref: NewReference
) -> None:
    ref = new_ref()
    async with rail() as card_rail:
        outcome = await approved(card_rail, ref, amount=amount, currency=currency)
    assert (outcome.amount, outcome.currency) == (amount, currency)
    [entry] = acquirer.entries(rrn=ref.rrn)
    assert (entry["amount"], entry["currency"]) == (amount, currency)


async def test_two_hundred_in_flight_each_get_their_own_answer_though_answers_overtake(
    acquirer: AcquirerProcess, rail: Rail, new_ref: NewReference
) -> None:
    acquirer.post("/settings", {"jitter_ms": 300})
    refs = [new_ref() for _ in range(200)]
    async with rail(response_timeout_s=5) as card_rail:
        outcomes = await asyncio.gather(
            *(authorize(card_rail, ref, amount=1000 + n) for n, ref in enumerate(refs))
        )
        assert card_rail.counters.connections == 1
        assert card_rail.counters.late == card_rail.counters.unmatched == 0
    for n, (ref, outcome) in enumerate(zip(refs, outcomes, strict=True)):
        assert isinstance(outcome, Approved)
        assert (outcome.reference, outcome.amount) == (ref, 1000 + n)
    booked = {entry["rrn"]: entry["amount"] for entry in acquirer.entries(kind="authorization")}
    assert booked == {ref.rrn: 1000 + n for n, ref in enumerate(refs)}


async def test_a_capture_may_come_in_parts_and_the_final_one_frees_the_rest(
    acquirer: AcquirerProcess, rail: Rail, new_ref: NewReference
) -> None:
    async with rail() as card_rail:
        authorization = await approved(card_rail, new_ref())
        assert isinstance(await capture(card_rail, new_ref(), authorization, 30_000), Approved)
        assert acquirer.get("/book")["open"][0]["left"] == 70_000
        too_much = await capture(card_rail, new_ref(), authorization, 70_001)
        assert isinstance(too_much, Declined)
        assert isinstance(await capture(card_rail, new_ref(), authorization, 20_000, final=True), Approved)
        after = await capture(card_rail, new_ref(), authorization, 1)
        assert isinstance(after, Declined)
    assert acquirer.get("/book")["open"] == []


async def test_a_capture_may_exceed_its_authorization_within_the_tolerance_agreed(
    rail: Rail, new_ref: NewReference
) -> None:
    async with rail() as card_rail:
        authorization = await authorize(card_rail, new_ref(), tolerance_bps=1500)
        assert isinstance(authorization, Approved)
        too_much = await capture(card_rail, new_ref(), authorization, 115_001)
        assert isinstance(too_much, Declined)
        assert isinstance(await capture(card_rail, new_ref(), authorization, 115_000), Approved)


async def test_a_repeated_capture_is_booked_once_and_another_under_its_reference_is_not_told_apart(
    acquirer: AcquirerProcess, rail: Rail, new_ref: NewReference
) -> None:
    ref = new_ref()
    async with rail() as card_rail:
        authorization = await approved(card_rail, new_ref())
        outcomes = [
            await capture(card_rail, ref, authorization, 30_000, repeat=repeat)
            for repeat in (False, True, True)
        ]
        other = await capture(card_rail, ref, authorization, 30_001)
    assert outcomes[0] == outcomes[1] == outcomes[2]
    # "Duplicate" says that the bank has had the reference, not what it did with it: never a decline.
    assert isinstance(other, Unknown)
    assert other.reason is UnknownReason.DUPLICATE
    assert len(acquirer.entries(kind="capture")) == 1


async def test_a_void_in_part_leaves_the_replacement_amount(
    acquirer: AcquirerProcess, rail: Rail, new_ref: NewReference
) -> None:
    async with rail() as card_rail:
        authorization = await approved(card_rail, new_ref())
        assert isinstance(await capture(card_rail, new_ref(), authorization, 30_000), Approved)
        part = await reverse(card_rail, new_ref(), authorization.reference, replacement=80_000)
        assert isinstance(part, Approved)
        assert acquirer.get("/book")["open"][0]["left"] == 50_000
        below = await reverse(card_rail, new_ref(), authorization.reference, replacement=29_999)
        assert isinstance(below, Declined)
        rest = await reverse(card_rail, new_ref(), authorization.reference, replacement=30_000)
        assert isinstance(rest, Approved)
    assert acquirer.get("/book")["open"] == []


async def test_refunds_never_exceed_their_capture(rail: Rail, new_ref: NewReference) -> None:
    async with rail() as card_rail:
        authorization = await approved(card_rail, new_ref())
        captured = await capture(card_rail, new_ref(), authorization, 50_000, final=True)
        refunds = [
            await card_rail.refund(new_ref(), amount=amount, currency="INR", original=captured.reference)
            for amount in (20_000, 30_000, 1)
        ]
    assert [type(outcome) for outcome in refunds] == [Approved, Approved, Declined]


async def test_nothing_is_sent_while_the_bank_is_down(
    acquirer: AcquirerProcess, rail: Rail, new_ref: NewReference
) -> None:
    acquirer.kill()
    async with rail(ready_timeout_s=0.1) as card_rail:
        outcome = await authorize(card_rail, new_ref())
    assert isinstance(outcome, NotSent)
    assert outcome.reason is NotSentReason.DISCONNECTED


async def test_nothing_is_sent_before_the_bank_has_accepted_the_sign_on(
    acquirer: AcquirerProcess, rail: Rail, new_ref: NewReference
) -> None:
    acquirer.post("/settings", {"hang": True})
    async with rail(ready_timeout_s=0.1) as card_rail:
        assert isinstance(await authorize(card_rail, new_ref()), NotSent)
    acquirer.post("/settings", {"hang": False})
    assert acquirer.entries() == []


async def test_nothing_is_sent_beyond_the_bound_of_messages_in_flight(
    acquirer: AcquirerProcess, rail: Rail, new_ref: NewReference
) -> None:
    acquirer.post("/settings", {"latency_ms": 200})
    async with rail(max_in_flight=5, response_timeout_s=3) as card_rail:
        outcomes = await asyncio.gather(*(authorize(card_rail, new_ref()) for _ in range(8)))
    assert Counter(type(outcome) for outcome in outcomes) == {Approved: 5, NotSent: 3}
    assert len(acquirer.entries()) == 5


@pytest.mark.parametrize(
    "wrong", [{"amount": 10**12}, {"currency": "XXX"}, {"pan": "4111 1111"}, {"amount": -1}]
)
async def test_a_request_that_fits_no_message_is_not_sent(
    wrong: dict[str, object], acquirer: AcquirerProcess, rail: Rail, new_ref: NewReference
) -> None:
    async with rail() as card_rail:
        outcome = await authorize(card_rail, new_ref(), **wrong)  # type: ignore[arg-type]
    assert isinstance(outcome, NotSent)
    assert outcome.reason is NotSentReason.UNSENDABLE
    assert acquirer.entries() == []


async def test_a_reference_still_unanswered_is_not_sent_twice(
    acquirer: AcquirerProcess, rail: Rail, new_ref: NewReference
) -> None:
    acquirer.post("/settings", {"latency_ms": 200})
    ref = new_ref()
    async with rail() as card_rail:
        first, second = await asyncio.gather(authorize(card_rail, ref), authorize(card_rail, ref))
    assert isinstance(first, Approved)
    assert isinstance(second, Unknown)
    assert second.reason is UnknownReason.UNANSWERED


async def test_a_late_approval_is_counted_logged_without_the_card_and_dropped(
    acquirer: AcquirerProcess, rail: Rail, new_ref: NewReference
) -> None:
    ref, pan = new_ref(), "4000000000000085"
    with capture_logs() as logs:
        async with rail() as card_rail:
            outcome = await authorize(card_rail, ref, pan=pan)
            assert isinstance(outcome, Unknown)
            reversed_ = await reverse(card_rail, new_ref(), ref)
            assert isinstance(reversed_, Approved)
            await asyncio.sleep(LATE_MS / 1000)
            assert card_rail.counters.late == 1
    [late] = [entry for entry in logs if entry["event"] == "bank_answer_dropped"]
    assert late["rrn"] == ref.rrn
    assert late["late"]
    assert pan not in repr(logs)
    assert acquirer.get("/book")["open"] == []


async def test_a_lost_connection_leaves_what_was_in_flight_unknown_and_is_made_again(
    acquirer: AcquirerProcess, rail: Rail, new_ref: NewReference
) -> None:
    acquirer.post("/settings", {"latency_ms": 5000})
    async with rail(response_timeout_s=10) as card_rail:
        waiting = [asyncio.create_task(authorize(card_rail, new_ref())) for _ in range(10)]
        while len(acquirer.entries()) < 10:
            await asyncio.sleep(0.02)
        acquirer.post("/drop-connections")
        outcomes = await asyncio.gather(*waiting)
        assert {outcome.reason for outcome in outcomes if isinstance(outcome, Unknown)} == {
            UnknownReason.CONNECTION_LOST
        }
        assert all(isinstance(outcome, Unknown) for outcome in outcomes)
        acquirer.post("/settings", {"latency_ms": 0})
        assert isinstance(await authorize(card_rail, new_ref()), Approved)
        assert card_rail.counters.connections == 2


async def test_a_bank_that_hangs_is_found_out_by_its_missing_echo(
    acquirer: AcquirerProcess, rail: Rail, new_ref: NewReference
) -> None:
    async with rail(echo_interval_s=0.1, response_timeout_s=0.2, ready_timeout_s=0.05) as card_rail:
        while not card_rail.ready:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        assert card_rail.ready, "echoes are answered"
        acquirer.post("/settings", {"hang": True})
        await asyncio.sleep(0.6)
        assert not card_rail.ready
        assert isinstance(await authorize(card_rail, new_ref()), NotSent)
        acquirer.post("/settings", {"hang": False})


async def test_killed_in_an_authorization_the_bank_comes_back_and_the_reversal_leaves_nothing_open(
    acquirer: AcquirerProcess, rail: Rail, new_ref: NewReference
) -> None:
    acquirer.post("/settings", {"latency_ms": 5000})
    ref = new_ref()
    async with rail(response_timeout_s=10) as card_rail:
        waiting = asyncio.create_task(authorize(card_rail, ref))
        while not acquirer.entries(rrn=ref.rrn):
            await asyncio.sleep(0.01)
        acquirer.kill()
        outcome = await waiting
        assert isinstance(outcome, Unknown)
        assert isinstance(await reverse(card_rail, ref_of_reversal := new_ref(), ref), NotSent | Approved)
        acquirer.start()
        assert [e["rrn"] for e in acquirer.get("/book")["open"]] == [ref.rrn]
        while not card_rail.ready:
            await asyncio.sleep(0.01)
        assert isinstance(await reverse(card_rail, ref_of_reversal, ref, repeat=True), Approved)
    assert acquirer.get("/book")["open"] == []


async def test_a_reversal_that_overtakes_its_authorization_is_accepted_and_the_authorization_declined(
    acquirer: AcquirerProcess, rail: Rail, new_ref: NewReference
) -> None:
    ref = new_ref()
    async with rail() as card_rail:
        assert isinstance(await reverse(card_rail, new_ref(), ref), Approved)
        assert isinstance(await authorize(card_rail, ref), Declined)
    assert acquirer.get("/book")["open"] == []


async def test_no_card_number_reaches_logs_or_the_banks_book(
    acquirer: AcquirerProcess, rail: Rail, new_ref: NewReference
) -> None:
    with capture_logs() as logs:
        async with rail() as card_rail:
            outcomes = [await authorize(card_rail, new_ref(), pan=pan) for pan in (*CARDS, "4111x")]
            shown = repr(logs) + repr(outcomes) + repr(vars(card_rail))
    book = (acquirer.book_directory / "book.jsonl").read_text()
    for pan in CARDS:
        assert pan not in shown
        assert pan not in book
    assert APPROVED_PAN[:6] in book


async def test_leaving_the_rail_waits_for_answers_and_refuses_new_requests(
    acquirer: AcquirerProcess, rail: Rail, new_ref: NewReference
) -> None:
    acquirer.post("/settings", {"latency_ms": 200})
    async with rail(response_timeout_s=3) as card_rail:
        waiting = asyncio.create_task(authorize(card_rail, new_ref()))
        while not acquirer.entries():
            await asyncio.sleep(0.01)
    assert isinstance(await waiting, Approved)
    after = await authorize(card_rail, new_ref())
    assert isinstance(after, NotSent)
    assert after.reason is NotSentReason.CLOSED
