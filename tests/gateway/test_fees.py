"""Fee and GST: the example of accounting.md, and that no way of splitting a payment changes what it costs."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Invalid
from gateway.fees import Charge, FeePlan, charge, charge_more, give_back, half_up

PLANS = st.builds(FeePlan, st.integers(0, 10_000), st.integers(0, 1_000), st.integers(0, 10_000))
AMOUNTS = st.integers(1, 10**15)


def test_two_percent_of_a_thousand_rupees_is_twenty_and_gst_three_sixty() -> None:
    assert charge(FeePlan(bps=200), 100_000) == Charge(fee=2_000, tax=360)


@given(st.integers(0, 10**18), st.integers(1, 10**6))
def test_halves_round_up(numerator: int, denominator: int) -> None:
    exact = Fraction(numerator, denominator)
    rounded = half_up(numerator, denominator)
    assert -Fraction(1, 2) < rounded - exact <= Fraction(1, 2)


@given(PLANS, st.lists(st.integers(1, 10**12), min_size=1, max_size=10))
def test_parts_cost_what_the_whole_costs(plan: FeePlan, parts: list[int]) -> None:
    total, before = Charge(0, 0), 0
    for part in parts:
        more = charge_more(plan, before, part)
        assert more.fee >= 0
        assert more.tax >= 0
        total, before = total + more, before + part
    assert total == charge(plan, before)


@given(PLANS, st.lists(st.integers(1, 10**12), min_size=1, max_size=10), st.data())
def test_a_whole_refund_in_parts_hands_back_exactly_what_was_charged(
    plan: FeePlan, parts: list[int], data: st.DataObject
) -> None:
    captured = sum(parts)
    charged = charge(plan, captured)
    returned, refunded = Charge(0, 0), 0
    for part in data.draw(st.permutations(parts)):
        refunded += part
        more = give_back(charged, captured, refunded, returned)
        assert min(more.fee, more.tax) >= 0
        returned += more
    assert returned == charged


@given(PLANS, st.lists(st.tuples(st.integers(1, 10**9), st.integers(0, 10_000)), min_size=1, max_size=10))
def test_refunds_between_captures_never_hand_back_more_than_was_charged(
    plan: FeePlan, steps: list[tuple[int, int]]
) -> None:
    """Each step captures an amount, then refunds a share (in 1/10 000) of what is left to refund."""
    charged, returned, captured, refunded = Charge(0, 0), Charge(0, 0), 0, 0
    for amount, share in steps:
        charged, captured = charged + charge_more(plan, captured, amount), captured + amount
        refunded += (captured - refunded) * share // 10_000
        returned += give_back(charged, captured, refunded, returned)
        assert returned.fee <= charged.fee
        assert returned.tax <= charged.tax
    assert returned + give_back(charged, captured, captured, returned) == charged


@given(AMOUNTS)
def test_nothing_captured_costs_nothing(fixed: int) -> None:
    assert charge(FeePlan(100, fixed), 0) == Charge(0, 0)


@pytest.mark.parametrize("plan", [(-1,), (10_001,), (0, -1), (0, 0, 10_001)])
def test_a_plan_out_of_range_cannot_be_made(plan: tuple[int, ...]) -> None:
    with pytest.raises(Invalid):
        FeePlan(*plan)
