"""Ids are in the order in which they were made, also those of one millisecond."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ledger.ids import Ids

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def test_ids_of_one_millisecond_are_in_order_and_no_two_are_the_same() -> None:
    ids = Ids(lambda: NOON)
    made = [ids() for _ in range(500)]
    assert made == sorted(set(made))
    assert {id.version for id in made} == {7}
    assert {id.int >> 80 for id in made} == {int(NOON.timestamp() * 1000)}


def test_a_clock_that_goes_back_is_believed() -> None:
    times = iter([NOON, NOON - timedelta(seconds=1)])
    ids = Ids(lambda: next(times))
    assert ids() > ids()
