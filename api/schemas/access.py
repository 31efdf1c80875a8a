"""The access log as JSON."""

from __future__ import annotations

from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import Field

from api.access import Access
from api.schemas.base import Closed, Instant, View
from api.schemas.ledger import PageSize


class AccessQuery(Closed):
    person: Annotated[str | None, Field(pattern=r"^[!-~]{1,64}$", description="Only this person's")] = None
    outcome: Annotated[Literal["all", "denied"], Field(description="All, or those denied")] = "all"
    before: Annotated[UUID | None, Field(description="Entries before this one")] = None
    limit: PageSize = 50


class AccessEntry(View):
    """`person`: a client's id or who was logged in; null: a caller without a good token.

    `subject`: the ids in the path and the merchant asked about, or the client claimed. `asked`: which query parameters
    were given. `book`: the one that was named, if one was. `code`: why it was denied.
    """

    id: UUID
    at: Instant
    person: str | None
    address: str
    method: Annotated[str, Field(examples=["GET"])]
    route: Annotated[str, Field(examples=["/v1/accounts/{account}/statement"])]
    subject: str
    asked: list[str]
    book: str | None
    outcome: Literal["admitted", "denied"]
    code: str | None
    request_id: UUID | None

    @classmethod
    def of(cls, entry: Access) -> Self:
        return cls.model_construct(
            id=entry.entry_id,
            at=entry.at,
            person=entry.person,
            address=entry.address,
            method=entry.method,
            route=entry.route,
            subject=entry.subject,
            asked=list(entry.asked),
            book=entry.book,
            outcome=entry.outcome,
            code=entry.code,
            request_id=entry.request_id,
        )


class AccessList(View):
    """Newest first. `next`: pass it as `before` for those that come after."""

    data: list[AccessEntry]
    next: UUID | None
