"""Balances as of the past, and what late journals changed of it. Balances are signed by the account's normal side."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import Field, StringConstraints

from api.schemas.as_of import Day, KnownAsOf
from api.schemas.base import AccountPath, CurrencyCode, Instant, View
from api.schemas.ledger import AccountView, BookQuery, MerchantBalance, MerchantId, Number, PageSize
from ledger.as_of import AsOf, BalanceAsOf, LateJournal, RestatedBalance, Restatement, Total

AccountCursor = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9:_-]{1,512}\.[A-Z]{3}$"), Field(description="A page's `next`")
]


class PastQuery(BookQuery):
    """Nothing given: as of now, future-dated journals included."""

    effective_as_of: Annotated[Day | None, Field(description="Only what counts on this day or before it")] = (
        None
    )
    known_as_of: KnownAsOf | None = None

    @property
    def past(self) -> bool:
        return self.effective_as_of is not None or self.known_as_of is not None


class BalanceQuery(PastQuery):
    merchant: MerchantId | None = None


class AccountsQuery(PastQuery):
    prefix: Annotated[AccountPath | None, Field(description="Only this account and those below it")] = None
    after: AccountCursor | None = None
    limit: PageSize = 200


class TotalsQuery(PastQuery):
    prefix: Annotated[AccountPath, Field(description="This account and those below it")]


class RestatementQuery(BookQuery):
    effective_as_of: Annotated[Day, Field(description="The last day reported")]
    then: Annotated[KnownAsOf, Field(description="What was known at the time of the report")]
    now: KnownAsOf | None = None
    after: Annotated[Number, Field(description="Late journals after this number")] = 0
    limit: PageSize = 100


class Past(View):
    """What was asked, so that it can be asked again: `known_as_of` is the number of the last journal known."""

    effective_as_of: date | None
    known_as_of: int

    @classmethod
    def of(cls, at: AsOf, known: int) -> Self:
        return cls.model_construct(effective_as_of=at.effective, known_as_of=known)


class PastBalance(View):
    """`available` = `posted` - `pending_out`."""

    path: AccountPath
    currency: CurrencyCode
    type: Literal["asset", "liability", "equity", "income", "expense"]
    posted: int
    pending_in: int
    pending_out: int
    available: int

    @classmethod
    def of(cls, balance: BalanceAsOf) -> Self:
        return cls.model_construct(
            path=balance.path,
            currency=balance.currency,
            type=balance.type.value,
            posted=balance.posted,
            pending_in=balance.pending_in,
            pending_out=balance.pending_out,
            available=balance.available,
        )


class AccountList(View):
    """As of now (`as_of` is null) with floor, status and number of lines; as of the past without. `next` is the
    `after` of the following page, null at the end."""

    as_of: Past | None
    data: list[AccountView] | list[PastBalance]
    next: str | None


class MerchantBalances(View):
    """One entry a currency; `as_of` is null as of now."""

    merchant: str
    as_of: Past | None
    data: list[MerchantBalance]


class TotalView(View):
    """The sum over `accounts` accounts of one currency."""

    currency: CurrencyCode
    accounts: int
    posted: int
    pending_in: int
    pending_out: int
    available: int

    @classmethod
    def of(cls, total: Total) -> Self:
        return cls.model_construct(
            currency=total.currency,
            accounts=total.accounts,
            posted=total.posted,
            pending_in=total.pending_in,
            pending_out=total.pending_out,
            available=total.available,
        )


class TotalList(View):
    prefix: AccountPath
    as_of: Past
    data: list[TotalView]


class RestatedView(View):
    """One account: as `reported` then, as `restated` now."""

    path: AccountPath
    currency: CurrencyCode
    reported: PastBalance
    restated: PastBalance

    @classmethod
    def of(cls, changed: RestatedBalance) -> Self:
        return cls.model_construct(
            path=changed.path,
            currency=changed.currency,
            reported=PastBalance.of(changed.reported),
            restated=PastBalance.of(changed.restated),
        )


class LateView(View):
    """A journal recorded after the report that counts on one of its days."""

    id: UUID
    seq: int
    kind: str
    description: str
    effective_at: Instant
    recorded_at: Instant

    @classmethod
    def of(cls, journal: LateJournal) -> Self:
        return cls.model_construct(
            id=journal.id,
            seq=journal.seq,
            kind=journal.kind,
            description=journal.description,
            effective_at=journal.effective_at,
            recorded_at=journal.recorded_at,
        )


class RestatementView(View):
    """Every balance that the late journals changed, and a page of those journals, the oldest first. `then` and `now`
    are numbers of journals; `next` is the `after` of the following page, null at the end."""

    effective_as_of: date
    then: int
    now: int
    changed: list[RestatedView]
    late: list[LateView]
    next: int | None

    @classmethod
    def of(cls, found: Restatement) -> Self:
        return cls.model_construct(
            effective_as_of=found.effective,
            then=found.then,
            now=found.now,
            changed=[RestatedView.of(changed) for changed in found.changed],
            late=[LateView.of(journal) for journal in found.late],
            next=found.next,
        )
