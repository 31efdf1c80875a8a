"""Reading settlement files: right and whole, or refused by line and field."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banks.errors import SettlementRefused
from banks.settlement_file import LineKind, SettlementFile, SettlementLine, Totals, parse
from banks.simulators.cards import COST_BPS, TAX_BPS, half_up

HEADER = "H|1|meridian|meridian-20261122-inr|2026-11-22|INR|3|145000"
LINES = (
    "C|6GZP3Q000001|100000|1500|270|98230",
    "C|6GZP3Q000002|98443|1402|271|96770",
    "R|6GZP3Q000003|50000|0|0|-50000",
)
TRAILER = "T|2|1|198443|50000|2902|541|145000"
TEXTS = (HEADER, *LINES, TRAILER)


def seal(texts: Sequence[str]) -> bytes:
    """The format's checks, written from docs/settlement-file.md alone."""
    data = b""
    for text in texts:
        check = hashlib.sha256(data + text.encode()).hexdigest()
        data += f"{text}|{check if text[:1] == 'T' else check[:16]}\n".encode()
    return data


def read(data: bytes) -> SettlementFile:
    return parse(io.BytesIO(data))


def refusal(data: bytes) -> SettlementRefused:
    with pytest.raises(SettlementRefused) as refused:
        read(data)
    return refused.value


def test_a_right_file_is_read_as_documented() -> None:
    file = read(seal(TEXTS))
    assert (file.bank, file.file_id) == ("meridian", "meridian-20261122-inr")
    assert (file.settled_on, file.currency) == (date(2026, 11, 22), "INR")
    assert file.lines[0] == SettlementLine(2, LineKind.CAPTURE, "6GZP3Q000001", 100_000, 1_500, 270, 98_230)
    assert file.lines[2].kind is LineKind.REFUND
    assert file.totals == Totals(2, 1, 198_443, 50_000, 2_902, 541, 145_000) == Totals.of(file.lines)
    assert file.sha256 == hashlib.sha256(seal(TEXTS)).digest()


def test_the_banks_cost_of_1000_rupees_is_15_and_its_tax_2_70() -> None:
    cost = half_up(100_000, COST_BPS)
    assert (cost, half_up(cost, TAX_BPS)) == (1_500, 270)
    assert [half_up(amount, 5000) for amount in (1, 2, 3)] == [1, 1, 2]


@given(st.integers(0, len(seal(TEXTS)) - 1), st.integers(1, 255))
def test_a_file_with_any_one_byte_changed_is_refused(at: int, flip: int) -> None:
    data = bytearray(seal(TEXTS))
    data[at] ^= flip
    refusal(bytes(data))


@given(st.integers(0, len(seal(TEXTS)) - 1))
def test_a_file_cut_anywhere_is_refused(length: int) -> None:
    refusal(seal(TEXTS)[:length])


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_but_a_refusal(data: bytes) -> None:
    refusal(data)


def test_lines_that_are_lost_doubled_or_exchanged_are_refused() -> None:
    lines = seal(TEXTS).splitlines(keepends=True)
    for damaged in (
        lines[:2] + lines[3:],
        [*lines[:2], lines[1], *lines[2:]],
        [lines[0], lines[2], lines[1], *lines[3:]],
        [*lines, lines[-1]],
    ):
        refusal(b"".join(damaged))


def test_a_cut_line_is_named() -> None:
    whole = seal(TEXTS)
    cut = whole[: whole.index(b"6GZP3Q000002")]
    assert (refusal(cut).line, refusal(cut).field) == (3, "line")


def test_a_missing_trailer_is_named() -> None:
    refused = refusal(seal(TEXTS[:-1]))
    assert (refused.line, refused.field) == (5, "record")


def test_an_endless_line_is_not_read_to_its_end() -> None:
    refused = refusal(b"H" * 100_000)
    assert (refused.line, refused.field, refused.reason) == (1, "line", "too long")


REFUSED = [
    (0, "|INR|3|", "|INR|4|", 1, "count"),
    (0, "|145000", "|145001", 1, "net"),
    (0, "|2026-11-22|", "|2026-11-31|", 1, "date"),
    (0, "|2026-11-22|", "|22.11.2026|", 1, "date"),
    (0, "|INR|", "|inr|", 1, "currency"),
    (0, "H|1|", "H|2|", 1, "version"),
    (0, "meridian|m", "Meridian|m", 1, "bank"),
    (0, "H|1", "X|1", 1, "record"),
    (1, "|100000|", "|100001|", 2, "net"),
    (1, "|100000|", "|0100000|", 2, "amount"),
    (1, "|100000|", "|-100000|", 2, "amount"),
    (1, "|100000|", "|1000.00|", 2, "amount"),
    (1, "|100000|", "|١٠٠٠٠٠|", 2, "line"),
    (1, "|100000|1500|270|98230", "|0|0|0|0", 2, "amount"),
    (1, "|100000|1500|270|98230", "|100000|99000|1001|-1", 2, "cost"),
    (1, "|270|", "||", 2, "tax"),
    (1, "6GZP3Q000001", "6gzp3q000001", 2, "rrn"),
    (1, "|98230", "|98230|", 2, "line"),
    (1, "C|", "D|", 2, "record"),
    (2, "6GZP3Q000002", "6GZP3Q000001", 3, "rrn"),
    (3, "|0|0|", "|1|0|", 4, "cost"),
    (3, "|0|0|", "|0|1|", 4, "tax"),
    (4, "T|2|1|", "T|3|1|", 5, "captures"),
    (4, "T|2|1|", "T|2|0|", 5, "refunds"),
    (4, "|198443|", "|198444|", 5, "gross_captured"),
    (4, "|50000|", "|50001|", 5, "gross_refunded"),
    (4, "|2902|", "|2903|", 5, "cost"),
    (4, "|541|", "|540|", 5, "tax"),
    (4, "|145000", "|145001", 5, "net"),
]


@pytest.mark.parametrize(("at", "old", "new", "line", "field"), REFUSED)
def test_a_wrong_field_is_named_even_if_the_checks_are_right(
    at: int, old: str, new: str, line: int, field: str
) -> None:
    texts: list[str] = list(TEXTS)
    assert old in texts[at]
    texts[at] = texts[at].replace(old, new, 1)
    refused = refusal(seal(texts))
    assert (refused.line, refused.field) == (line, field)


def test_a_file_that_settles_nothing_is_refused() -> None:
    empty = ("H|1|meridian|m|2026-11-22|INR|0|0", "T|0|0|0|0|0|0|0")
    assert refusal(seal(empty)).field == "count"


def test_an_empty_file_is_refused() -> None:
    assert refusal(b"").line == 1
