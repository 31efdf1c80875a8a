"""The whole journal of a book, streamed, for other programs to check."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Literal

from ledger.export import export_journal
from litestar import get
from litestar.response import Stream
from pydantic import Field

from api.books import sight_of
from api.operation import ApiRequest, reads
from api.policy import Audience, Scope
from api.schemas.ledger import BookQuery, Number

MEDIA_TYPES = {
    "jsonl": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "hledger": "text/plain; charset=utf-8",
    "ledger": "text/plain; charset=utf-8",
}
_SUFFIX = {"jsonl": "jsonl", "csv": "csv", "hledger": "journal", "ledger": "ledger"}


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
async def export(request: ApiRequest) -> Stream:
    """Every journal in order, with flat memory. An answer that is cut short ends without its last chunk."""
    asked = request.asked(ExportQuery)
    sight = await sight_of(request.deps, request.auth, asked.book)

    async def chunks() -> AsyncIterator[bytes]:
        async with request.deps.pool.connection() as conn:
            lines = export_journal(
                conn, sight.book_id, asked.format, after_seq=asked.after, through_seq=asked.through
            )
            async for chunk in lines:
                yield chunk

    # The first chunk is made before the answer begins, so that a refusal can still be a problem document.
    stream = chunks()
    first = await anext(stream, b"")

    async def whole() -> AsyncIterator[bytes]:
        yield first
        async for chunk in stream:
            yield chunk

    name = f"journal-{sight.book_id}.{_SUFFIX[asked.format]}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Stream(whole(), media_type=MEDIA_TYPES[asked.format], headers=headers)


routes = (export,)
