"""Card payments at one acquirer: what the gateway asks for, as ISO 8583 messages, and what came of it.

Every method takes the reference under which the caller has committed the operation, and answers with an
``Outcome``; none raises for anything a bank or a network does. Amounts are in minor units, currencies are
ISO 4217 letters. Card numbers and CVVs go into the message and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Self

from banks.card import spec
from banks.card.codec import Message
from banks.card.connection import Connection, Endpoint
from banks.card.correlation import Answer, Counters
from banks.card.elements import (
    Original,
    amount_text,
    currency_number,
    pack_additional,
    pack_replacement,
)
from banks.errors import MalformedMessage
from banks.outcomes import (
    Approved,
    Declined,
    NotSent,
    NotSentReason,
    Outcome,
    Unknown,
    UnknownReason,
)
from banks.references import BankReference
from ledger.points import RAIL_ANSWERED, RAIL_SENDING, reach

_ECOMMERCE_ENTRY, _ECOMMERCE_CONDITION = "810", "59"


class CardRail:
    """One persistent connection to ``bank``, many requests in flight: ``async with CardRail(…) as rail``.

    ``acquirer``: the institution's identification code (field 32), up to eleven digits.

    A repeat is the same call with the same reference and ``repeat=True``: the bank does it once and answers
    again. ``NotSent`` of a repeat says nothing about the messages before it.
    """

    def __init__(
        self,
        bank: str,
        endpoint: Endpoint,
        *,
        acquirer: str,
        clock: Callable[[], datetime],
        random: Callable[[], float],
    ) -> None:
        self.bank = bank
        self._acquirer = acquirer
        self._connection = Connection(endpoint, clock=clock, random=random)

    async def __aenter__(self) -> Self:
        await self._connection.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._connection.close()

    @property
    def ready(self) -> bool:
        """Connected and signed on."""
        return self._connection.ready

    @property
    def counters(self) -> Counters:
        return self._connection.counters

    async def authorize(
        self,
        ref: BankReference,
        *,
        amount: int,
        currency: str,
        pan: str,
        expiry: str,
        cvv: str | None,
        merchant_id: str,
        terminal_id: str,
        tolerance_bps: int = 0,
    ) -> Outcome:
        """0100: ask the issuer to hold ``amount``. ``expiry`` as YYMM.

        ``merchant_id`` and ``terminal_id``: the acquirer's names for them, up to 15 and 8 characters.
        ``tolerance_bps``: how far captures may exceed ``amount``, in 1/10000; the bank agrees by approving.
        """
        fields = {
            2: pan,
            3: spec.PURCHASE,
            14: expiry,
            22: _ECOMMERCE_ENTRY,
            41: f"{terminal_id:<8}",
            42: f"{merchant_id:<15}",
        }
        additional = {} if cvv is None else {spec.TAG_CVV: cvv}
        if tolerance_bps:
            additional[spec.TAG_TOLERANCE] = str(tolerance_bps)
        return await self._request("0100", ref, amount, currency, fields, additional=additional)

    async def capture(
        self,
        ref: BankReference,
        *,
        amount: int,
        currency: str,
        original: BankReference,
        authorization_code: str | None,
        final: bool,
        repeat: bool = False,
    ) -> Outcome:
        """0220: book ``amount`` of the authorization sent as ``original``; ``final`` frees the rest."""
        fields = {3: spec.PURCHASE, 90: self._original("0100", original)}
        if authorization_code is not None:
            fields[38] = authorization_code
        mti = "0221" if repeat else "0220"
        additional = {spec.TAG_FINAL: "1" if final else "0"}
        return await self._request(mti, ref, amount, currency, fields, additional=additional)

    async def reverse(
        self,
        ref: BankReference,
        *,
        original: BankReference,
        original_mti: str,
        amount: int,
        currency: str,
        replacement: int | None = None,
        repeat: bool = False,
    ) -> Outcome:
        """0420: the message sent as ``original`` shall not stand, whether or not the bank ever saw it.

        ``amount``: what ``original`` asked for. ``replacement``: how much of it stays authorized in all,
        captured amounts included (a void in part); None for nothing.
        """
        fields = {3: spec.PURCHASE, 90: self._original(original_mti, original)}
        mti = "0421" if repeat else "0420"
        return await self._request(mti, ref, amount, currency, fields, replacement=replacement)

    async def refund(
        self,
        ref: BankReference,
        *,
        amount: int,
        currency: str,
        original: BankReference | None,
        pan: str | None = None,
        expiry: str | None = None,
    ) -> Outcome:
        """0200 with processing code 20: give ``amount`` back, of the capture sent as ``original`` or,
        without one, to the card. A repeat is the same message: the bank knows it by its reference.
        """
        fields = {3: spec.REFUND, 22: _ECOMMERCE_ENTRY}
        if original is not None:
            fields[90] = self._original("0220", original)
        if pan is not None:
            fields[2] = pan
        if expiry is not None:
            fields[14] = expiry
        return await self._request("0200", ref, amount, currency, fields)

    def _original(self, mti: str, ref: BankReference) -> str:
        return Original(mti, ref.stan, ref.transmission, self._acquirer).pack()

    async def _request(
        self,
        mti: str,
        ref: BankReference,
        amount: int,
        currency: str,
        fields: dict[int, str],
        *,
        additional: Mapping[str, str] | None = None,
        replacement: int | None = None,
    ) -> Outcome:
        envelope = {
            7: ref.transmission,
            11: ref.stan,
            25: _ECOMMERCE_CONDITION,
            32: self._acquirer,
            37: ref.rrn,
        }
        try:
            fields |= envelope | {4: amount_text(amount), 49: currency_number(currency)}
            if additional:
                fields[48] = pack_additional(additional)
            if replacement is not None:
                fields[95] = pack_replacement(replacement)
        except MalformedMessage:
            return NotSent(ref, NotSentReason.UNSENDABLE)
        request = Message(mti, fields)
        reach(RAIL_SENDING)
        answer = await self._connection.exchange(request)
        reach(RAIL_ANSWERED)
        return outcome(ref, request, answer, amount=amount, currency=currency)


def outcome(
    ref: BankReference,
    request: Message,
    answer: Answer | NotSentReason,
    *,
    amount: int,
    currency: str,
) -> Outcome:
    """What ``answer`` to ``request`` means. An answer about something else than was asked is not believed."""
    match answer:
        case NotSentReason():
            return NotSent(ref, answer)
        case UnknownReason():
            return Unknown(ref, answer)
        case Message():
            code = answer.get(39)
    if code is None or answer.get(3) != request.get(3):
        return Unknown(ref, UnknownReason.MISMATCHED)
    if (answer.get(4), answer.get(49)) != (request.get(4), request.get(49)):
        return Unknown(ref, UnknownReason.AMOUNT_MISMATCH)
    if code == spec.APPROVED:
        return Approved(ref, amount, currency, answer.get(38), code)
    if code == spec.DUPLICATE:
        # A bank that does not know a repeat for one says so: what it answered the first time still holds.
        return Unknown(ref, UnknownReason.DUPLICATE)
    meaning = spec.RESPONSE_CODES.get(code, spec.Meaning("declined"))
    return Declined(ref, code, meaning.text, meaning.retryable)
