"""Changes of an account's floor, status and velocity limits, and their history."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from api.schemas.base import AccountPath, Closed, CurrencyCode, Instant, View
from api.schemas.ledger import BookNumber, BookQuery, Word
from api.schemas.people import Reason
from ledger.books import AccountFact
from ledger.limits import MAX_LIMIT, LimitFact, LimitUse
from ledger.model import MAX_AMOUNT

Status = Literal["open", "frozen", "closed"]
Side = Literal["debit", "credit"]
Measure = Annotated[Literal["sum", "count"], Field(description="Of amounts in minor units, or of lines")]
Window = Annotated[
    Literal["minute", "hour", "day", "week", "month"],
    Field(description="Of the calendar in UTC; a week begins on Monday"),
]


class CurrencyQuery(BookQuery):
    currency: CurrencyCode


class AccountChangeBody(Closed):
    """A new floor (null: none; negative: a credit line), a new status, or both; what is not given stays."""

    book: BookNumber = None
    currency: CurrencyCode
    floor: Annotated[int | None, Field(ge=-MAX_AMOUNT, le=MAX_AMOUNT)] = None
    status: Status | None = None
    reason: Reason

    @model_validator(mode="after")
    def _something(self) -> Self:
        if "floor" not in self.model_fields_set and self.status is None:
            raise PydanticCustomError("nothing_to_change", "give a floor or a status")
        return self


class AccountChange(View):
    """In force for the journals after number `after`. `person`: who set it; null of the opening."""

    number: int
    floor: int | None
    status: Status
    reason: str
    person: str | None
    after: int
    recorded_at: Instant

    @classmethod
    def of(cls, fact: AccountFact) -> Self:
        return cls.model_construct(
            number=fact.fact,
            floor=fact.floor,
            status=fact.status,
            reason=fact.reason,
            person=fact.person,
            after=fact.after_seq,
            recorded_at=fact.recorded_at,
        )


class AccountHistory(View):
    """Oldest first."""

    account: AccountPath
    currency: CurrencyCode
    data: list[AccountChange]


class LimitBody(Closed):
    """At most `maximum` of posted debits or credits in one window, by the time of recording.

    Under one name only `maximum` and `active` may change.
    """

    book: BookNumber = None
    currency: CurrencyCode
    name: Annotated[Word, Field(examples=["daily_spend"])]
    side: Side
    measure: Measure
    maximum: Annotated[int, Field(ge=0, le=MAX_LIMIT)]
    window: Window
    active: bool = True
    reason: Reason


class LimitChange(View):
    """In force for the journals after number `after`."""

    name: str
    number: int
    side: Side
    measure: Measure
    maximum: int
    window: Window
    active: bool
    reason: str
    person: str
    after: int
    recorded_at: Instant

    @classmethod
    def of(cls, fact: LimitFact) -> Self:
        return cls.model_construct(
            name=fact.name,
            number=fact.fact,
            side=fact.side,
            measure=fact.measure,
            maximum=fact.maximum,
            window=fact.window,
            active=fact.active,
            reason=fact.reason,
            person=fact.person,
            after=fact.after_seq,
            recorded_at=fact.recorded_at,
        )


class LimitInForce(View):
    """What the current window has used of it."""

    name: str
    side: Side
    measure: Measure
    maximum: int
    window: Window
    window_start: Instant
    used: int
    left: int

    @classmethod
    def of(cls, limit: LimitUse) -> Self:
        return cls.model_construct(
            name=limit.name,
            side=limit.side,
            measure=limit.measure,
            maximum=limit.maximum,
            window=limit.window,
            window_start=limit.window_start,
            used=limit.used,
            left=limit.left,
        )


class AccountLimits(View):
    """The limits in force now, by name; and every change of any limit, oldest first within its name."""

    account: AccountPath
    currency: CurrencyCode
    in_force: list[LimitInForce]
    history: list[LimitChange]
