"""The fields that have parts of their own: amounts and currencies (4, 49), 48, 90 and 95. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from iso4217 import Currency

from banks.errors import MalformedMessage

_NUMBER_BY_CODE = {c.code: f"{c.number:03d}" for c in Currency if c.exponent is not None}
_CODE_BY_NUMBER = {number: code for code, number in _NUMBER_BY_CODE.items()}
_MAX_AMOUNT = 10**12 - 1


def amount_text(amount: int) -> str:
    """Field 4: twelve digits of minor units. The exponent is the currency's own (JPY 0, INR 2, KWD 3)."""
    if type(amount) is not int or not 0 <= amount <= _MAX_AMOUNT:
        raise MalformedMessage("4", "an amount is at most twelve digits of minor units")
    return f"{amount:012d}"


def currency_number(code: str) -> str:
    """Field 49: the ISO 4217 number of a currency's three letters."""
    number = _NUMBER_BY_CODE.get(code)
    if number is None:
        raise MalformedMessage("49", "not an ISO 4217 currency with minor units")
    return number


def currency_code(number: str) -> str:
    """The three letters of an ISO 4217 number."""
    code = _CODE_BY_NUMBER.get(number)
    if code is None:
        raise MalformedMessage("49", "not an ISO 4217 number")
    return code


def pack_additional(parts: Mapping[str, str]) -> str:
    """Field 48: each part as its tag, its length in two digits, its value; in order of tags."""
    for tag, value in parts.items():
        if not (len(tag) == 2 and tag.isdigit() and 0 < len(value) < 100):
            raise MalformedMessage("48", "a part is a two-digit tag and 1 to 99 characters")
    return "".join(f"{tag}{len(parts[tag]):02d}{parts[tag]}" for tag in sorted(parts))


def unpack_additional(text: str) -> dict[str, str]:
    """The parts of field 48 by tag; raises ``MalformedMessage`` on a cut or repeated part."""
    parts: dict[str, str] = {}
    at = 0
    while at < len(text):
        tag, digits = text[at : at + 2], text[at + 2 : at + 4]
        if not (len(digits) == 2 and tag.isdecimal() and digits.isdecimal()):
            raise MalformedMessage("48", "a part without tag and length")
        end = at + 4 + int(digits)
        if end == at + 4 or end > len(text) or tag in parts:
            raise MalformedMessage("48", "a part that is empty, cut or repeated")
        parts[tag] = text[at + 4 : end]
        at = end
    return parts


@dataclass(frozen=True, slots=True)
class Original:
    """Field 90: which message a reversal, completion or refund is about."""

    mti: str
    stan: str
    transmission: str  # its field 7
    acquirer: str  # its field 32

    def pack(self) -> str:
        return f"{self.mti}{self.stan}{self.transmission}{self.acquirer:0>11}{0:011d}"


def unpack_original(text: str) -> Original:
    """Read field 90 (42 digits, checked by the codec); leading zeros of the acquirer are padding."""
    return Original(text[:4], text[4:10], text[10:20], text[20:31].lstrip("0"))


def pack_replacement(amount: int) -> str:
    """Field 95: the amount that stays, in minor units; settlement amount and fees unused."""
    return f"{amount_text(amount)}{0:012d}C{0:08d}C{0:08d}"


def unpack_replacement(text: str) -> int:
    """The amount that stays, in minor units."""
    return int(text[:12])
