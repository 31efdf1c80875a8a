"""What a merchant pays us: a share and a fixed part per payment, and GST on it. Integers in minor units.

Formula (accounting.md, "Entries"): fee = amount · bps / 10 000 + fixed; GST = fee · gst_bps / 10 000; each
rounded half up to the minor unit (section 170 of India's CGST Act 2017 rounds halves up too, there to the
rupee on the return). Example: 2 % of 1000.00 is 20.00 and 18 % of that is 3.60.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.errors import Invalid

BPS = 10_000


@dataclass(frozen=True, slots=True)
class FeePlan:
    """``bps``: our share in 1/10 000; ``fixed``: minor units a payment; ``gst_bps``: tax on both."""

    bps: int
    fixed: int = 0
    gst_bps: int = 1_800

    def __post_init__(self) -> None:
        for name in ("bps", "gst_bps"):
            if not 0 <= getattr(self, name) <= BPS:
                raise Invalid(name, "between 0 and 10000")
        if self.fixed < 0:
            raise Invalid("fixed", "not negative")


@dataclass(frozen=True, slots=True)
class Charge:
    """Our fee and the GST on it, minor units."""

    fee: int
    tax: int

    @property
    def total(self) -> int:
        return self.fee + self.tax

    def __add__(self, other: Charge) -> Charge:
        return Charge(self.fee + other.fee, self.tax + other.tax)

    def __sub__(self, other: Charge) -> Charge:
        return Charge(self.fee - other.fee, self.tax - other.tax)


FREE = Charge(0, 0)


def half_up(numerator: int, denominator: int) -> int:
    """``numerator / denominator`` to the nearest integer, halves up; both not negative."""
    return (2 * numerator + denominator) // (2 * denominator)


def charge(plan: FeePlan, amount: int) -> Charge:
    """The charge on ``amount`` captured in all; nothing on nothing."""
    if amount == 0:
        return FREE
    fee = half_up(amount * plan.bps, BPS) + plan.fixed
    return Charge(fee, half_up(fee * plan.gst_bps, BPS))


def charge_more(plan: FeePlan, before: int, amount: int) -> Charge:
    """The charge on ``amount`` more after ``before``: split as it may be, the parts sum to the whole."""
    return charge(plan, before + amount) - charge(plan, before)


def give_back(charged: Charge, captured: int, refunded: int, returned: Charge) -> Charge:
    """What is to be given back of ``charged`` once ``refunded`` of ``captured`` is, beside what is ``returned``.

    Cumulative as well: when all is refunded exactly all is given back. Never less than nothing: a capture
    after a refund can make the share of what was refunded smaller than it was then.
    """

    def due(part: int, already: int) -> int:
        return max(0, half_up(part * refunded, captured) - already)

    return Charge(due(charged.fee, returned.fee), due(charged.tax, returned.tax))
