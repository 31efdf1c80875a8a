"""The journal of a book, streamed, for other programs to check: all of it, a range, a merchant's, an account's."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import timedelta
from typing import Annotated, Literal, Self

from litestar import get
from litestar.response import Stream
from psycopg import AsyncConnection
from pydantic import Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from api.books import sight_of
from api.dependencies import AppDependencies
from api.errors import RateLimited
from api.operation import ApiRequest, reads
from api.policy import Audience, Scope
from api.schemas.as_of import Day
from api.schemas.base import AccountPath, CurrencyCode
from api.schemas.ledger import BookQuery, Number
from ledger.export import FILES, Selection, export_file, recorded_days
from ledger.reports.errors import PeriodInvalid

MEDIA_TYPES = {
    "jsonl": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "hledger": "text/plain; charset=utf-8",
    "ledger": "text/plain; charset=utf-8",
    "beancount": "text/plain; charset=utf-8",
}
_SUFFIX = {"jsonl": "jsonl", "csv": "csv", "hledger": "journal", "ledger": "ledger", "beancount": "beancount"}
_BUSY_S = 5
_DAY = timedelta(days=1)


class ExportQuery(BookQuery):
    """With an owner or an account: the journals that touch it, each with all its lines."""

    format: Annotated[
        Literal["jsonl", "csv", "hledger", "ledger", "beancount"],
        Field(description="jsonl: the canonical lines, each the preimage of a leaf hash"),
    ] = "jsonl"
    after: Annotated[Number, Field(description="Journals after this number")] = 0
    through: Annotated[Number | None, Field(ge=1, description="Journals up to and with this number")] = None
    first: Annotated[Day | None, Field(alias="from", description="Recorded on this day, UTC, or later")] = (
        None
    )
    last: Annotated[Day | None, Field(alias="to", description="Last day of recording, inclusive, UTC")] = None
    owner: Annotated[str, StringConstraints(pattern=r"^[!-~]{1,64}$")] | None = None
    account: AccountPath | None = None
    currency: Annotated[CurrencyCode | None, Field(description="Of the account, or of the owner's")] = None

    @model_validator(mode="after")
    def _one_range(self) -> Self:
        if (self.first or self.last) and (self.after or self.through):
            raise PydanticCustomError("two_ranges", "a range is of days or of numbers")
        return self


@get(
    "/v1/exports/journal",
    **reads(
        Scope.EXPORTS_READ,
        "Export the journal",
        "Exports",
        tuple(dict.fromkeys(MEDIA_TYPES.values())),
        audience=Audience.PLATFORM,
        query=ExportQuery,
    ),
)
async def export_book(request: ApiRequest) -> Stream:
    """Every journal in order, with flat memory. An answer that is cut short ends without its last chunk."""
    asked = request.asked(ExportQuery)
    sight = await sight_of(request.deps, request.auth, asked.book)
    chunks = _chunks(request.deps, sight.book_id, asked)
    # The first chunk is made before the answer begins, so that a refusal can still be a problem document.
    first = await anext(chunks, b"")
    name = f"journal-{sight.book_id}.{_SUFFIX[asked.format]}"
    # As a header: to a media type that begins with text/ Litestar adds a character set, whether it has one or not.
    headers = {
        "content-type": MEDIA_TYPES[asked.format],
        "Content-Disposition": f'attachment; filename="{name}"',
    }
    return Stream(_whole(first, chunks), headers=headers)


async def _chunks(deps: AppDependencies, book_id: int, asked: ExportQuery) -> AsyncGenerator[bytes]:
    # A slow reader keeps a connection for as long as it reads: few at a time, or they would take them all.
    if deps.exporting.locked():
        raise RateLimited(_BUSY_S)
    async with deps.exporting, deps.pool.connection() as conn:
        await conn.set_autocommit(True)  # no transaction that idles between chunks
        try:
            [name] = FILES[asked.format]
            chosen = await _selection(conn, book_id, asked)
            async for chunk in export_file(conn, book_id, asked.format, name, chosen):
                yield chunk
        finally:
            await conn.set_autocommit(False)


async def _selection(conn: AsyncConnection, book_id: int, asked: ExportQuery) -> Selection:
    after, through = asked.after, asked.through
    if asked.first is not None or asked.last is not None:
        if asked.first is not None and asked.last is not None and asked.first > asked.last:
            raise PeriodInvalid(f"from {asked.first} is after to {asked.last}")
        until = None if asked.last is None else asked.last + _DAY
        after, through = await recorded_days(conn, book_id, asked.first, until)
    return Selection(
        after_seq=after,
        through_seq=through,
        owner=asked.owner,
        account=asked.account,
        currency=asked.currency,
    )


async def _whole(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    async with aclosing(rest):
        yield first
        async for chunk in rest:
            yield chunk


routes = (export_book,)
