"""What can be a batch: the same as what can be journals, and columns that fit together."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from ledger import model as m
from ledger.bulk import Paths, Transfers, uuid7s
from ledger.errors import InvalidEntry
from tests.bulk.desk import PATHS, transfers
from tests.ledger.words import ESCROW, NOW, PENDING_A, WALLET

TWO = [(WALLET, ESCROW, 5), (PENDING_A, ESCROW, 6)]


def test_a_row_says_what_the_unit_of_it_says() -> None:
    at = datetime(2026, 11, 20, 5, 30, tzinfo=UTC)
    given = transfers(
        TWO,
        sources=["a", "b"],
        description=["one", "two"],
        metadata={"z": "1", "a": ["x", "y"]},
        effective_at=at,
    )
    assert given.unit(1) == m.Unit(
        (
            m.Journal(
                id=UUID(bytes=given.ids[1].tobytes()),
                kind="transfer",
                source=m.Source("test", "b", "done"),
                postings=(m.Posting(ESCROW, PENDING_A, 6, "INR"),),
                effective_at=at,
                description="two",
                metadata={"a": "y", "z": "1"},
            ),
        )
    )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"debit": [0, 9]}, "debit: row 1: is no place in paths"),
        ({"credit": [1, -1]}, "credit: row 1: is no place in paths"),
        ({"debit": [2**31, 0]}, "debit: row 0: is out of range"),
        ({"debit": [1, 0]}, "credit: row 0: both sides are the same account"),
        ({"debit": [0, 0, 0]}, "debit: 2 rows, as many as source_ids"),
        ({"amount": [1, 0]}, "amount: row 1: is not between"),
        ({"amount": [m.MAX_AMOUNT + 1, 1]}, "amount: row 0: is not between"),
        ({"amount": [1.0, 2.0]}, "amount: integers"),
        ({"amount": [True, True]}, "amount: integers"),
        ({"amount": np.array([1, 2], np.uint64)}, "amount: integers"),
        ({"currency": "inr"}, "currency: "),
        ({"kind": "Transfer"}, "kind: "),
        ({"source_type": ""}, "source.type: "),
        ({"source_event": "Done"}, "source.event: "),
        ({"source_ids": []}, "source_ids: 1 to 65536 rows"),
        ({"source_ids": ["a", ""]}, "source.id: row 1: "),
        ({"source_ids": ["a", "x" * 65]}, "source.id: row 1: "),
        ({"source_ids": ["a b", "c"]}, "source.id: row 0: "),
        ({"source_ids": ["a", "₹"]}, "source.id: row 1: "),
        ({"source_ids": ["a", "b\n"]}, "source.id: row 1: "),
        ({"source_ids": ["a", 7]}, "source.id: row 1: "),
        ({"ids": np.zeros((2, 15), np.uint8)}, "ids: 16 bytes a row"),
        ({"description": "x" * 201}, "description: "),
        ({"description": ["fine", "tab\t"]}, "description: row 1: "),
        ({"description": ["fine"]}, "description: 2 rows, as many as source_ids"),
        ({"metadata": {"Key": "x"}}, "metadata: "),
        ({"metadata": {"key": ["x", "\ud800"]}}, "metadata: row 1: "),
        ({"metadata": {"key": ["x", 1]}}, "metadata: row 1: "),
        ({"metadata": {f"k{n}": "" for n in range(21)}}, "metadata: at most 20 keys"),
        ({"effective_at": datetime(2026, 1, 1)}, "effective_at: a time needs its zone"),  # noqa: DTZ001
    ],
)
def test_what_cannot_be_posted_cannot_be_built(changes: dict[str, Any], says: str) -> None:
    arrays = {key: np.array(v) if key in ("debit", "credit", "amount") else v for key, v in changes.items()}
    with pytest.raises(InvalidEntry) as refused:
        _changed(**arrays)
    assert str(refused.value).startswith(says)


def _changed(**changes: Any) -> Transfers:
    good = transfers(TWO)
    fields = {name: getattr(good, name) for name in Transfers.__dataclass_fields__}
    return Transfers(**(fields | changes))


def test_paths_are_paths_and_each_is_there_once() -> None:
    with pytest.raises(InvalidEntry, match="is not an account path"):
        Paths([ESCROW, "Cash"])
    with pytest.raises(InvalidEntry, match="one path twice"):
        Paths([ESCROW, ESCROW])


def test_what_was_checked_is_what_is_posted() -> None:
    given = np.array([1, 2], np.int64)
    made = _changed(amount=given)
    given[0] = -5
    assert made.amount.tolist() == [1, 2]
    with pytest.raises(ValueError, match="read-only"):
        made.amount[0] = -5
    assert made.paths is PATHS


def test_ids_are_of_their_time_in_order_and_of_all_the_randomness() -> None:
    drawn = Random(1).randbytes(100_000)
    ids = uuid7s(NOW, drawn)
    made = [UUID(bytes=row.tobytes()) for row in ids]
    assert len(set(made)) == len(made) == 10_000
    assert made == sorted(made)
    assert {(u.version, u.variant) for u in made} == {(7, "specified in RFC 4122")}
    assert {u.int >> 80 for u in made} == {int(NOW.timestamp() * 1000)}
    later = uuid7s(NOW + timedelta(milliseconds=1), drawn)
    assert made[-1] < UUID(bytes=later[0].tobytes())
    assert len({u.int & 1023 for u in made}) > 100
