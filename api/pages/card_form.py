"""The card form: what was typed, judged field by field. What is wrong is named; what was typed is never repeated."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType

from gateway.cards import Card, Cvv, Pan
from gateway.errors import CardInvalid

_EXPIRY = re.compile(r"(0?[1-9]|1[0-2])\s*[/.-]?\s*(?:20)?([0-9]{2})")


@dataclass(frozen=True, slots=True)
class Words:
    """What the form says of a field that is empty, and of one that cannot be right."""

    missing: str
    wrong: str


# In the order of the form: the first one that is wrong gets the focus.
FIELDS: Mapping[str, Words] = MappingProxyType(
    {
        "number": Words("Enter the card number", "This is not a card number: check its digits"),
        "expiry": Words(
            "Enter the expiry date", "Enter a month and a year that have not passed, like 09 / 28"
        ),
        "cvc": Words("Enter the security code", "The security code has 3 or 4 digits"),
    }
)
_FIELD_OF = {"number": "number", "expiry": "expiry", "cvv": "cvc"}


def read_card(form: Mapping[str, str], *, today: date) -> Card | Mapping[str, str]:
    """The card, or what is wrong with it by field (all fields at once)."""
    errors = {name: words.missing for name, words in FIELDS.items() if not form.get(name)}
    parsers: dict[str, Callable[[str], object]] = {
        "number": _number,
        "expiry": lambda text: _expiry(text, today),
        "cvc": Cvv,
    }
    for name, parse in parsers.items():
        if name not in errors:
            try:
                parse(form[name])
            except CardInvalid as error:
                errors[_FIELD_OF[error.field]] = FIELDS[name].wrong
    if errors:
        return {name: errors[name] for name in FIELDS if name in errors}
    return Card(Pan(form["number"]), _expiry(form["expiry"], today), Cvv(form["cvc"]))


def _number(text: str) -> None:
    # Any longer input would be digits of something else; Pan itself bounds the digits.
    if len(text) > 40:
        raise CardInvalid("number", "too long")
    Pan(text)


def _expiry(text: str, today: date) -> str:
    """YYMM of ``09 / 28``, ``9/28``, ``0928`` or ``09/2028``; a card is good through the last day of its month."""
    match = _EXPIRY.fullmatch(text)
    if match is None:
        raise CardInvalid("expiry", "MM / YY")
    expiry = f"{match[2]}{int(match[1]):02d}"
    if expiry < f"{today:%y%m}":
        raise CardInvalid("expiry", "the card has expired")
    return expiry
