"""What a message asks the acquirer to do, read strictly from its fields; and the answer to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from banks.card.codec import Message
from banks.card.elements import (
    Original,
    currency_code,
    unpack_additional,
    unpack_original,
    unpack_replacement,
)
from banks.card.spec import PURCHASE, REFUND, TAG_FINAL, TAG_TOLERANCE, mask_pan, response_to
from banks.errors import MalformedMessage

_MOST_TOLERANCE_BPS = 10_000
_ECHOED = (3, 4, 7, 11, 25, 32, 37, 41, 42, 49)


class Kind(StrEnum):
    AUTHORIZATION = "authorization"
    CAPTURE = "capture"
    REVERSAL = "reversal"
    REFUND = "refund"


_BY_TYPE = {
    "0100": (Kind.AUTHORIZATION, PURCHASE),
    "0220": (Kind.CAPTURE, PURCHASE),
    "0221": (Kind.CAPTURE, PURCHASE),
    "0420": (Kind.REVERSAL, PURCHASE),
    "0421": (Kind.REVERSAL, PURCHASE),
    "0200": (Kind.REFUND, REFUND),
}
ORIGINAL_KINDS = {"0100": Kind.AUTHORIZATION, "0220": Kind.CAPTURE, "0200": Kind.REFUND}


@dataclass(frozen=True, slots=True)
class Request:
    """``amount`` and ``replacement`` in minor units; ``original`` as field 90 names it.

    The same (``stan``, ``rrn``, ``transmission``) is the same request, however often it comes.
    """

    kind: Kind
    stan: str
    rrn: str
    transmission: str
    amount: int
    currency: str
    original: Original | None
    replacement: int | None
    final: bool
    authorization_code: str | None
    expiry: str | None
    terminal: str
    merchant: str
    tolerance_bps: int = 0
    pan: str | None = field(default=None, repr=False)

    @property
    def key(self) -> tuple[str, str, str]:
        return self.stan, self.rrn, self.transmission

    @property
    def card(self) -> str | None:
        """The card number as the book may hold it."""
        return mask_pan(self.pan) if self.pan else None


def read_request(message: Message) -> Request:
    """Raises ``MalformedMessage`` on a message that asks for nothing this acquirer does."""
    kind, processing = _BY_TYPE.get(message.mti, (None, None))
    if kind is None:
        raise MalformedMessage("t", "not a request of this acquirer")
    if message.need(3) != processing:
        raise MalformedMessage("3", "does not go with the message type")
    original, replacement = message.get(90), message.get(95)
    additional = unpack_additional(message.get(48) or "")
    return Request(
        kind=kind,
        stan=message.need(11),
        rrn=message.need(37),
        transmission=message.need(7),
        amount=int(message.need(4)),
        currency=currency_code(message.need(49)),
        original=unpack_original(original) if original else None,
        replacement=unpack_replacement(replacement) if replacement else None,
        final=additional.get(TAG_FINAL) == "1",
        authorization_code=message.get(38),
        expiry=message.get(14),
        terminal=(message.get(41) or "").strip(),
        merchant=(message.get(42) or "").strip(),
        tolerance_bps=_tolerance(additional.get(TAG_TOLERANCE, "0")),
        pan=message.get(2),
    )


def _tolerance(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= _MOST_TOLERANCE_BPS):
        raise MalformedMessage("48", "a tolerance is at most 10000, in 1/10000")
    return int(text)


def answer_to(message: Message, *, code: str, authorization_code: str | None) -> Message:
    """The answer: what identifies the request is repeated, fields 38 and 39 are added."""
    fields = {number: message.fields[number] for number in _ECHOED if number in message.fields}
    fields[39] = code
    if authorization_code is not None:
        fields[38] = authorization_code
    return Message(response_to(message.mti), fields)
