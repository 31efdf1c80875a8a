"""What the tests of the card rail say again and again."""

from __future__ import annotations

from banks.card.rail import CardRail
from banks.outcomes import Approved, Outcome
from banks.references import BankReference

APPROVED_PAN = "4111111111111111"
EXPIRY = "3012"


async def authorize(
    rail: CardRail,
    ref: BankReference,
    *,
    amount: int = 100_000,
    currency: str = "INR",
    pan: str = APPROVED_PAN,
    tolerance_bps: int = 0,
) -> Outcome:
    return await rail.authorize(
        ref,
        amount=amount,
        currency=currency,
        pan=pan,
        expiry=EXPIRY,
        cvv="123",
        merchant_id="MERCHANT0000001",
        terminal_id="WEB00001",
        tolerance_bps=tolerance_bps,
    )


async def approved(
    rail: CardRail, ref: BankReference, *, amount: int = 100_000, currency: str = "INR"
) -> Approved:
    outcome = await authorize(rail, ref, amount=amount, currency=currency)
    assert isinstance(outcome, Approved), outcome
    return outcome


async def capture(
    rail: CardRail,
    ref: BankReference,
    of: Approved,
    amount: int,
    *,
    final: bool = False,
    repeat: bool = False,
) -> Outcome:
    return await rail.capture(
        ref,
        amount=amount,
        currency=of.currency,
        original=of.reference,
        authorization_code=of.authorization_code,
        final=final,
        repeat=repeat,
    )


async def reverse(
    rail: CardRail,
    ref: BankReference,
    of: BankReference,
    *,
    amount: int = 100_000,
    replacement: int | None = None,
    repeat: bool = False,
) -> Outcome:
    return await rail.reverse(
        ref,
        original=of,
        original_mti="0100",
        amount=amount,
        currency="INR",
        replacement=replacement,
        repeat=repeat,
    )
