"""The whole journal of a book, streamed, for other programs to check."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Literal

from litestar import get
from litestar.response import Stream
from pydantic import Field

from api.books import sight_of
from api.dependencies import AppDependencies
from api.errors import RateLimited
from api.operation import ApiRequest, reads
from api.policy import Audience, Scope
from api.schemas.ledger import BookQuery, Number
from ledger.export import export_journal

MEDIA_TYPES = {
    "jsonl": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "hledger": "text/plain; charset=utf-8",
    "ledger": "text/plain; charset=utf-8",
}
_SUFFIX = {"jsonl": "jsonl", "csv": "csv", "hledger": "journal", "ledger": "ledger"}
_BUSY_S = 5


class ExportQuery(BookQuery):
    format: Annotated[
        Literal["jsonl", "csv", "hledger", "ledger"],
        Field(description="jsonl: the canonical lines, each the preimage of a leaf hash"),
    ] = "jsonl"
    after: Annotated[Number, Field(description="Journals after this number")] = 0
    through: Annotated[Number | None, Field(ge=1, description="Journals up to and with this number")] = None


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
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Stream(_whole(first, chunks), media_type=MEDIA_TYPES[asked.format], headers=headers)


async def _chunks(deps: AppDependencies, book_id: int, asked: ExportQuery) -> AsyncGenerator[bytes]:
    # A slow reader keeps a connection for as long as it reads: few at a time, or they would take them all.
    if deps.exporting.locked():
        raise RateLimited(_BUSY_S)
    async with deps.exporting, deps.pool.connection() as conn:
        await conn.set_autocommit(True)  # no transaction that idles between chunks
        try:
            async for chunk in export_journal(
                *(conn, book_id, asked.format), after_seq=asked.after, through_seq=asked.through
            ):
                yield chunk
        finally:
            await conn.set_autocommit(False)


async def _whole(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    async with aclosing(rest):
        yield first
        async for chunk in rest:
            yield chunk


routes = (export_book,)
