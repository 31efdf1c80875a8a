"""An account's statement: by line as recorded, or by day of effect between two days, or as a file."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from api.schemas.as_of import Day, KnownAsOf
from api.schemas.base import AccountPath, CurrencyCode, Instant, View
from api.schemas.ledger import BookQuery, Cursor, PageSize
from ledger.as_of import EffectiveLine, EffectiveStatement
from ledger.read import Statement, StatementLine


class StatementQuery(BookQuery):
    """With `from` and `to`: the lines that count from those days, by day. Without: every line, as recorded."""

    currency: CurrencyCode
    first: Annotated[Day | None, Field(alias="from", description="First day, UTC")] = None
    last: Annotated[Day | None, Field(alias="to", description="Last day, inclusive, UTC")] = None
    known_as_of: KnownAsOf | None = None
    format: Annotated[
        Literal["json", "csv", "camt.053", "html", "pdf"],
        Field(description="All but json are the whole statement between two days, without pages"),
    ] = "json"
    after: Annotated[Cursor | None, Field(description="Lines after it: the `next` of the page before")] = None
    limit: Annotated[PageSize, Field(description="Lines of a page")] = 100

    @property
    def period(self) -> tuple[date, date] | None:
        return None if self.first is None or self.last is None else (self.first, self.last)

    @model_validator(mode="after")
    def _belong_together(self) -> Self:
        if (self.first is None) != (self.last is None):
            raise PydanticCustomError("period_incomplete", "from and to come together")
        if self.period is None and (self.known_as_of is not None or self.format != "json"):
            raise PydanticCustomError("period_missing", "known_as_of and files need from and to")
        if self.format != "json" and self.after is not None:
            raise PydanticCustomError("file_has_no_pages", "after is for json: a file is whole")
        return self


class LineView(View):
    """`amount` is signed by the account's normal side; `posted` is the balance after the line. `available` and
    `incoming` are those after it as recorded; null in a statement by day."""

    seq: int
    journal: UUID
    journal_seq: int
    kind: str
    layer: Literal["posted", "pending"]
    amount: int
    posted: int
    available: int | None
    incoming: int | None
    counter_account: str
    description: str
    metadata: dict[str, str]
    effective_at: Instant
    recorded_at: Instant

    @classmethod
    def of(cls, line: StatementLine | EffectiveLine) -> Self:
        return cls.model_construct(
            seq=line.seq,
            journal=line.journal_id,
            journal_seq=line.journal_seq,
            kind=line.kind,
            layer=line.layer,
            amount=line.amount,
            posted=line.posted,
            available=line.available if isinstance(line, StatementLine) else None,
            incoming=line.incoming if isinstance(line, StatementLine) else None,
            counter_account=line.counter_account,
            description=line.description,
            metadata=dict(line.metadata),
            effective_at=line.effective_at,
            recorded_at=line.recorded_at,
        )


class StatementView(View):
    """Oldest line first. `opening` and `closing` are the posted balances around the lines shown; `next` is the
    `after` of the following page, null at the end. Of a statement by day: its days, and the number of the last
    journal it knows (name it as `known_as_of` to read the other pages of the same statement)."""

    account: AccountPath
    currency: CurrencyCode
    first: date | None
    last: date | None
    known: int | None
    opening: int
    closing: int
    lines: list[LineView]
    next: str | None

    @classmethod
    def of(cls, statement: Statement | EffectiveStatement) -> Self:
        by_day = statement if isinstance(statement, EffectiveStatement) else None
        return cls.model_construct(
            account=statement.path,
            currency=statement.currency,
            first=by_day and by_day.first,
            last=by_day and by_day.last,
            known=None if by_day is None else by_day.known,
            opening=statement.opening,
            closing=statement.closing,
            lines=[LineView.of(line) for line in statement.lines],
            next=statement.next,
        )
