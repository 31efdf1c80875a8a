"""The types every body is made of.

Amounts are integers in the currency's minor unit beside the currency's ISO 4217 code; times are RFC 3339 in
UTC with ``Z``; ids are opaque strings. Models are strict: no unknown member, no "12" or true for an integer.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from iso4217 import Currency
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
)
from pydantic_core import PydanticCustomError

from ledger.model import MAX_AMOUNT

MAX_DESCRIPTION = 200
RESERVED = "adjustment."  # metadata that tells who proposed and who approved
# What ISO 4217 gives no minor unit (gold, testing codes) cannot be an amount of money here.
CURRENCIES = frozenset(c.code for c in Currency if c.exponent is not None)


def utc_text(at: datetime) -> str:
    """RFC 3339 in UTC, to the microsecond, with ``Z``."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _known_currency(code: str) -> str:
    if code not in CURRENCIES:
        raise PydanticCustomError("currency_unknown", "not an ISO 4217 currency with a minor unit")
    return code


def printable(text: str) -> str:
    if not text.isprintable():
        raise PydanticCustomError("not_printable", "only printable characters are accepted")
    return text


def _unreserved(key: str) -> str:
    if key.startswith(RESERVED):
        raise PydanticCustomError("key_reserved", "keys of adjustments are written by the ledger alone")
    return key


class Closed(BaseModel):
    """A request body: nothing but what is declared, and nothing converted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class View(BaseModel):
    """An answer; built by us, so it is not validated again on the way out."""

    model_config = ConfigDict(frozen=True)

    def json_bytes(self) -> bytes:
        return self.__pydantic_serializer__.to_json(self)


Amount = Annotated[
    int, Field(ge=1, le=MAX_AMOUNT, description="Minor units of the currency, e.g. paise", examples=[125000])
]
CurrencyCode = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Z]{3}$"),
    AfterValidator(_known_currency),
    Field(description="ISO 4217", examples=["INR"]),
]
AccountPath = Annotated[
    str,
    StringConstraints(
        pattern=r"^(Assets|Liabilities|Equity|Income|Expenses)(:[A-Za-z0-9][A-Za-z0-9_-]{0,63}){1,7}$",
        max_length=512,
    ),
    Field(description="Account path", examples=["Liabilities:Customer:c42:Wallet"]),
]
Description = Annotated[
    str,
    StringConstraints(max_length=MAX_DESCRIPTION),
    AfterValidator(printable),
    Field(description="Printable text without personal data", examples=["Order 1001"]),
]
MetadataValue = Annotated[str, StringConstraints(max_length=200), AfterValidator(printable)]
MetadataKey = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_.]{0,39}$")]
Metadata = Annotated[
    dict[Annotated[MetadataKey, AfterValidator(_unreserved)], MetadataValue],
    Field(
        max_length=20, description="Up to 20 opaque pairs; no personal data", examples=[{"order_id": "1001"}]
    ),
]
Instant = Annotated[
    datetime, PlainSerializer(utc_text, return_type=str), Field(examples=["2026-11-22T09:30:00.000000Z"])
]


def _to_utc(at: datetime) -> datetime:
    if not 2000 <= at.year <= 2199:  # also keeps the conversion within Python's range
        raise PydanticCustomError("time_out_of_range", "between the years 2000 and 2199")
    return at.astimezone(UTC)


InstantIn = Annotated[
    AwareDatetime,
    AfterValidator(_to_utc),
    Field(description="RFC 3339 with its offset", examples=["2026-11-29T09:30:00Z"]),
]
JsonObject = dict[str, Any]
