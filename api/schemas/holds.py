"""Holds on ledger accounts as clients write and read them."""

from __future__ import annotations

from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from api.schemas.base import (
    AccountPath,
    Amount,
    Closed,
    CurrencyCode,
    Description,
    Instant,
    InstantIn,
    Metadata,
    View,
)
from api.schemas.ledger import BookNumber
from ledger import read
from ledger.model import Place

MOST_ITEMS = 100


class InBook(Closed):
    book: BookNumber = None


class NewHoldBody(InBook):
    """Reserve `amount` on its way from `debit` to `credit` (of a liability, the debit side gives it).

    Captures may exceed it by `tolerance_bps` in 10 000ths; what is left at `expires_at` is given back.
    """

    debit: AccountPath
    credit: AccountPath
    amount: Amount
    currency: CurrencyCode
    expires_at: InstantIn | None = None
    tolerance_bps: Annotated[int, Field(ge=0, le=10_000)] = 0
    description: Description = ""
    metadata: Metadata = Field(default_factory=dict)

    @model_validator(mode="after")
    def _two_accounts(self) -> Self:
        if self.debit == self.credit:
            raise PydanticCustomError("same_account", "debit and credit are the same account")
        return self


class CaptureHoldBody(InBook):
    """Book `amount` on the hold's accounts; `final` gives the rest back."""

    amount: Amount
    final: bool = False
    description: Description = ""


class ReleaseHoldBody(InBook):
    """Give back `amount`, or all that is left."""

    amount: Amount | None = None
    description: Description = ""


class IncreaseHoldBody(InBook):
    """Reserve `amount` more."""

    amount: Amount
    description: Description = ""


class CaptureItem(Closed):
    """One of several captures."""

    hold: UUID
    amount: Amount
    final: bool = False


class CaptureHoldsBody(InBook):
    """Book all of these, in this order, or none; a hold may come more than once."""

    captures: Annotated[list[CaptureItem], Field(min_length=1, max_length=MOST_ITEMS)]
    description: Description = ""


class ReleaseItem(Closed):
    """One of several releases; without an amount all that is left."""

    hold: UUID
    amount: Amount | None = None


class ReleaseHoldsBody(InBook):
    """Give back all of these, in this order, or none."""

    releases: Annotated[list[ReleaseItem], Field(min_length=1, max_length=MOST_ITEMS)]
    description: Description = ""


class HoldEntry(View):
    """`held` in all; `remaining` = held - consumed - released - expired. It has ended when nothing remains."""

    id: UUID
    status: Literal["open", "ended"]
    debit: AccountPath
    credit: AccountPath
    currency: CurrencyCode
    held: int
    consumed: Annotated[int, Field(description="Taken out by captures (tolerance not counted)")]
    captured: int
    released: int
    expired: int
    remaining: int
    tolerance_bps: int
    expires_at: Instant | None

    @classmethod
    def of(cls, hold: read.HoldView) -> Self:
        return cls.model_construct(
            id=hold.hold_id,
            status="ended" if hold.ended else "open",
            debit=hold.debit,
            credit=hold.credit,
            currency=hold.currency,
            held=hold.held,
            consumed=hold.consumed,
            captured=hold.captured,
            released=hold.released,
            expired=hold.expired,
            remaining=hold.remaining,
            tolerance_bps=hold.tolerance_bps,
            expires_at=hold.expires_at,
        )

    @classmethod
    def placed(cls, hold: Place) -> Self:
        """As it stands once it is placed."""
        return cls.model_construct(
            id=hold.hold_id,
            status="open",
            debit=hold.debit,
            credit=hold.credit,
            currency=hold.currency,
            held=hold.amount,
            consumed=0,
            captured=0,
            released=0,
            expired=0,
            remaining=hold.amount,
            tolerance_bps=hold.tolerance_bps,
            expires_at=hold.expires_at,
        )


class HoldList(View):
    """In the order in which they were asked for."""

    data: list[HoldEntry]
