"""Statements: an account's lines as JSON pages, or a whole statement as a file."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Callable
from contextlib import aclosing
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

from litestar import Response, get
from litestar.params import FromPath

from api.answers import view
from api.books import Sight, sight_of
from api.dependencies import AppDependencies
from api.documents.formats import FORMATS, headers
from api.errors import CallerGone
from api.operation import ApiRequest, reads
from api.paths import account_in
from api.policy import Scope
from api.schemas.statements import StatementQuery, StatementView
from api.streams import ClosingStream
from ledger import as_of, read
from ledger.errors import AccountUnknown
from ledger.reports.load import check_period, open_statement, statement_pages
from ledger.reports.statement import StatementEntry, StatementHead, StatementWriter, written


@get(
    "/v1/accounts/{account:str}/statement",
    **reads(
        Scope.ACCOUNTS_READ,
        "An account's statement",
        "Accounts",
        StatementView,
        query=StatementQuery,
        media_types=tuple(format.media_type for format in FORMATS.values()),
    ),
)
async def get_statement(request: ApiRequest, account: FromPath[str]) -> Response[Any]:
    """The lines of one account in one currency, oldest first, each with the balance after it. Files hold posted lines
    only; one that is cut short ends without its last chunk."""
    asked = request.asked(StatementQuery)
    sight = await sight_of(request.deps, request.auth, asked.book)
    path = account_in(account, asked.currency)
    if asked.format != "json" and asked.period is not None:
        return await statement_file(
            *(request.deps, sight, path, asked.currency, asked.period),
            known=asked.known_as_of,
            format=asked.format,
        )
    return view(StatementView.of(await _page(request.deps, sight, path, asked)))


async def _page(
    deps: AppDependencies, sight: Sight, path: str, asked: StatementQuery
) -> read.Statement | as_of.EffectiveStatement:
    wanted = (sight.book_id, path, asked.currency)
    async with deps.pool.connection() as conn:
        if asked.period is None:
            found = await read.statement(
                conn, *wanted, after=asked.after, limit=asked.limit, owner=sight.owner
            )
        else:
            first, last = asked.period
            check_period(first, last)
            found = await as_of.statement(
                *(conn, *wanted),
                first=first,
                last=last,
                known=asked.known_as_of,
                after=asked.after,
                limit=asked.limit,
                owner=sight.owner,
            )
    if found is None:
        raise AccountUnknown(path, asked.currency)
    return found


async def statement_file(
    deps: AppDependencies,
    sight: Sight,
    path: str,
    currency: str,
    period: tuple[date, date],
    *,
    format: str,
    known: int | datetime | None = None,
    name: Callable[[str], str] = str,
) -> ClosingStream:
    """A whole statement in one of ``FORMATS``, streamed; ``name``: what to call the account on the other side.

    Raises ``AccountUnknown``, ``PeriodInvalid``, ``RateLimited`` and what the format refuses.
    """
    first, last = period
    async with deps.pool.connection() as conn:
        head = await open_statement(
            *(conn, sight.book_id, path, currency),
            first=first,
            last=last,
            made_at=deps.clock(),
            known=known,
            owner=sight.owner,
        )
    if head is None:
        raise AccountUnknown(path, currency)
    made = FORMATS[format]
    chunks = _chunks(deps, sight.owner, head, made.writer(head), name)
    # The first chunk is made before the answer begins, so that a refusal can still be a problem document.
    opening = await anext(chunks)
    return ClosingStream(_whole(opening, chunks), media_type=made.media_type, headers=headers(head, made))


async def _chunks(
    deps: AppDependencies,
    owner: str | None,
    head: StatementHead,
    writer: StatementWriter,
    name: Callable[[str], str],
) -> AsyncGenerator[bytes]:
    last = deps.clock() + timedelta(seconds=deps.stream_s)
    with deps.documents.taken(owner):
        async with deps.pool.connection() as conn:
            # No transaction that idles between chunks: what is known is fixed already.
            await conn.set_autocommit(True)
            try:
                async with aclosing(statement_pages(conn, head)) as pages:
                    async for chunk in written(writer, _named(pages, name)):
                        yield chunk
                        if deps.clock() > last:
                            raise CallerGone("a whole statement takes too long to be read")
            finally:
                await conn.set_autocommit(False)


async def _named(
    pages: AsyncIterable[list[StatementEntry]], name: Callable[[str], str]
) -> AsyncGenerator[list[StatementEntry]]:
    async for page in pages:
        yield [replace(entry, counter_account=name(entry.counter_account)) for entry in page]


async def _whole(opening: bytes, rest: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    async with aclosing(rest):
        yield opening
        async for chunk in rest:
            yield chunk


routes = (get_statement,)
