"""Accounts and journals as they are read. Balances are signed by the account's normal side."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from api.schemas.base import (
    AccountPath,
    Amount,
    Closed,
    CurrencyCode,
    Instant,
    InstantIn,
    MetadataKey,
    MetadataValue,
    View,
)
from ledger import search
from ledger.read import Balance, JournalView, PostingView

BookNumber = Annotated[
    int | None,
    Field(ge=1, le=2**31 - 1, description="A platform client may name another book; a merchant has its own"),
]
Word = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
PageSize = Annotated[int, Field(ge=1, le=200)]
Number = Annotated[int, Field(ge=0, le=2**63 - 2)]  # the database can still add one
Cursor = Annotated[str, StringConstraints(pattern=r"^[0-9.-]{1,40}$"), Field(examples=["17.1"])]


MerchantId = Annotated[
    str,
    StringConstraints(pattern=r"^mer_[0-7][0-9a-hjkmnp-tv-z]{25}$"),  # gateway.ids
    Field(
        description="A platform client must say whose; a merchant sees its own",
        examples=["mer_01kb0n7d1ve2p9a4x8m3q6s5tz"],
    ),
]


class BookQuery(Closed):
    book: BookNumber = None


class JournalsQuery(BookQuery):
    """Only journals that fit everything given."""

    kind: Annotated[Word | None, Field(examples=["capture"])] = None
    source_type: Word | None = None
    source_id: Annotated[str, StringConstraints(pattern=r"^[!-~]{1,64}$")] | None = None
    source_event: Word | None = None
    account: Annotated[AccountPath | None, Field(description="Journals that touch this account")] = None
    amount: Annotated[Amount | None, Field(description="Of one of its postings, with `currency`")] = None
    currency: Annotated[CurrencyCode | None, Field(description="Of `amount`")] = None
    metadata: Annotated[
        dict[MetadataKey, MetadataValue],
        Field(
            default_factory=dict, max_length=20, description="Pairs it bears, each as `metadata[key]=value`"
        ),
    ]
    effective_from: Annotated[date | None, Field(description="First day it may count from, in UTC")] = None
    effective_to: Annotated[date | None, Field(description="Last day it may count from, in UTC")] = None
    recorded_from: Annotated[InstantIn | None, Field(description="Recorded then or later")] = None
    recorded_to: Annotated[InstantIn | None, Field(description="Recorded then or earlier")] = None
    before: Annotated[Number | None, Field(ge=1, description="Journals before this number")] = None
    limit: PageSize = 50

    @model_validator(mode="after")
    def _amount_of_a_currency(self) -> Self:
        if (self.amount is None) != (self.currency is None):
            raise PydanticCustomError("amount_without_currency", "amount and currency come together")
        return self

    def query(self) -> search.Query:
        amount = None if self.amount is None or self.currency is None else (self.amount, self.currency)
        same = self.model_dump(exclude={"book", "amount", "currency", "before", "limit"})
        return search.Query(amount=amount and search.Amount(*amount), **same)


class AccountView(View):
    """`available` = `posted` - `pending_out`; it never falls below `floor` (null: no floor)."""

    path: AccountPath
    currency: CurrencyCode
    type: Literal["asset", "liability", "equity", "income", "expense"]
    status: Literal["open", "frozen", "closed"]
    posted: int
    pending_in: int
    pending_out: int
    available: int
    floor: int | None
    lines: Annotated[int, Field(description="The number of its last line")]

    @classmethod
    def of(cls, balance: Balance) -> Self:
        return cls.model_construct(
            path=balance.path,
            currency=balance.currency,
            type=balance.type.value,
            status=balance.status,
            posted=balance.posted,
            pending_in=balance.pending_in,
            pending_out=balance.pending_out,
            available=balance.available,
            floor=balance.floor,
            lines=balance.seq,
        )


class MerchantBalance(View):
    """Minor units. `pending`: captured, not yet payable; `available`: payable now; `owed`: by the merchant to us."""

    currency: CurrencyCode
    pending: int
    available: int
    reserve: int
    disputed: int
    owed: int


class PostingEntry(View):
    """`amount` goes from `credit` to `debit`; negative where a hold is given back."""

    debit: str
    credit: str
    amount: int
    currency: CurrencyCode
    layer: Literal["posted", "pending"]
    hold: str | None

    @classmethod
    def of(cls, posting: PostingView) -> Self:
        return cls.model_construct(
            debit=posting.debit,
            credit=posting.credit,
            amount=posting.amount,
            currency=posting.currency,
            layer=posting.layer,
            hold=posting.hold,
        )


class JournalEntry(View):
    """One balanced entry. A merchant sees only the postings that touch its own accounts."""

    id: UUID
    seq: int
    kind: str
    source: Annotated[
        str, Field(description="type/id/event: what caused it", examples=["capture/op_01…/approved"])
    ]
    description: str
    metadata: dict[str, str]
    reverses: Annotated[int | None, Field(description="The number of the journal it undoes")]
    postings: list[PostingEntry]
    leaf_hash: Annotated[str, Field(description="SHA-256 of its canonical line (RFC 9162 leaf), in hex")]
    effective_at: Instant
    recorded_at: Instant

    @classmethod
    def of(cls, journal: JournalView, own: frozenset[str] | None = None) -> Self:
        """``own``: show only postings that touch one of these paths; None: all."""
        shown = [p for p in journal.postings if own is None or p.debit in own or p.credit in own]
        return cls.model_construct(
            id=journal.id,
            seq=journal.seq,
            kind=journal.kind,
            source=journal.source,
            description=journal.description,
            metadata=dict(journal.metadata),
            reverses=journal.reverses,
            postings=[PostingEntry.of(posting) for posting in shown],
            leaf_hash=journal.leaf_hash.hex(),
            effective_at=journal.effective_at,
            recorded_at=journal.recorded_at,
        )


class JournalList(View):
    """Newest first. `next` is the `before` of the following page, null at the end."""

    data: list[JournalEntry]
    next: int | None
