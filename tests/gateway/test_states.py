"""The three tables are closed lists; a status is the fold of its operations."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banks.references import reference
from gateway import store
from gateway.errors import IllegalTransition
from gateway.fees import FeePlan
from gateway.model import Attempt, CaptureMethod, Ended, Kind, Operation, Payment, attempt_state, totals
from gateway.states import (
    ATTEMPT,
    INITIAL,
    OPEN,
    OPERATION,
    PAYMENT,
    TABLES,
    AttemptState,
    OperationState,
    PaymentStatus,
    as_mermaid,
    as_text,
    move,
    states,
)

NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)
O, A, P = OperationState, AttemptState, PaymentStatus  # noqa: E741


@pytest.mark.parametrize("level", list(TABLES))
def test_every_state_is_reachable_and_every_edge_names_its_event(level: str) -> None:
    reached, edges = {INITIAL[level]}, TABLES[level]
    while more := {after for before, after in edges if before in reached} - reached:
        reached |= more
    assert reached == set(states(level))
    assert all(event.isidentifier() for event in edges.values())


@pytest.mark.parametrize(("table", "kind"), [(OPERATION, O), (ATTEMPT, A), (PAYMENT, P)])
def test_an_edge_in_no_table_is_refused(table: dict[tuple[str, str], str], kind: type) -> None:
    for before, after in product(kind, kind):
        if before is after:
            assert move(before, after) is None
        elif (before, after) in table:
            assert move(before, after) == table[before, after]
        else:
            with pytest.raises(IllegalTransition):
                move(before, after)


def test_unknown_never_becomes_not_sent_and_ended_operations_stay_ended() -> None:
    assert (O.UNKNOWN, O.NOT_SENT) not in OPERATION
    assert {before for before, _ in OPERATION} == OPEN


def test_a_failed_payment_is_revived_by_one_explicit_event_alone() -> None:
    assert {event for (before, _), event in PAYMENT.items() if before is P.FAILED} == {"late_authorization"}


def test_the_listing_has_every_edge_as_text_and_as_a_diagram() -> None:
    for level, edges in TABLES.items():
        assert len(as_text(level).splitlines()) == len(edges)
        assert all(f"{a} --> {b}: {e}" in as_mermaid(level) for (a, b), e in edges.items())


def attempt(number: int = 1, **facts: object) -> Attempt:
    made = Attempt(UUID(int=number), number, "meridian", "card", "card_x", "visa", "1111", NOW)
    return replace(made, **facts)  # type: ignore[arg-type]


_numbers = iter(range(1, 1_000_000))


def op(kind: Kind, state: OperationState, amount: int = 1000, on: int = 1, **facts: object) -> Operation:
    number = next(_numbers)
    made = Operation(UUID(int=1000 + number), UUID(int=on), kind, reference(number, NOW), amount, state, NOW)
    since = {"unknown_since": NOW} if state is O.UNKNOWN else {}
    return replace(made, **since, **facts)  # type: ignore[arg-type]


def payment(*operations: Operation, attempts: int = 1, **facts: object) -> Payment:
    made = Payment(
        UUID(int=7),
        UUID(int=8),
        1,
        1000,
        "INR",
        CaptureMethod.MANUAL,
        FeePlan(200),
        NOW,
        NOW + timedelta(hours=1),
        max_attempts=2,
        attempts=tuple(attempt(n) for n in range(1, attempts + 1)),
        operations=operations,
    )
    return replace(made, **facts)  # type: ignore[arg-type]


AUTHORIZED = op(Kind.AUTHORIZE, O.APPROVED)
CASES = {
    "nobody has tried": (payment(attempts=0), P.REQUIRES_PAYMENT_METHOD),
    "called off": (payment(attempts=0, ended=Ended.CANCELED), P.CANCELED),
    "ran out of time": (payment(attempts=0, ended=Ended.EXPIRED), P.EXPIRED),
    "being authorized": (payment(op(Kind.AUTHORIZE, O.SENDING)), P.PROCESSING),
    "authorization unknown": (payment(op(Kind.AUTHORIZE, O.UNKNOWN)), P.PROCESSING),
    "conflicted": (payment(op(Kind.AUTHORIZE, O.UNKNOWN, conflicted=True)), P.PROCESSING),
    "declined once": (payment(op(Kind.AUTHORIZE, O.DECLINED)), P.REQUIRES_PAYMENT_METHOD),
    "declined too often": (
        payment(op(Kind.AUTHORIZE, O.DECLINED), op(Kind.AUTHORIZE, O.DECLINED, on=2), attempts=2),
        P.FAILED,
    ),
    "never sent, twice": (
        payment(op(Kind.AUTHORIZE, O.NOT_SENT), op(Kind.AUTHORIZE, O.NOT_SENT, on=2), attempts=2),
        P.REQUIRES_PAYMENT_METHOD,
    ),
    "reversed": (payment(op(Kind.AUTHORIZE, O.REVERSED)), P.REQUIRES_PAYMENT_METHOD),
    "authorized": (payment(AUTHORIZED), P.REQUIRES_CAPTURE),
    "being captured": (payment(AUTHORIZED, op(Kind.CAPTURE, O.SENDING)), P.PROCESSING),
    "captured in part": (payment(AUTHORIZED, op(Kind.CAPTURE, O.APPROVED, 400)), P.PARTIALLY_CAPTURED),
    "captured": (payment(AUTHORIZED, op(Kind.CAPTURE, O.APPROVED)), P.SUCCEEDED),
    "captured by file": (payment(AUTHORIZED, op(Kind.CAPTURE, O.RESOLVED_BY_FILE)), P.SUCCEEDED),
    "captured finally": (payment(AUTHORIZED, op(Kind.CAPTURE, O.APPROVED, 1, final=True)), P.SUCCEEDED),
    "capture declined": (payment(AUTHORIZED, op(Kind.CAPTURE, O.DECLINED, final=True)), P.REQUIRES_CAPTURE),
    "being voided": (payment(AUTHORIZED, op(Kind.VOID, O.UNKNOWN)), P.PROCESSING),
    "voided": (payment(AUTHORIZED, op(Kind.VOID, O.APPROVED)), P.CANCELED),
    "rest voided": (
        payment(AUTHORIZED, op(Kind.CAPTURE, O.APPROVED, 400), op(Kind.VOID, O.APPROVED, 600)),
        P.SUCCEEDED,
    ),
    "refund on its way": (
        payment(AUTHORIZED, op(Kind.CAPTURE, O.APPROVED), op(Kind.REFUND, O.SENDING, 10)),
        P.SUCCEEDED,
    ),
    "refund unknown": (
        payment(AUTHORIZED, op(Kind.CAPTURE, O.APPROVED), op(Kind.REFUND, O.UNKNOWN, 10)),
        P.PROCESSING,
    ),
    "older attempt unknown, its reversal queued": (
        payment(
            op(Kind.AUTHORIZE, O.UNKNOWN),
            op(Kind.REVERSAL, O.SENDING),
            op(Kind.AUTHORIZE, O.APPROVED, on=2),
            attempts=2,
        ),
        P.REQUIRES_CAPTURE,
    ),
}


@pytest.mark.parametrize("case", list(CASES))
def test_the_public_status_is_a_function_of_the_operations(case: str) -> None:
    made, status = CASES[case]
    assert made.status is status


def test_every_public_status_of_this_issue_is_among_the_cases() -> None:
    assert {status for _, status in CASES.values()} == set(P) - {P.REQUIRES_ACTION}


def test_an_expired_hold_ends_the_attempt_and_what_was_captured_counts() -> None:
    ended = attempt(expired_at=NOW)
    assert attempt_state(ended, [AUTHORIZED]) is A.EXPIRED
    assert attempt_state(ended, [AUTHORIZED, op(Kind.CAPTURE, O.APPROVED, 400)]) is A.CAPTURED


def test_time_alone_ends_what_no_job_has_ended() -> None:
    held = payment(AUTHORIZED).with_attempt(attempt(hold_expires_at=NOW))
    assert held.status_at(NOW - timedelta(seconds=1)) is P.REQUIRES_CAPTURE
    assert held.status_at(NOW) is P.EXPIRED
    part = held.with_operation(op(Kind.CAPTURE, O.APPROVED, 400))
    assert part.status_at(NOW) is P.SUCCEEDED
    assert payment(attempts=0).status_at(NOW + timedelta(hours=1)) is P.EXPIRED


def test_what_is_sent_counts_as_used() -> None:
    sums = totals([AUTHORIZED, op(Kind.CAPTURE, O.UNKNOWN, 300), op(Kind.VOID, O.SENDING, 200)])
    assert (sums.remaining, sums.captured, sums.voided) == (500, 0, 0)
    assert totals([AUTHORIZED, op(Kind.CAPTURE, O.SENDING, 1, final=True)]).remaining == 0


@given(
    captured=st.lists(st.tuples(st.integers(1, 400), st.sampled_from([O.APPROVED, O.UNKNOWN, O.DECLINED]))),
    tolerance=st.integers(0, 10_000),
)
def test_the_allowance_never_lets_captures_pass_the_tolerance(
    captured: list[tuple[int, OperationState]], tolerance: int
) -> None:
    operations = [AUTHORIZED]
    for amount, state in captured:
        allowed = totals(operations).capturable(tolerance)
        assert allowed >= 0
        operations.append(op(Kind.CAPTURE, state, min(amount, allowed) or 1) if allowed else AUTHORIZED)
        if not allowed:
            operations.pop()
    sums = totals(operations)
    assert sums.captured + sums.capturing <= 1000 + 1000 * tolerance // 10_000


def test_a_change_writes_the_payment_first_and_guards_state_and_version() -> None:
    before = payment(op(Kind.AUTHORIZE, O.SENDING), version=4)
    answered = replace(before.operations[0], state=O.DECLINED, ended_at=NOW)
    written = store.changes(before, replace(before.with_operation(answered), version=5), now=NOW)
    assert {section: len(rows) for section, rows in written.items()} == {
        "payment": 1,
        "attempt": 1,
        "operation": 1,
    }
    (changed,), (attempt,), (operation,) = written["payment"], written["attempt"], written["operation"]
    assert (changed["was_version"], changed["was_status"]) == (4, PaymentStatus.PROCESSING)
    assert attempt["was_state"] is A.AUTHORIZING
    assert operation["was_state"] is O.SENDING
    # Each of them must be there as it was, or nothing is written.
    statement = store.change(written)
    assert (statement.rows, statement.together) == (3, True)


def test_a_change_along_no_edge_cannot_be_written() -> None:
    before = payment(op(Kind.AUTHORIZE, O.DECLINED))
    revived = replace(before.operations[0], state=O.APPROVED)
    with pytest.raises(IllegalTransition):
        store.changes(before, before.with_operation(revived), now=NOW)
