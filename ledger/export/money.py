"""Amounts as other programs write them: decimals in major units, with exactly the currency's ISO 4217 places."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from functools import cache

from iso4217 import Currency

from ledger.errors import InvalidEntry


@cache
def exponent(currency: str) -> int:
    """Decimal places: JPY 0, INR 2, KWD 3. Zero for what ISO 4217 gives none (XAU) or does not know: the amount is
    then shown as the book counts it."""
    try:
        return Currency(currency).exponent or 0
    except ValueError:
        return 0


def decimal_text(amount: int, currency: str) -> str:
    """``123450, "INR"`` is ``1234.50``."""
    places = exponent(currency)
    whole, part = divmod(abs(amount), 10**places)
    digits = f"{whole}.{part:0{places}}" if places else str(whole)
    return f"-{digits}" if amount < 0 else digits


def minor_units(text: str, currency: str) -> int:
    """The inverse. Raises ``InvalidEntry`` for what is no number, or finer than the currency's minor unit."""
    try:
        scaled = Decimal(text).scaleb(exponent(currency))
    except InvalidOperation:
        raise InvalidEntry("amount", f"{text!r} is no amount of {currency}") from None
    if not scaled.is_finite() or scaled != scaled.to_integral_value():
        raise InvalidEntry("amount", f"{text!r} is finer than the minor unit of {currency}")
    return int(scaled)
