"""A payment with its attempts and operations, as facts; every state and amount is folded from them.

Frozen values. Amounts are integers in minor units of the payment's one currency.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from types import MappingProxyType
from typing import Any, TypeVar
from uuid import UUID

from banks.references import BankReference
from gateway import ids
from gateway.fees import BPS, FREE, Charge, FeePlan
from gateway.states import DONE, OPEN, REFUSED, AttemptState, OperationState, PaymentStatus

_NO_METADATA: Mapping[str, str] = MappingProxyType({})
_OPEN, _DONE = tuple(OPEN), tuple(DONE)  # looked through, they take a fraction of what hashing a state does


class Kind(StrEnum):
    """What an operation asks of a bank."""

    AUTHORIZE = "authorize"
    SALE = "sale"
    INCREMENT = "increment"
    CAPTURE = "capture"
    VOID = "void"
    REVERSAL = "reversal"
    REFUND = "refund"
    ENQUIRY = "enquiry"


class CaptureMethod(StrEnum):
    AUTOMATIC = "automatic"
    MANUAL = "manual"


class Ended(StrEnum):
    """Why a payment that nobody has paid takes no more attempts."""

    CANCELED = "canceled"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Operation:
    """One message exchange with a bank; ``reference`` is what the bank knows it by.

    ``target_id``: the operation it acts on (a capture's or reversal's authorization, a refund's capture).
    ``final``: a capture that frees the rest. ``charge``: fee and GST taken (capture) or given back (refund).
    ``conflicted``: the bank answered for another amount. ``review``: a person must look.
    """

    id: UUID
    attempt_id: UUID
    kind: Kind
    reference: BankReference
    amount: int
    state: OperationState
    created_at: datetime
    target_id: UUID | None = None
    final: bool = False
    authorization_code: str | None = None
    response_code: str | None = None
    reason: str | None = None
    retryable: bool = False
    conflicted: bool = False
    charge: Charge = FREE
    tries: int = 1
    unknown_since: datetime | None = None
    next_check_at: datetime | None = None
    review: bool = False
    ended_at: datetime | None = None

    @property
    def public_id(self) -> str:
        return ids.public(ids.OPERATION, self.id)

    @property
    def open(self) -> bool:
        return self.state in _OPEN

    @property
    def done(self) -> bool:
        return self.state in _DONE


@dataclass(frozen=True, slots=True)
class Attempt:
    """One card on one bank. Its id is also the id of its hold in the ledger.

    ``token``: the card in the vault. ``hold_expires_at``: when the hold frees itself, known once authorized;
    ``expired_at``: when that was booked.
    """

    id: UUID
    number: int
    bank: str
    method: str
    token: str
    brand: str
    last4: str
    created_at: datetime
    hold_expires_at: datetime | None = None
    expired_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Fund:
    """What a capture left in the merchant's Pending account: ``net``, of which refunds have ``taken`` some."""

    operation_id: UUID
    net: int
    taken: int
    release_id: UUID | None = None

    @property
    def left(self) -> int:
        """Still in Pending; nothing once it was released to Available."""
        return 0 if self.release_id else self.net - self.taken


@dataclass(frozen=True, slots=True)
class Totals:
    """What an attempt's operations sum to. The ``-ing`` amounts are not answered yet: they count as used."""

    authorized: int = 0
    capturing: int = 0
    captured: int = 0
    voiding: int = 0
    voided: int = 0
    refunding: int = 0
    refunded: int = 0
    final: bool = False
    charge: Charge = FREE
    charge_returned: Charge = FREE

    @property
    def remaining(self) -> int:
        """Authorized and neither taken nor given back nor about to be."""
        if self.final:
            return 0
        return max(0, self.authorized - self.captured - self.capturing - self.voided - self.voiding)

    @property
    def refundable(self) -> int:
        return self.captured - self.refunded - self.refunding

    def capturable(self, tolerance_bps: int) -> int:
        """The most a capture may ask for: what is left and, while something is, the tolerance agreed on."""
        if not self.remaining:
            return 0
        kept = self.authorized - self.voided - self.voiding
        return kept + kept * tolerance_bps // BPS - self.captured - self.capturing


# What an operation's amount counts as: while the bank may yet do it, and when it has.
_COUNTS_AS: Mapping[Kind, tuple[str | None, str]] = {
    Kind.AUTHORIZE: (None, "authorized"),
    Kind.SALE: (None, "authorized"),
    Kind.INCREMENT: (None, "authorized"),
    Kind.CAPTURE: ("capturing", "captured"),
    Kind.VOID: ("voiding", "voided"),
    Kind.REFUND: ("refunding", "refunded"),
}


def totals(operations: Iterable[Operation]) -> Totals:
    """Fold the operations of one attempt."""
    sums: dict[str, int] = {}
    final, charged, returned = False, FREE, FREE
    for op in operations:
        going, gone = _COUNTS_AS.get(op.kind, (None, None))
        name = gone if op.done else going if op.open else None
        if name is not None:
            sums[name] = sums.get(name, 0) + op.amount
        if op.kind is Kind.CAPTURE:
            final = final or (op.final and op.state not in REFUSED)
            charged += op.charge
        elif op.kind is Kind.REFUND:
            returned += op.charge
    return Totals(**sums, final=final, charge=charged, charge_returned=returned)


_BEFORE_AUTHORIZED = {
    OperationState.CREATED: AttemptState.AUTHORIZING,
    OperationState.SENDING: AttemptState.AUTHORIZING,
    OperationState.PENDING: AttemptState.AUTHORIZING,
    OperationState.UNKNOWN: AttemptState.UNKNOWN,
    OperationState.DECLINED: AttemptState.DECLINED,
    OperationState.NOT_SENT: AttemptState.DECLINED,
    OperationState.REVERSED: AttemptState.REVERSED,
    OperationState.NOT_FOUND: AttemptState.REVERSED,
}


def attempt_state(attempt: Attempt, operations: Iterable[Operation]) -> AttemptState:
    """The state of an attempt: a pure function of its operations and of the time its hold was booked out."""
    own = [op for op in operations if op.attempt_id == attempt.id]
    first = next((op for op in own if op.kind in (Kind.AUTHORIZE, Kind.SALE)), None)
    if first is None:
        return AttemptState.STARTED
    if not first.done:
        conflicted = first.state is OperationState.UNKNOWN and first.conflicted
        return AttemptState.CONFLICTED if conflicted else _BEFORE_AUTHORIZED[first.state]
    sums = totals(own)
    if any(op.open and op.kind is Kind.VOID for op in own):
        return AttemptState.VOIDING
    if any(op.open and op.kind is Kind.CAPTURE for op in own):
        return AttemptState.CAPTURING
    if attempt.expired_at is None and sums.remaining:
        return AttemptState.AUTHORIZED
    if sums.captured:
        return AttemptState.CAPTURED
    return AttemptState.EXPIRED if sums.remaining else AttemptState.VOIDED


@dataclass(frozen=True)
class Payment:
    """What a merchant asks to be paid. ``book_id``, ``plan``, ``fee_returned``, ``tolerance_bps`` are as
    agreed when it was made. ``max_attempts``: how often a customer may try; ``expires_at``: until when;
    ``hold_valid_s``: how long an authorization holds.

    ``version`` counts its changes and guards each (``gateway.store``). What is folded from the operations is folded
    once: a payment never changes, another takes its place.
    """

    id: UUID
    merchant_id: UUID
    book_id: int
    amount: int
    currency: str
    capture_method: CaptureMethod
    plan: FeePlan
    created_at: datetime
    expires_at: datetime
    method: str = "card"
    fee_returned: bool = False
    tolerance_bps: int = 0
    max_attempts: int = 5
    hold_valid_s: int = 604_800
    reference: str = ""
    description: str = ""
    metadata: Mapping[str, str] = field(default_factory=lambda: _NO_METADATA)
    ended: Ended | None = None
    version: int = 0
    attempts: tuple[Attempt, ...] = ()
    operations: tuple[Operation, ...] = ()
    funds: tuple[Fund, ...] = ()

    @cached_property
    def public_id(self) -> str:
        return ids.public(ids.PAYMENT, self.id)

    @cached_property
    def owner(self) -> str:
        """The merchant's public id: the word in account paths and the owner of its accounts."""
        return ids.public(ids.MERCHANT, self.merchant_id)

    @cached_property
    def current(self) -> Attempt | None:
        """The attempt that counts: the last. An older one is over, or its reversal is durably queued."""
        return self.attempts[-1] if self.attempts else None

    def of(self, attempt: Attempt) -> Iterator[Operation]:
        return (op for op in self.operations if op.attempt_id == attempt.id)

    @cached_property
    def totals(self) -> Totals:
        return totals(self.of(self.current)) if self.current else Totals()

    @cached_property
    def attempt_state(self) -> AttemptState | None:
        return attempt_state(self.current, self.operations) if self.current else None

    def state_of(self, attempt: Attempt) -> AttemptState:
        """The state of any of its attempts."""
        if attempt is self.current and self.attempt_state is not None:
            return self.attempt_state
        return attempt_state(attempt, self.operations)

    @cached_property
    def authorization(self) -> Operation | None:
        """The authorization of the current attempt, whatever became of it."""
        if self.current is None:
            return None
        return next((op for op in self.of(self.current) if op.kind is Kind.AUTHORIZE), None)

    @cached_property
    def status(self) -> PaymentStatus:
        return payment_status(self)

    def status_at(self, now: datetime) -> PaymentStatus:
        """The status with what time alone has ended, also when no job has run yet."""
        status, hold_ends = self.status, self.current and self.current.hold_expires_at
        if hold_ends and hold_ends <= now:
            if status is PaymentStatus.REQUIRES_CAPTURE:
                return PaymentStatus.EXPIRED
            if status is PaymentStatus.PARTIALLY_CAPTURED:
                return PaymentStatus.SUCCEEDED
        waiting = status in (PaymentStatus.REQUIRES_PAYMENT_METHOD, PaymentStatus.REQUIRES_ACTION)
        return PaymentStatus.EXPIRED if waiting and self.expires_at <= now else status

    @cached_property
    def unknown(self) -> tuple[Operation, ...]:
        """The operations without a known outcome that stop everything else."""
        if self.current is None:
            return ()
        unknown = [op for op in self.operations if op.state is OperationState.UNKNOWN]
        return tuple(
            op for op in unknown if op.kind is not Kind.REVERSAL and op.attempt_id == self.current.id
        )

    @property
    def outcome(self) -> str | None:
        return "unknown" if self.unknown else None

    @property
    def unknown_since(self) -> datetime | None:
        if not self.unknown:
            return None
        return min((op.unknown_since for op in self.unknown if op.unknown_since), default=None)

    @property
    def next_check_at(self) -> datetime | None:
        """When the earliest check is due: of an operation without a known outcome, or of its reversal."""
        if self.current is None or not self.unknown:
            return None
        return min((op.next_check_at for op in self.of(self.current) if op.next_check_at), default=None)

    @property
    def last_refusal(self) -> Operation | None:
        """The latest operation, if the bank refused it or it could not be sent."""
        last = max(self.operations, key=lambda op: op.id, default=None)
        refused = last is not None and last.state in (OperationState.DECLINED, OperationState.NOT_SENT)
        return last if refused else None

    @property
    def attempts_used(self) -> int:
        """Attempts whose authorization reached, or may have reached, a bank."""
        return sum(
            op.kind in (Kind.AUTHORIZE, Kind.SALE) and op.state is not OperationState.NOT_SENT
            for op in self.operations
        )

    def operation(self, id: UUID) -> Operation:
        return next(op for op in self.operations if op.id == id)

    def with_operation(self, *given: Operation, attempt: Attempt | None = None) -> Payment:
        """The payment with each of ``given`` (and ``attempt``) added, or put in the place of the one with its id."""
        operations = self.operations
        for op in given:
            operations = _with(operations, op)
        attempts = self.attempts if attempt is None else _with(self.attempts, attempt)
        return self.altered(operations=operations, attempts=attempts)

    def with_attempt(self, attempt: Attempt) -> Payment:
        return self.altered(attempts=_with(self.attempts, attempt))

    def altered(self, **facts: Any) -> Payment:
        """As ``dataclasses.replace`` does it, in a fraction of its time: nothing is checked when one is made."""
        made, mine = object.__new__(Payment), self.__dict__
        made.__dict__.update({name: mine[name] for name in _FACTS}, **facts)
        return made


_FACTS = tuple(f.name for f in fields(Payment))
Part = TypeVar("Part", Attempt, Operation)


def _with(parts: tuple[Part, ...], part: Part) -> tuple[Part, ...]:
    if any(p.id == part.id for p in parts):
        return tuple(part if p.id == part.id else p for p in parts)
    return (*parts, part)


_IN_FLIGHT = (
    AttemptState.AUTHORIZING,
    AttemptState.UNKNOWN,
    AttemptState.CONFLICTED,
    AttemptState.CAPTURING,
    AttemptState.VOIDING,
)
_BY_ATTEMPT = {
    AttemptState.ACTION_REQUIRED: PaymentStatus.REQUIRES_ACTION,
    AttemptState.CAPTURED: PaymentStatus.SUCCEEDED,
    AttemptState.VOIDED: PaymentStatus.CANCELED,
    AttemptState.EXPIRED: PaymentStatus.EXPIRED,
}


def payment_status(payment: Payment) -> PaymentStatus:
    """The public status: a pure function of the operations (payments.md, "Three levels")."""
    state = payment.attempt_state
    if state in _IN_FLIGHT or payment.unknown:
        return PaymentStatus.PROCESSING
    if state is AttemptState.AUTHORIZED:
        part = payment.totals.captured > 0
        return PaymentStatus.PARTIALLY_CAPTURED if part else PaymentStatus.REQUIRES_CAPTURE
    if state is not None and state in _BY_ATTEMPT:
        return _BY_ATTEMPT[state]
    if payment.ended is not None:
        return PaymentStatus(payment.ended)
    if payment.attempts_used >= payment.max_attempts:
        return PaymentStatus.FAILED
    return PaymentStatus.REQUIRES_PAYMENT_METHOD


@dataclass(frozen=True, slots=True)
class Refund:
    """Money going back to the customer. Where it was taken from: ``from_pending`` (funds not yet payable),
    ``from_available``, ``from_debt`` (the merchant owes it to us). Its operation carries amount and state.
    """

    id: UUID
    payment_id: UUID
    merchant_id: UUID
    currency: str
    operation: Operation
    reason: str
    from_pending: int
    from_available: int
    from_debt: int
    created_at: datetime

    @property
    def public_id(self) -> str:
        return ids.public(ids.REFUND, self.id)

    @property
    def amount(self) -> int:
        return self.operation.amount

    @property
    def status(self) -> str:
        """pending, succeeded or failed."""
        if self.operation.open:
            return "pending"
        return "succeeded" if self.operation.done else "failed"

    @property
    def outcome(self) -> str | None:
        return "unknown" if self.operation.state is OperationState.UNKNOWN else None
