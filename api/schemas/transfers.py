"""Transfers between ledger accounts as clients write them; the answer is the journal."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from api.schemas.base import AccountPath, Amount, Closed, CurrencyCode, Description, Metadata
from api.schemas.ledger import BookNumber

MOST_LEGS = 100


class Leg(Closed):
    """`amount` from `credit` to `debit` (of a liability, the debit side gives it).

    `up_to`: as much as is available, at most `amount`: available less floor of the sides that give, where no floor
    counts as 0.
    """

    debit: AccountPath
    credit: AccountPath
    amount: Amount
    currency: CurrencyCode
    up_to: bool = False

    @model_validator(mode="after")
    def _two_accounts(self) -> Self:
        if self.debit == self.credit:
            raise PydanticCustomError("same_account", "debit and credit are the same account")
        return self


class NewTransferBody(Closed):
    """One journal: all legs stand, in this order, or none does."""

    book: BookNumber = None
    legs: Annotated[list[Leg], Field(min_length=1, max_length=MOST_LEGS)]
    description: Description = ""
    metadata: Metadata = Field(default_factory=dict)
