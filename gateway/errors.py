"""Why the gateway refuses: one root, facts as attributes, a stable ``code``; HTTP statuses live in api/.

What a bank answers is never an error here: a decline or an unknown outcome is part of the payment's state.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import ClassVar


class GatewayError(Exception):
    """Root of every error of this package. ``code`` never changes once published."""

    code: ClassVar[str] = "gateway_error"


@dataclass(unsafe_hash=True)
class _Facts(GatewayError):
    """Carries facts as fields and prints them; a field never holds card data."""

    def __str__(self) -> str:
        facts = ", ".join(f"{f.name}={getattr(self, f.name)}" for f in fields(self))
        return f"{self.code}: {facts}" if facts else self.code


@dataclass(unsafe_hash=True)
class Invalid(_Facts):
    """A request that cannot mean anything: the field and what is wrong with it."""

    code: ClassVar[str] = "invalid_request"
    field: str
    reason: str


@dataclass(unsafe_hash=True)
class IdInvalid(_Facts):
    """A text that is not a public id of the kind asked for."""

    code: ClassVar[str] = "id_invalid"
    prefix: str


@dataclass(unsafe_hash=True)
class CardInvalid(_Facts):
    """``field`` is number, expiry or cvv; the value itself is never repeated."""

    code: ClassVar[str] = "card_invalid"
    field: str
    reason: str


@dataclass(unsafe_hash=True)
class CurrencyUnknown(_Facts):
    """Not an ISO 4217 currency, or not one the merchant trades in."""

    code: ClassVar[str] = "currency_unknown"
    currency: str


@dataclass(unsafe_hash=True)
class MerchantNotFound(_Facts):
    code: ClassVar[str] = "merchant_not_found"
    merchant_id: str


@dataclass(unsafe_hash=True)
class PaymentNotFound(_Facts):
    """Missing and another merchant's are one answer."""

    code: ClassVar[str] = "payment_not_found"
    payment_id: str


@dataclass(unsafe_hash=True)
class RefundNotFound(_Facts):
    code: ClassVar[str] = "refund_not_found"
    refund_id: str


@dataclass(unsafe_hash=True)
class TokenNotFound(_Facts):
    """No such card token for this merchant."""

    code: ClassVar[str] = "token_not_found"


@dataclass(unsafe_hash=True)
class VaultTampered(_Facts):
    """A vault row does not authenticate: changed, moved to another merchant, or under another key."""

    code: ClassVar[str] = "vault_tampered"
    key_id: str


@dataclass(unsafe_hash=True)
class KeyUnknown(_Facts):
    """The key provider does not hold the key a row names."""

    code: ClassVar[str] = "key_unknown"
    key_id: str


@dataclass(unsafe_hash=True)
class SessionNotFound(_Facts):
    code: ClassVar[str] = "session_not_found"


@dataclass(unsafe_hash=True)
class SessionExpired(_Facts):
    code: ClassVar[str] = "session_expired"
    expired_at: datetime


@dataclass(unsafe_hash=True)
class IllegalTransition(_Facts):
    """An edge that is in no table: a bug, never a request of a merchant."""

    code: ClassVar[str] = "illegal_transition"
    level: str
    before: str
    after: str


@dataclass(unsafe_hash=True)
class StateConflict(_Facts):
    """The payment is not in a state in which this can be done."""

    code: ClassVar[str] = "state_conflict"
    payment_id: str
    status: str
    action: str


@dataclass(unsafe_hash=True)
class OutcomeUnknown(_Facts):
    """A bank has not answered yet; nothing else may move until it is known."""

    code: ClassVar[str] = "outcome_unknown"
    payment_id: str
    unknown_since: datetime | None
    next_check_at: datetime | None


@dataclass(unsafe_hash=True)
class AuthorizationExpired(_Facts):
    """The hold's own time has passed."""

    code: ClassVar[str] = "authorization_expired"
    payment_id: str
    expired_at: datetime


@dataclass(unsafe_hash=True)
class PaymentExpired(_Facts):
    """Nobody paid in time."""

    code: ClassVar[str] = "payment_expired"
    payment_id: str
    expired_at: datetime


@dataclass(unsafe_hash=True)
class AmountExceeded(_Facts):
    """More asked for than may still be captured, voided or refunded. Minor units."""

    code: ClassVar[str] = "amount_exceeded"
    requested: int
    allowed: int
    currency: str


@dataclass(unsafe_hash=True)
class IdempotencyMismatch(_Facts):
    """The key was used with another body."""

    code: ClassVar[str] = "idempotency_mismatch"
    key: str


@dataclass(unsafe_hash=True)
class IdempotencyInFlight(_Facts):
    """The first request with this key is still running."""

    code: ClassVar[str] = "idempotency_in_flight"
    key: str
    retry_after_s: int


@dataclass(unsafe_hash=True)
class Contended(_Facts):
    """The payment kept changing under our hands; nothing was done, try again."""

    code: ClassVar[str] = "contended"
    payment_id: str


@dataclass(unsafe_hash=True)
class Unbookable(_Facts):
    """The ledger refuses a journal the gateway must book; ``reason`` is the refusal's own code and facts."""

    code: ClassVar[str] = "unbookable"
    payment_id: str
    reason: str


@dataclass(unsafe_hash=True)
class BankUnavailable(_Facts):
    """No rail to this bank is configured in this process."""

    code: ClassVar[str] = "bank_unavailable"
    bank: str
