"""What came of a message to a bank: values, never exceptions (payments.md, "Operation").

Only ``NotSent`` and declines marked ``retryable`` may be tried at another bank. ``Unknown`` is settled by a
reversal (authorization), a repeat (capture, refund), an enquiry or the settlement file, never by guessing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from banks.references import BankReference


class NotSentReason(StrEnum):
    """Why no byte was written."""

    DISCONNECTED = "not connected and signed on"
    QUEUE_FULL = "too many messages in flight"
    CLOSED = "the rail has been closed"
    UNSENDABLE = "the request does not fit the message specification"


class UnknownReason(StrEnum):
    """Why the outcome cannot be told although a byte may have been written."""

    TIMED_OUT = "no answer in time"
    UNANSWERED = "an earlier message with this reference is still unanswered"
    CONNECTION_LOST = "the connection was lost"
    UNREADABLE = "the answer was unreadable"
    DUPLICATE = "the bank has had this reference before and does not say what became of it"
    MISMATCHED = "the answer does not belong to the request"
    AMOUNT_MISMATCH = "amount mismatch"


@dataclass(frozen=True, slots=True)
class Approved:
    """The bank did it. ``amount`` in minor units of ``currency``, as the bank repeated them."""

    reference: BankReference
    amount: int
    currency: str
    authorization_code: str | None
    response_code: str


@dataclass(frozen=True, slots=True)
class Declined:
    """The bank refused, for good. ``retryable``: another bank may be asked."""

    reference: BankReference
    response_code: str
    reason: str
    retryable: bool


@dataclass(frozen=True, slots=True)
class NotSent:
    """No byte was written; the bank cannot know of it."""

    reference: BankReference
    reason: NotSentReason


@dataclass(frozen=True, slots=True)
class Unknown:
    """A byte may have been written and nothing certain came back."""

    reference: BankReference
    reason: UnknownReason

    @property
    def conflicted(self) -> bool:
        """The bank answered for another amount or currency (payments.md): a person must look."""
        return self.reason is UnknownReason.AMOUNT_MISMATCH


Outcome = Approved | Declined | NotSent | Unknown
