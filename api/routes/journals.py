"""Journals: what moved, and why."""

from __future__ import annotations

from typing import Any

from litestar import Response, get
from litestar.params import FromPath
from psycopg import AsyncConnection

from api.answers import view
from api.books import Sight, sight_of
from api.errors import NotFound
from api.operation import ApiRequest, reads
from api.paths import uuid_in
from api.policy import Scope
from api.schemas.ledger import BookQuery, JournalEntry, JournalList, JournalsQuery
from ledger import read

_TAG = "Journals"


async def own_paths(conn: AsyncConnection[Any], sight: Sight) -> frozenset[str] | None:
    """The accounts whose postings may be shown; None for all."""
    if sight.owner is None:
        return None
    return frozenset(b.path for b in await read.balances(conn, sight.book_id, owner=sight.owner))


async def page_of(
    conn: AsyncConnection[Any], sight: Sight, asked: JournalsQuery, own: frozenset[str] | None
) -> tuple[list[read.JournalView], int | None]:
    """The journals to show, and the number to go on before (None: there are no more).

    The ledger finds journals by account, or by kind and source, newest first. What is asked for on top of that
    is picked out here, so that the number to go on from is right although a page may show less.
    """
    by_source = asked.source_id is not None
    by_account = not by_source and (sight.owner is not None or asked.account is not None)
    found = await read.journals(
        *(conn, sight.book_id),
        before_seq=asked.before,
        limit=asked.limit,
        kind=None if by_account else asked.kind,
        source_type=None if by_account else asked.source_type,
        source_id=None if by_account else asked.source_id,
        path=asked.account if by_account else None,
        owner=sight.owner if by_account else None,
    )
    more = bool(found) if by_account else len(found) == asked.limit
    return [j for j in found if _fits(j, asked, own)], found[-1].seq if more else None


def _fits(journal: read.JournalView, asked: JournalsQuery, own: frozenset[str] | None) -> bool:
    touched = {path for posting in journal.postings for path in (posting.debit, posting.credit)}
    source_type, _, rest = journal.source.partition("/")
    return (
        (own is None or not own.isdisjoint(touched))
        and asked.account in (None, *touched)
        and asked.kind in (None, journal.kind)
        and asked.source_type in (None, source_type)
        and asked.source_id in (None, rest.rpartition("/")[0])
    )


@get(
    "/v1/journals",
    **reads(Scope.JOURNALS_READ, "Journals, newest first", _TAG, JournalList, query=JournalsQuery),
)
async def list_journals(request: ApiRequest) -> Response[bytes]:
    """A merchant sees those that touch its accounts."""
    asked = request.asked(JournalsQuery)
    sight = await sight_of(request.deps, request.auth, asked.book)
    async with request.deps.pool.connection() as conn:
        own = await own_paths(conn, sight)
        found, following = await page_of(conn, sight, asked, own)
    return view(JournalList.model_construct(data=[JournalEntry.of(j, own) for j in found], next=following))


@get(
    "/v1/journals/{journal_id:str}",
    **reads(Scope.JOURNALS_READ, "One journal", _TAG, JournalEntry, query=BookQuery),
)
async def get_journal(request: ApiRequest, journal_id: FromPath[str]) -> Response[bytes]:
    """With its postings, its source and its leaf hash."""
    sight = await sight_of(request.deps, request.auth, request.asked(BookQuery).book)
    async with request.deps.pool.connection() as conn:
        own = await own_paths(conn, sight)
        found = await read.journal_by_id(conn, sight.book_id, uuid_in(journal_id), owner=sight.owner)
    if found is None:
        raise NotFound
    return view(JournalEntry.of(found, own))


routes = (list_journals, get_journal)
