"""Money as people read it: ``₹1,00,000.00``, ``¥1,500``, ``KWD 12.345``.

Decimals are ISO 4217's; CLDR's differ for 78 currencies and would show another amount than the one booked. From
CLDR come only the signs. Amounts are integers in minor units all the way: nothing is rounded here.
"""

from __future__ import annotations

from functools import cache

from babel.numbers import get_currency_name, get_currency_symbol
from iso4217 import Currency

MINUS = "\u2212"
NO_BREAK = "\u00a0"
_LOCALE = "en"
# Grouped in lakhs and crores where they are spoken of.
_INDIAN = frozenset({"INR", "NPR", "PKR", "BDT", "LKR", "BTN"})


@cache
def exponent(currency: str) -> int:
    """Decimal places of the minor unit (ISO 4217): INR 2, JPY 0, KWD 3. ``ValueError`` for no such currency."""
    places = Currency(currency).exponent
    if places is None:
        raise ValueError(f"{currency} has no minor unit")
    return places


@cache
def sign(currency: str) -> str:
    """What goes before the number, with a space after letters."""
    symbol = get_currency_symbol(currency, _LOCALE)
    return symbol + NO_BREAK if symbol[-1].isalpha() else symbol


@cache
def name(currency: str) -> str:
    return get_currency_name(currency, locale=_LOCALE)


def money(amount: int, currency: str) -> str:
    """``money(10000000, "INR")`` is ``₹1,00,000.00``; a negative one begins with a true minus."""
    places = exponent(currency)
    whole, part = divmod(abs(amount), 10**places)
    text = _grouped(str(whole), 2 if currency in _INDIAN else 3)
    decimals = f".{part:0{places}d}" if places else ""
    return f"{MINUS if amount < 0 else ''}{sign(currency)}{text}{decimals}"


def _grouped(digits: str, size: int) -> str:
    """Commas: the last group has three digits, those before it ``size``."""
    head, groups = digits[:-3], [digits[-3:]]
    while head:
        head, group = head[:-size], head[-size:]
        groups.insert(0, group)
    return ",".join(groups)
