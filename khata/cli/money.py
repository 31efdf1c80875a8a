"""Amounts for people: minor units with the currency's ISO 4217 exponent put in place."""

from __future__ import annotations

from functools import cache

from iso4217 import Currency


@cache
def exponent(currency: str) -> int:
    """Decimal places of the currency: 0 for JPY, 2 for INR, 3 for KWD."""
    return Currency(currency).exponent or 0


def major(amount: int, currency: str) -> str:
    """``123450, INR`` is ``1,234.50``."""
    places = exponent(currency)
    whole, part = divmod(abs(amount), 10**places)
    digits = f"{whole:,}" + (f".{part:0{places}}" if places else "")
    return f"-{digits}" if amount < 0 else digits
