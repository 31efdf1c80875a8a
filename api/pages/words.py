"""States, refusals and entries in plain words. A colour only repeats what the words say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from gateway.model import Kind, Operation
from gateway.states import OperationState, PaymentStatus


@dataclass(frozen=True, slots=True)
class Word:
    """``tone``: good, wait, bad or empty."""

    text: str
    tone: str = ""


STATUS: Mapping[PaymentStatus, Word] = MappingProxyType(
    {
        PaymentStatus.REQUIRES_PAYMENT_METHOD: Word("Waiting for a card"),
        PaymentStatus.REQUIRES_ACTION: Word("Waiting for the customer", "wait"),
        PaymentStatus.PROCESSING: Word("In progress", "wait"),
        PaymentStatus.REQUIRES_CAPTURE: Word("Authorized", "wait"),
        PaymentStatus.PARTIALLY_CAPTURED: Word("Partly captured", "good"),
        PaymentStatus.SUCCEEDED: Word("Paid", "good"),
        PaymentStatus.CANCELED: Word("Canceled"),
        PaymentStatus.EXPIRED: Word("Expired"),
        PaymentStatus.FAILED: Word("Failed", "bad"),
    }
)
UNKNOWN = Word("No answer yet", "wait")

OUTCOME: Mapping[OperationState, Word] = MappingProxyType(
    {
        OperationState.CREATED: Word("Not sent yet"),
        OperationState.SENDING: Word("Sent", "wait"),
        OperationState.PENDING: Word("Accepted for later", "wait"),
        OperationState.APPROVED: Word("Approved", "good"),
        OperationState.DECLINED: Word("Declined", "bad"),
        OperationState.NOT_SENT: Word("Could not be sent", "bad"),
        OperationState.UNKNOWN: Word("No answer", "wait"),
        OperationState.REVERSED: Word("Reversed"),
        OperationState.NOT_FOUND: Word("Unknown to the bank"),
        OperationState.RESOLVED_BY_FILE: Word("Proved by settlement", "good"),
        OperationState.RESOLVED_BY_OPERATOR: Word("Settled by hand", "good"),
    }
)

OPERATION: Mapping[Kind, str] = MappingProxyType(
    {
        Kind.AUTHORIZE: "Authorization",
        Kind.SALE: "Sale",
        Kind.INCREMENT: "Increase",
        Kind.CAPTURE: "Capture",
        Kind.VOID: "Void",
        Kind.REVERSAL: "Reversal",
        Kind.REFUND: "Refund",
        Kind.ENQUIRY: "Enquiry",
    }
)

_JOURNAL: Mapping[str, str] = MappingProxyType(
    {
        "authorization": "Card authorized",
        "capture": "Payment captured",
        "void": "Authorization voided",
        "expiry": "Authorization expired",
        "refund": "Refund sent",
        "refund_completion": "Refund paid by the bank",
        "refund_failure": "Refund failed",
        "funds_release": "Funds made available",
        "settlement": "Bank settled",
    }
)


def journal(kind: str) -> str:
    """What a journal of this kind books, as a heading."""
    return _JOURNAL.get(kind, kind.replace("_", " ").capitalize())


@dataclass(frozen=True, slots=True)
class Refusal:
    """What happened, and what the customer can do."""

    text: str
    advice: str


# ISO 8583 field 39. What would help a thief (lost, stolen, pick up) is said like any refusal without a reason.
_DECLINED = Refusal(
    "Your bank declined this card.",
    "It gave no reason. Try another card, or ask the bank that gave you this one.",
)
_REASONS: Mapping[str, Refusal] = MappingProxyType(
    {
        "14": Refusal("Your bank does not know this card number.", "Check the number, or try another card."),
        "51": Refusal("There is not enough money on this card.", "Try another card."),
        "54": Refusal("This card has expired.", "Check the date, or try another card."),
        "57": Refusal("This card cannot be used for this payment.", "Try another card."),
        "61": Refusal(
            "This payment is above the card's limit.", "Try another card, or ask your bank to raise it."
        ),
        "65": Refusal("This card has been used too often today.", "Try another card."),
        "82": Refusal("The security code is wrong.", "Check the code on the card, and try again."),
        "91": Refusal("Your bank cannot be reached just now.", "Try again in a minute, or use another card."),
        "96": Refusal("Your bank cannot answer just now.", "Try again in a minute, or use another card."),
        "N7": Refusal("The security code is wrong.", "Check the code on the card, and try again."),
    }
)
_NOT_SENT = Refusal("We could not reach the bank.", "Your card was not charged. Try again in a moment.")


def refusal(operation: Operation) -> Refusal:
    """For the customer whose card was refused."""
    if operation.state is OperationState.NOT_SENT:
        return _NOT_SENT
    return _REASONS.get(operation.response_code or "", _DECLINED)


def payment_status(status: PaymentStatus, *, unknown: bool) -> Word:
    return UNKNOWN if unknown else STATUS[status]


_BRANDS = {
    "visa": "Visa",
    "mastercard": "Mastercard",
    "rupay": "RuPay",
    "amex": "American Express",
    "diners": "Diners Club",
    "jcb": "JCB",
    "maestro": "Maestro",
}


def card(brand: str, last4: str) -> str:
    return f"{_BRANDS.get(brand, 'Card')} ending {last4}"
