"""Money as it is shown: exact, with ISO 4217's decimals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.pages.money import MINUS, exponent, money, sign
from api.schemas.base import CURRENCIES
from ledger.model import MAX_AMOUNT


@pytest.mark.parametrize(
    ("amount", "currency", "shown"),
    [
        (0, "INR", "₹0.00"),
        (5, "INR", "₹0.05"),
        (99_999, "INR", "₹999.99"),
        (100_000, "INR", "₹1,000.00"),
        (10_000_000, "INR", "₹1,00,000.00"),
        (1_234_567_890_12, "INR", "₹1,23,45,67,890.12"),
        (-10_000_000, "INR", "\u2212₹1,00,000.00"),
        (1_234_567, "USD", "$12,345.67"),
        (1_234_567, "JPY", "¥1,234,567"),
        (1_234_567, "KWD", "KWD\u00a01,234.567"),
        (1, "CLF", "CLF\u00a00.0001"),
    ],
)
def test_money_is_written_as_people_of_its_country_write_it(amount: int, currency: str, shown: str) -> None:
    assert money(amount, currency) == shown


@given(st.integers(-MAX_AMOUNT, MAX_AMOUNT), st.sampled_from(sorted(CURRENCIES)))
def test_what_is_shown_can_be_read_back(amount: int, currency: str) -> None:
    shown, places = money(amount, currency), exponent(currency)
    digits = "".join(c for c in shown if c in "0123456789")
    assert int(digits) == abs(amount)
    assert shown.startswith(MINUS) == (amount < 0)
    assert shown.removeprefix(MINUS).removeprefix(sign(currency)).replace(",", "") == (
        f"{digits[:-places]}.{digits[-places:]}" if places else digits
    )


def test_a_currency_without_a_minor_unit_is_refused() -> None:
    for currency in ("XAU", "ABC"):
        with pytest.raises(ValueError):  # noqa: PT011
            exponent(currency)
