"""Amounts and days as the documents write them."""

from __future__ import annotations

from datetime import UTC, date, datetime

from api.pages.money import money
from ledger.export.money import decimal_text


def figure(amount: int, currency: str) -> str:
    """``₹1,00,000.00``; for a code without a minor unit (XAU) the number as the book counts it, and the code."""
    try:
        return money(amount, currency)
    except ValueError:
        return f"{decimal_text(amount, currency)}\u00a0{currency}"


def day(at: date | datetime) -> str:
    """``22 Nov 2026``, of an instant in UTC."""
    on = at.astimezone(UTC) if isinstance(at, datetime) else at
    return f"{on.day} {on:%b %Y}"
