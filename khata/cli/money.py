"""Amounts for people: minor units with the currency's ISO 4217 exponent put in place."""

from __future__ import annotations

from ledger.export.money import exponent


def major(amount: int, currency: str) -> str:
    """``123450, INR`` is ``1,234.50``."""
    places = exponent(currency)
    whole, part = divmod(abs(amount), 10**places)
    digits = f"{whole:,}" + (f".{part:0{places}}" if places else "")
    return f"-{digits}" if amount < 0 else digits
