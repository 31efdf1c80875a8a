"""The codec: whatever comes in, the only error is MalformedMessage; card data never shows."""

import asyncio
import contextlib
import traceback

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from banks.card.codec import MAX_MESSAGE, Message, decode, describe, encode, frame, read_frame
from banks.card.elements import (
    Original,
    amount_text,
    currency_code,
    currency_number,
    pack_additional,
    pack_replacement,
    unpack_additional,
    unpack_original,
    unpack_replacement,
)
from banks.card.spec import FIELDS, MESSAGE_TYPES, PATTERNS, response_to
from banks.errors import MalformedMessage

PAN, CVV = "4111111111111111", "987"
values = {number: st.from_regex(pattern, fullmatch=True) for number, pattern in PATTERNS.items()}
messages = st.builds(
    Message,
    st.sampled_from(sorted(MESSAGE_TYPES)),
    st.fixed_dictionaries({11: values[11]}, optional={n: v for n, v in values.items() if n != 11}),
)
AUTHORIZATION = Message(
    "0100",
    {
        2: PAN,
        3: "000000",
        4: "000000100000",
        7: "1122093015",
        11: "000001",
        14: "3012",
        37: "6GZP3Q000001",
        48: pack_additional({"92": CVV}),
        49: "356",
        90: Original("0100", "000001", "1122093015", "600001").pack(),
    },
)


@given(messages)
def test_every_message_of_the_specification_survives_the_wire(message: Message) -> None:
    assert decode(encode(message)) == message


@given(st.binary(max_size=300))
@example(b"")
@example(b"0100")
@example(b"0100" + b"\xff" * 16)
def test_no_bytes_raise_anything_but_malformed(body: bytes) -> None:
    with contextlib.suppress(MalformedMessage):
        decode(body)


@given(messages, st.data())
def test_no_damaged_message_raises_anything_but_malformed(message: Message, data: st.DataObject) -> None:
    body = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body) - 1))
        body[at] = data.draw(st.integers(0, 255))
    with contextlib.suppress(MalformedMessage):
        decode(bytes(body[: data.draw(st.integers(0, len(body)))]))


@pytest.mark.parametrize(
    ("fields", "fault"), [({2: "4111x"}, "2"), ({4: "12"}, "4"), ({128: "x"}, "128"), ({95: "1" * 42}, "95")]
)
def test_a_message_outside_the_specification_cannot_be_encoded(fields: dict[int, str], fault: str) -> None:
    with pytest.raises(MalformedMessage) as refused:
        encode(Message("0100", fields))
    assert refused.value.field == fault


def test_an_unknown_message_type_is_malformed() -> None:
    with pytest.raises(MalformedMessage):
        encode(Message("0999", {11: "000001"}))


@given(st.binary(max_size=60), st.data())
def test_card_data_shows_in_no_repr_description_or_error(tail: bytes, data: st.DataObject) -> None:
    body = encode(AUTHORIZATION)
    cut = data.draw(st.integers(0, len(body)))
    shown = [repr(AUTHORIZATION), str(AUTHORIZATION), describe(AUTHORIZATION)]
    try:
        decode(body[:cut] + tail)
    except MalformedMessage as error:
        shown += traceback.format_exception(error)
        shown.append(repr(error.__context__))  # the codec library's own error holds the message's bytes
    for text in shown:
        assert PAN not in text
        assert CVV not in text


def test_describe_names_each_field_and_masks_the_card() -> None:
    text = describe(AUTHORIZATION)
    assert "Authorization request" in text
    assert "411111******1111" in text
    assert all(FIELDS[number].name in text for number in AUTHORIZATION.fields)


def test_every_message_type_but_answers_has_its_answer() -> None:
    requests = [mti for mti in MESSAGE_TYPES if mti[2] != "1" and mti[2] != "3"]
    assert all(response_to(mti) in MESSAGE_TYPES for mti in requests)
    assert response_to("0221") == "0230"


@given(st.binary(min_size=1, max_size=MAX_MESSAGE))
async def test_a_frame_gives_its_body_back(body: bytes) -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(frame(body) + frame(body))
    assert await read_frame(reader) == body
    assert await read_frame(reader) == body


@pytest.mark.parametrize("length", [0, MAX_MESSAGE + 1, 65535])
async def test_a_length_out_of_bounds_is_refused_before_it_is_read(length: int) -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(length.to_bytes(2, "big"))
    with pytest.raises(MalformedMessage):
        await read_frame(reader)
    with pytest.raises(MalformedMessage):
        frame(b"x" * length)


@pytest.mark.parametrize(("code", "number"), [("INR", "356"), ("JPY", "392"), ("KWD", "414")])
def test_currencies_have_their_iso_numbers(code: str, number: str) -> None:
    assert currency_number(code) == number
    assert currency_code(number) == code


@pytest.mark.parametrize("code", ["XXX", "XAU", "inr", "ZZZ", ""])
def test_what_has_no_minor_unit_is_no_currency_of_a_payment(code: str) -> None:
    with pytest.raises(MalformedMessage):
        currency_number(code)


@pytest.mark.parametrize("amount", [-1, 10**12, True, 1.0])
def test_an_amount_that_is_no_count_of_minor_units_is_refused(amount: int) -> None:
    with pytest.raises(MalformedMessage):
        amount_text(amount)


tags = st.from_regex(r"[0-9]{2}", fullmatch=True)
parts = st.dictionaries(tags, st.text("ABC 019", min_size=1, max_size=99), max_size=5)


@given(parts)
def test_additional_data_gives_its_parts_back(given_parts: dict[str, str]) -> None:
    assert unpack_additional(pack_additional(given_parts)) == given_parts


@given(st.text("0129A ", max_size=30))
def test_additional_data_is_read_whole_or_malformed(text: str) -> None:
    with contextlib.suppress(MalformedMessage):
        assert sum(4 + len(value) for value in unpack_additional(text).values()) == len(text)


def test_original_and_replacement_give_their_values_back() -> None:
    original = Original("0100", "000007", "1122093015", "600001")
    assert len(original.pack()) == 42
    assert unpack_original(original.pack()) == original
    assert unpack_replacement(pack_replacement(30_000)) == 30_000
