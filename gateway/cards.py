"""Card numbers and codes as values that cannot leak: no printing, pickling, copying or JSON.

``reveal()`` is the only way to the digits; it is called by the vault and by the bank's rail and nowhere else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date
from hmac import compare_digest
from typing import Any, NoReturn, SupportsIndex

from gateway.errors import CardInvalid

_PAN = re.compile(r"[0-9]{12,19}")
_CVV = re.compile(r"[0-9]{3,4}")
_DOUBLED = {"0": 0, "1": 2, "2": 4, "3": 6, "4": 8, "5": 1, "6": 3, "7": 5, "8": 7, "9": 9}
_EXPIRY = re.compile(r"[0-9]{2}(0[1-9]|1[0-2])")

# Issuer number ranges of the schemes (ISO/IEC 7812; longest prefix first).
_BRANDS = (
    ("rupay", re.compile(r"60|65|81|82|508")),
    ("amex", re.compile(r"3[47]")),
    ("diners", re.compile(r"36|38|30[0-5]")),
    ("jcb", re.compile(r"35(2[89]|[3-8])")),
    ("mastercard", re.compile(r"5[1-5]|2(22[1-9]|2[3-9]|[3-6]|7[01]|720)")),
    ("maestro", re.compile(r"5018|5020|5038|6304|6759|676[1-3]")),
    ("visa", re.compile(r"4")),
)


class _Secret:
    """Digits that show nothing of themselves."""

    __slots__ = ("_digits",)
    _digits: str

    def reveal(self) -> str:
        """The digits. Whoever calls this answers for where they go."""
        return self._digits

    def __repr__(self) -> str:
        return f"{type(self).__name__}(hidden)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and compare_digest(self._digits, other._digits)

    __hash__ = None  # type: ignore[assignment]  # a dict of card numbers must not exist

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        # Stops pickle, copy and deepcopy (hence dataclasses.asdict) alike.
        raise TypeError(f"{type(self).__name__} is never serialised")


class Pan(_Secret):
    """A primary account number: 12 to 19 digits, the check digit right; spaces and hyphens are taken out."""

    __slots__ = ()

    def __init__(self, number: str) -> None:
        digits = number.replace(" ", "").replace("-", "")
        if not _PAN.fullmatch(digits):
            raise CardInvalid("number", "12 to 19 digits")
        if not luhn(digits):
            raise CardInvalid("number", "the check digit is wrong")
        self._digits = digits

    @property
    def last4(self) -> str:
        return self._digits[-4:]

    @property
    def brand(self) -> str:
        """visa, mastercard, rupay, amex, diners, jcb, maestro or unknown."""
        return next((name for name, prefix in _BRANDS if prefix.match(self._digits)), "unknown")


class Cvv(_Secret):
    """The code printed on the card: goes to the bank once and is stored nowhere."""

    __slots__ = ()

    def __init__(self, code: str) -> None:
        if not _CVV.fullmatch(code):
            raise CardInvalid("cvv", "three or four digits")
        self._digits = code


@dataclass(frozen=True, slots=True)
class Card:
    """What the customer typed. ``expiry`` is YYMM (ISO 8583 DE 14); ``cvv`` is None for a stored card."""

    pan: Pan
    expiry: str = field(repr=False)
    cvv: Cvv | None = None

    def __post_init__(self) -> None:
        if not _EXPIRY.fullmatch(self.expiry):
            raise CardInvalid("expiry", "YYMM")

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError("Card is never serialised")

    def require_unexpired(self, today: date) -> None:
        """A card is good through the last day of its month; raises ``CardInvalid``."""
        year, month = 2000 + int(self.expiry[:2]), int(self.expiry[2:])
        if (today.year, today.month) > (year, month):
            raise CardInvalid("expiry", "the card has expired")


def luhn(digits: str) -> bool:
    """The check digit of ISO/IEC 7812-1 annex B."""
    plain = sum(map(int, digits[::-2]))
    # Twice each other digit, and of two digits their sum.
    doubled = sum([_DOUBLED[digit] for digit in digits[-2::-2]])
    return (plain + doubled) % 10 == 0
