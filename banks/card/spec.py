"""The message specification as data: every field Khata and its acquirers exchange, and every message type.

ISO 8583:1987, ASCII fields, binary bitmaps. Amounts are in minor units of the currency in field 49.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Field:
    """One data element. ``length``: fixed, or the most a variable one holds (``prefix`` length digits).

    ``mask`` says how a value may be shown to people; None shows it as it is.
    """

    number: int
    name: str
    pattern: str
    length: int
    prefix: int = 0
    mask: Callable[[str], str] | None = None


def mask_pan(pan: str) -> str:
    """First six and last four digits, the most PCI DSS lets anyone see."""
    return f"{pan[:6]}{'*' * (len(pan) - 10)}{pan[-4:]}" if len(pan) > 10 else "*" * len(pan)


def _hide(value: str) -> str:
    return "*" * len(value)


_ALL_FIELDS = (
    Field(2, "Primary account number", r"[0-9]{12,19}", 19, prefix=2, mask=mask_pan),
    Field(3, "Processing code", r"[0-9]{6}", 6),
    Field(4, "Amount, transaction", r"[0-9]{12}", 12),
    Field(7, "Transmission date and time (MMDDhhmmss, UTC)", r"[0-9]{10}", 10),
    Field(11, "Systems trace audit number", r"[0-9]{6}", 6),
    Field(14, "Date, expiration (YYMM)", r"[0-9]{4}", 4, mask=_hide),
    Field(22, "Point-of-service entry mode", r"[0-9]{3}", 3),
    Field(25, "Point-of-service condition code", r"[0-9]{2}", 2),
    Field(32, "Acquiring institution identification code", r"[0-9]{1,11}", 11, prefix=2),
    Field(37, "Retrieval reference number", r"[0-9A-Z]{12}", 12),
    Field(38, "Authorization identification response", r"[0-9A-Z]{6}", 6),
    Field(39, "Response code", r"[0-9A-Z]{2}", 2),
    Field(41, "Card acceptor terminal identification", r"[ -~]{8}", 8),
    Field(42, "Card acceptor identification code", r"[ -~]{15}", 15),
    Field(48, "Additional data: tag (2), length (2), value …", r"[ -~]{1,999}", 999, prefix=3, mask=_hide),
    Field(49, "Currency code, transaction (ISO 4217 number)", r"[0-9]{3}", 3),
    Field(70, "Network management information code", r"[0-9]{3}", 3),
    Field(90, "Original data elements", r"[0-9]{42}", 42),
    Field(95, "Replacement amounts", r"[0-9]{24}(?:[CD][0-9]{8}){2}", 42),
)
FIELDS: Mapping[int, Field] = {field.number: field for field in _ALL_FIELDS}
PATTERNS: Mapping[int, re.Pattern[str]] = {field.number: re.compile(field.pattern) for field in _ALL_FIELDS}

MESSAGE_TYPES: Mapping[str, str] = {
    "0100": "Authorization request",
    "0110": "Authorization response",
    "0200": "Financial request (refund)",
    "0210": "Financial response",
    "0220": "Completion advice (capture)",
    "0221": "Completion advice, repeated",
    "0230": "Completion advice response",
    "0420": "Reversal advice",
    "0421": "Reversal advice, repeated",
    "0430": "Reversal advice response",
    "0800": "Network management request",
    "0810": "Network management response",
}

SIGN_ON, SIGN_OFF, ECHO = "001", "002", "301"  # field 70
PURCHASE, REFUND = "000000", "200000"  # field 3
TAG_CVV, TAG_FINAL, TAG_TOLERANCE = "92", "61", "54"  # inside field 48


@dataclass(frozen=True, slots=True)
class Meaning:
    """Of a response code (field 39). ``retryable``: another bank may be asked."""

    text: str
    retryable: bool = False


APPROVED = "00"
DUPLICATE = "94"
RESPONSE_CODES: Mapping[str, Meaning] = {
    APPROVED: Meaning("approved"),
    "03": Meaning("invalid merchant"),
    "05": Meaning("do not honour"),
    "12": Meaning("invalid transaction"),
    "13": Meaning("invalid amount"),
    "14": Meaning("invalid card number"),
    "25": Meaning("original transaction not found"),
    "30": Meaning("format error"),
    "41": Meaning("lost card"),
    "43": Meaning("stolen card"),
    "51": Meaning("insufficient funds"),
    "54": Meaning("expired card"),
    "57": Meaning("transaction not permitted to cardholder"),
    "61": Meaning("exceeds amount limit"),
    "64": Meaning("original amount incorrect"),
    "65": Meaning("exceeds frequency limit"),
    "91": Meaning("issuer or switch inoperative", retryable=True),
    "92": Meaning("no route to the issuer", retryable=True),
    DUPLICATE: Meaning("duplicate transmission"),
    "96": Meaning("system malfunction", retryable=True),
    "N7": Meaning("card verification value wrong"),
}


def response_to(mti: str) -> str:
    """The type that answers ``mti``: 0100 → 0110, 0220 and its repeat 0221 → 0230."""
    return f"{mti[:2]}{int(mti[2]) + 1}0"


def _codec_entry(max_len: int, desc: str, *, prefix: int = 0, data: str = "ascii") -> dict[str, Any]:
    return {"data_enc": data, "len_enc": "ascii", "len_type": prefix, "max_len": max_len, "desc": desc}


def codec_spec() -> dict[str, dict[str, Any]]:
    """The same table in the form the ``iso8583`` codec reads."""
    fixed = {
        "h": _codec_entry(0, "No header"),
        "t": _codec_entry(4, "Message type"),
        "p": _codec_entry(8, "Primary bitmap", data="b"),
        "1": _codec_entry(8, "Secondary bitmap", data="b"),
    }
    return fixed | {str(f.number): _codec_entry(f.length, f.name, prefix=f.prefix) for f in _ALL_FIELDS}
