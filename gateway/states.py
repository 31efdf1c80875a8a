"""The three levels of a payment's state, each with one transition table and one door (payments.md).

A state is never set: it is folded from the operations (``gateway.model``), and ``move`` refuses an edge that
is in no table. The same edge is guarded again in the UPDATE's WHERE (``gateway.store``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final, TypeVar

from gateway.errors import IllegalTransition


class OperationState(StrEnum):
    """One message exchange with a bank."""

    CREATED = "created"
    SENDING = "sending"
    APPROVED = "approved"
    DECLINED = "declined"
    NOT_SENT = "not_sent"
    PENDING = "pending"
    UNKNOWN = "unknown"
    REVERSED = "reversed"
    NOT_FOUND = "not_found"
    RESOLVED_BY_FILE = "resolved_by_file"
    RESOLVED_BY_OPERATOR = "resolved_by_operator"


class AttemptState(StrEnum):
    """One instrument on one bank."""

    STARTED = "started"
    ACTION_REQUIRED = "action_required"
    AUTHORIZING = "authorizing"
    AUTHORIZED = "authorized"
    CAPTURING = "capturing"
    CAPTURED = "captured"
    VOIDING = "voiding"
    VOIDED = "voided"
    DECLINED = "declined"
    REVERSED = "reversed"
    EXPIRED = "expired"
    UNKNOWN = "unknown"
    CONFLICTED = "conflicted"


class PaymentStatus(StrEnum):
    """What a merchant sees."""

    REQUIRES_PAYMENT_METHOD = "requires_payment_method"
    REQUIRES_ACTION = "requires_action"
    PROCESSING = "processing"
    REQUIRES_CAPTURE = "requires_capture"
    PARTIALLY_CAPTURED = "partially_captured"
    SUCCEEDED = "succeeded"
    CANCELED = "canceled"
    EXPIRED = "expired"
    FAILED = "failed"


State = TypeVar("State", OperationState, AttemptState, PaymentStatus)

_O, _A, _P = OperationState, AttemptState, PaymentStatus

OPERATION: Final[Mapping[tuple[OperationState, OperationState], str]] = MappingProxyType(
    {
        (_O.CREATED, _O.SENDING): "sent",
        (_O.SENDING, _O.APPROVED): "approved",
        (_O.SENDING, _O.DECLINED): "declined",
        (_O.SENDING, _O.NOT_SENT): "not_sent",
        (_O.SENDING, _O.PENDING): "accepted_for_later",
        (_O.SENDING, _O.UNKNOWN): "unanswered",
        (_O.PENDING, _O.APPROVED): "approved",
        (_O.PENDING, _O.DECLINED): "declined",
        (_O.PENDING, _O.REVERSED): "reversed",
        (_O.PENDING, _O.NOT_FOUND): "not_found",
        (_O.PENDING, _O.RESOLVED_BY_FILE): "resolved_by_file",
        (_O.PENDING, _O.RESOLVED_BY_OPERATOR): "resolved_by_operator",
        (_O.UNKNOWN, _O.APPROVED): "approved",
        (_O.UNKNOWN, _O.DECLINED): "declined",
        (_O.UNKNOWN, _O.REVERSED): "reversed",
        (_O.UNKNOWN, _O.NOT_FOUND): "not_found",
        (_O.UNKNOWN, _O.RESOLVED_BY_FILE): "resolved_by_file",
        (_O.UNKNOWN, _O.RESOLVED_BY_OPERATOR): "resolved_by_operator",
    }
)

ATTEMPT: Final[Mapping[tuple[AttemptState, AttemptState], str]] = MappingProxyType(
    {
        (_A.STARTED, _A.ACTION_REQUIRED): "action_asked",
        (_A.STARTED, _A.AUTHORIZING): "authorization_sent",
        (_A.ACTION_REQUIRED, _A.AUTHORIZING): "action_taken",
        (_A.ACTION_REQUIRED, _A.DECLINED): "action_refused",
        (_A.ACTION_REQUIRED, _A.EXPIRED): "action_expired",
        (_A.AUTHORIZING, _A.AUTHORIZED): "authorized",
        (_A.AUTHORIZING, _A.CAPTURING): "authorized_and_capture_sent",
        (_A.AUTHORIZING, _A.DECLINED): "declined",
        (_A.AUTHORIZING, _A.UNKNOWN): "unanswered",
        (_A.AUTHORIZING, _A.CONFLICTED): "answered_for_another_amount",
        (_A.UNKNOWN, _A.AUTHORIZED): "late_authorization",
        (_A.UNKNOWN, _A.DECLINED): "declined",
        (_A.UNKNOWN, _A.REVERSED): "reversed",
        (_A.CONFLICTED, _A.REVERSED): "reversed",
        (_A.DECLINED, _A.AUTHORIZED): "late_authorization",
        (_A.AUTHORIZED, _A.CAPTURING): "capture_sent",
        (_A.AUTHORIZED, _A.VOIDING): "void_sent",
        (_A.AUTHORIZED, _A.EXPIRED): "hold_expired",
        (_A.AUTHORIZED, _A.CAPTURED): "rest_expired",
        (_A.CAPTURING, _A.AUTHORIZED): "captured_in_part_or_declined",
        (_A.CAPTURING, _A.CAPTURED): "captured",
        (_A.VOIDING, _A.AUTHORIZED): "voided_in_part_or_declined",
        (_A.VOIDING, _A.VOIDED): "voided",
        (_A.VOIDING, _A.CAPTURED): "rest_voided",
        (_A.VOIDING, _A.EXPIRED): "hold_expired",
    }
)

PAYMENT: Final[Mapping[tuple[PaymentStatus, PaymentStatus], str]] = MappingProxyType(
    {
        (_P.REQUIRES_PAYMENT_METHOD, _P.REQUIRES_ACTION): "action_asked",
        (_P.REQUIRES_PAYMENT_METHOD, _P.PROCESSING): "confirmed",
        (_P.REQUIRES_PAYMENT_METHOD, _P.CANCELED): "canceled",
        (_P.REQUIRES_PAYMENT_METHOD, _P.EXPIRED): "expired",
        (_P.REQUIRES_ACTION, _P.PROCESSING): "action_taken",
        (_P.REQUIRES_ACTION, _P.REQUIRES_PAYMENT_METHOD): "action_refused",
        (_P.REQUIRES_ACTION, _P.CANCELED): "canceled",
        (_P.REQUIRES_ACTION, _P.EXPIRED): "expired",
        (_P.PROCESSING, _P.REQUIRES_PAYMENT_METHOD): "attempt_ended",
        (_P.PROCESSING, _P.REQUIRES_CAPTURE): "authorized",
        (_P.PROCESSING, _P.PARTIALLY_CAPTURED): "captured_in_part",
        (_P.PROCESSING, _P.SUCCEEDED): "captured",
        (_P.PROCESSING, _P.CANCELED): "voided",
        (_P.PROCESSING, _P.EXPIRED): "hold_expired",
        (_P.PROCESSING, _P.FAILED): "attempts_exhausted",
        (_P.REQUIRES_CAPTURE, _P.PROCESSING): "capture_or_void_sent",
        (_P.REQUIRES_CAPTURE, _P.EXPIRED): "hold_expired",
        (_P.PARTIALLY_CAPTURED, _P.PROCESSING): "capture_void_or_refund_unanswered",
        (_P.PARTIALLY_CAPTURED, _P.SUCCEEDED): "rest_expired",
        (_P.SUCCEEDED, _P.PROCESSING): "refund_unanswered",
        (_P.FAILED, _P.REQUIRES_CAPTURE): "late_authorization",
    }
)

TABLES: Final[Mapping[str, Mapping[tuple[str, str], str]]] = MappingProxyType(
    {"operation": OPERATION, "attempt": ATTEMPT, "payment": PAYMENT}  # type: ignore[dict-item]
)
INITIAL: Final = MappingProxyType(
    {"operation": _O.CREATED, "attempt": _A.STARTED, "payment": _P.REQUIRES_PAYMENT_METHOD}
)

OPEN = frozenset({_O.CREATED, _O.SENDING, _O.PENDING, _O.UNKNOWN})
"""The bank may still do it: the amount counts as used."""
DONE = frozenset({_O.APPROVED, _O.RESOLVED_BY_FILE, _O.RESOLVED_BY_OPERATOR})
"""The bank has done it."""
REFUSED = frozenset({_O.DECLINED, _O.NOT_SENT, _O.REVERSED, _O.NOT_FOUND})
"""The bank has not done it, or has undone it."""


def move(before: State, after: State) -> str | None:
    """The event of this edge; None if nothing changes; ``IllegalTransition`` if no table has it."""
    if before is after:
        return None
    match before:
        case OperationState():
            level, event = "operation", OPERATION.get((before, after))  # type: ignore[arg-type]
        case AttemptState():
            level, event = "attempt", ATTEMPT.get((before, after))  # type: ignore[arg-type]
        case PaymentStatus():
            level, event = "payment", PAYMENT.get((before, after))  # type: ignore[arg-type]
    if event is None:
        raise IllegalTransition(level, before, after)
    return event


def states(level: str) -> Iterator[str]:
    """Every state of a level, those without an edge included."""
    yield from {"operation": OperationState, "attempt": AttemptState, "payment": PaymentStatus}[level]


def as_text(level: str) -> str:
    """One edge a line, for ``khata states``."""
    table = TABLES[level]
    width = max(len(before) for before, _ in table)
    return "\n".join(f"{before:<{width}} -> {after}: {event}" for (before, after), event in table.items())


def as_mermaid(level: str) -> str:
    """A Mermaid state diagram of the level's table."""
    lines = ["stateDiagram-v2", f"    [*] --> {INITIAL[level]}"]
    lines += [f"    {before} --> {after}: {event}" for (before, after), event in TABLES[level].items()]
    leaving = {before for before, _ in TABLES[level]}
    lines += [f"    {state} --> [*]" for state in states(level) if state not in leaving]
    return "\n".join(lines)
