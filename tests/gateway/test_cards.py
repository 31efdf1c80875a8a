"""Card data cannot leave its types except by ``reveal``; ids have one spelling."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import asdict
from datetime import date
from uuid import UUID

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import ids
from gateway.cards import Card, Cvv, Pan, luhn
from gateway.errors import CardInvalid, IdInvalid

NUMBER = "4111111111111111"
CARD = Card(Pan(NUMBER), "2912", Cvv("987"))


@pytest.mark.parametrize("secret", [CARD, CARD.pan, CARD.cvv])
def test_card_data_is_not_shown_and_not_serialised(secret: object) -> None:
    for shown in (str(secret), repr(secret), f"{secret}", f"{secret!r}", f"{[secret]}", format(secret, "")):
        assert NUMBER not in shown
        assert "987" not in shown
        assert "2912" not in shown
    for serialise in (pickle.dumps, copy.copy, copy.deepcopy, json.dumps, orjson.dumps, msgspec.json.encode):
        with pytest.raises(TypeError):
            serialise(secret)  # type: ignore[operator]
    assert not hasattr(secret, "__dict__")


def test_a_card_cannot_be_taken_apart_into_a_dict() -> None:
    with pytest.raises(TypeError):
        asdict(CARD)


def test_an_error_about_a_card_never_repeats_it() -> None:
    with pytest.raises(CardInvalid) as refused:
        Pan("4111111111111112")
    assert "4111" not in str(refused.value)
    assert "4111" not in repr(refused.value)


@pytest.mark.parametrize(
    ("number", "brand"),
    [
        ("4111 1111 1111 1111", "visa"),
        ("5555-5555-5555-4444", "mastercard"),
        ("2223003122003222", "mastercard"),
        ("6521111111111110", "rupay"),
        ("378282246310005", "amex"),
        ("30569309025904", "diners"),
        ("3530111333300000", "jcb"),
    ],
)
def test_brands_follow_issuer_ranges(number: str, brand: str) -> None:
    assert Pan(number).brand == brand
    assert Pan(number).last4 == number[-4:]


@pytest.mark.parametrize(
    "number", ["", "4111", "4111111111111112", "4" * 20, "4111x11111111111", "４１１１" * 4]
)
def test_a_number_that_is_none_is_refused(number: str) -> None:
    with pytest.raises(CardInvalid):
        Pan(number)


@given(st.integers(10**11, 10**18))
def test_exactly_one_check_digit_is_right(number: int) -> None:
    assert sum(luhn(f"{number}{digit}") for digit in range(10)) == 1


def test_a_card_is_good_through_the_last_day_of_its_month() -> None:
    CARD.require_unexpired(date(2029, 12, 31))
    with pytest.raises(CardInvalid):
        CARD.require_unexpired(date(2030, 1, 1))
    for expiry in ("2913", "29", "12/29"):
        with pytest.raises(CardInvalid):
            Card(Pan(NUMBER), expiry)


@given(st.uuids())
def test_a_public_id_reads_back_as_its_uuid(id: UUID) -> None:
    text = ids.public(ids.PAYMENT, id)
    assert ids.parse(ids.PAYMENT, text) == id
    for other in (text.upper(), text + "0", text[:-1], text.replace("pay_", "re_"), text.replace("pay_", "")):
        if other != text:
            with pytest.raises(IdInvalid):
                ids.parse(ids.PAYMENT, other)


@given(st.lists(st.uuids(), min_size=2))
def test_public_ids_sort_like_their_uuids(many: list[UUID]) -> None:
    texts = [ids.public(ids.EVENT, id) for id in sorted(many)]
    assert texts == sorted(texts)
