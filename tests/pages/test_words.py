"""Every state there is has its words, and every state of the checkout can be reached."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

import api.pages
from api.pages import words
from api.pages.card_form import FIELDS, read_card
from api.pages.checkout_view import State, state_of
from banks.references import BankReference
from banks.simulators.cards import CARDS, Behaviour
from gateway.cards import Card
from gateway.checkout import Session
from gateway.fees import FeePlan
from gateway.model import Attempt, CaptureMethod, Ended, Kind, Operation, Payment
from gateway.states import OperationState, PaymentStatus

NOW = datetime(2026, 11, 22, 14, 5, tzinfo=UTC)
LATER = NOW + timedelta(minutes=30)
ID = UUID(int=1)
ATTEMPT = Attempt(UUID(int=2), 1, "meridian", "card", "card_x", "visa", "1111", NOW)
S = OperationState


def session(expires_at: datetime = LATER) -> Session:
    return Session("token", ID, ID, "https://shop.example", NOW - timedelta(hours=1), expires_at)


def operation(number: int, kind: Kind, state: OperationState, **more: object) -> Operation:
    reference = BankReference(f"{number:06d}", f"{number:012d}", NOW)
    return Operation(UUID(int=number), ATTEMPT.id, kind, reference, 1000, state, NOW, **more)  # type: ignore[arg-type]


def payment(*operations: Operation, ended: Ended | None = None) -> Payment:
    attempts = (ATTEMPT,) if operations else ()
    return Payment(
        *(ID, ID, 1, 1000, "INR", CaptureMethod.AUTOMATIC, FeePlan(200), NOW, NOW + timedelta(days=1)),
        ended=ended,
        attempts=attempts,
        operations=operations,
    )


AUTHORIZE, CAPTURE, REVERSAL = Kind.AUTHORIZE, Kind.CAPTURE, Kind.REVERSAL
APPROVED = operation(1, AUTHORIZE, S.APPROVED)
UNKNOWN = operation(1, AUTHORIZE, S.UNKNOWN, unknown_since=NOW)


@pytest.mark.parametrize(
    ("operations", "state"),
    [
        ((), State.READY),
        ((operation(1, AUTHORIZE, S.SENDING),), State.WORKING),
        ((operation(1, AUTHORIZE, S.DECLINED, response_code="51"),), State.DECLINED),
        ((operation(1, AUTHORIZE, S.NOT_SENT),), State.DECLINED),
        ((UNKNOWN,), State.UNKNOWN),
        ((UNKNOWN, operation(2, REVERSAL, S.SENDING, target_id=UUID(int=1))), State.CALLED_OFF),
        (
            (operation(1, AUTHORIZE, S.REVERSED), operation(2, REVERSAL, S.APPROVED, target_id=UUID(int=1))),
            State.CALLED_OFF,
        ),
        ((APPROVED,), State.APPROVED),
        ((APPROVED, operation(2, CAPTURE, S.SENDING, final=True)), State.APPROVED),
        ((APPROVED, operation(2, CAPTURE, S.UNKNOWN, final=True)), State.APPROVED),
        ((APPROVED, operation(2, CAPTURE, S.APPROVED, final=True)), State.PAID),
        (
            (APPROVED, operation(2, CAPTURE, S.APPROVED, final=True), operation(3, Kind.REFUND, S.UNKNOWN)),
            State.PAID,
        ),
        ((APPROVED, operation(2, Kind.VOID, S.APPROVED)), State.CANCELED),
        (tuple(operation(n, AUTHORIZE, S.DECLINED) for n in range(1, 6)), State.FAILED),
    ],
)
def test_each_state_of_the_checkout_is_reached(operations: tuple[Operation, ...], state: State) -> None:
    assert state_of(session(), payment(*operations), NOW) is state


def test_an_expired_session_shows_what_became_of_its_payment() -> None:
    over = session(NOW)
    assert state_of(over, payment(), NOW) is State.EXPIRED
    assert state_of(over, payment(ended=Ended.EXPIRED), NOW) is State.EXPIRED
    assert state_of(over, payment(ended=Ended.CANCELED), NOW) is State.CANCELED
    assert state_of(over, payment(UNKNOWN), NOW) is State.UNKNOWN
    assert state_of(over, payment(APPROVED, operation(2, CAPTURE, S.APPROVED)), NOW) is State.PAID


def test_every_state_has_words() -> None:
    assert set(words.STATUS) == set(PaymentStatus)
    assert set(words.OUTCOME) == set(OperationState)
    assert set(words.OPERATION) == set(Kind)


@pytest.mark.parametrize(
    "code", [magic.code for magic in CARDS.values() if magic.behaviour is Behaviour.DECLINE]
)
def test_every_refusal_is_told_in_words_that_help_no_thief(code: str) -> None:
    told = words.refusal(operation(1, AUTHORIZE, S.DECLINED, response_code=code))
    assert told.text.endswith(".")
    assert told.advice.endswith(".")
    assert not re.search(r"lost|stolen|fraud", told.text + told.advice, re.IGNORECASE)


@pytest.mark.parametrize("expiry", ["12/39", "12 / 39", "1239", "12/2039", "12-39", "122039"])
def test_an_expiry_may_be_written_in_many_ways(expiry: str) -> None:
    card = read_card({"number": "4111 1111-1111 1111", "expiry": expiry, "cvc": "123"}, today=NOW.date())
    assert isinstance(card, Card)
    assert card.expiry == "3912"


@pytest.mark.parametrize("expiry", ["10/26", "00/39", "13/39", "12/39/1", "soon", "12/1939", "1/2"])
def test_a_card_that_has_expired_or_has_no_such_month_is_refused(expiry: str) -> None:
    read = read_card({"number": "4111111111111111", "expiry": expiry, "cvc": "123"}, today=NOW.date())
    assert read == {"expiry": FIELDS["expiry"].wrong}


def test_a_card_is_good_through_the_last_day_of_its_month() -> None:
    read = read_card({"number": "4111111111111111", "expiry": "11/26", "cvc": "123"}, today=NOW.date())
    assert isinstance(read, Card)


def test_what_is_empty_is_asked_for_in_the_order_of_the_form() -> None:
    read = read_card({}, today=NOW.date())
    assert list(read) == ["number", "expiry", "cvc"]  # type: ignore[call-overload]


def test_templates_carry_no_inline_script_or_style_and_escape_everything() -> None:
    found = list((Path(api.pages.__file__).parent / "templates").rglob("*.html"))
    assert len(found) > 10
    for template in found:
        text = template.read_text()
        assert not re.search(
            r"<style|\sstyle=|\son[a-z]+=|\|\s*safe|autoescape false|<script(?![^>]*src=)", text
        ), template
