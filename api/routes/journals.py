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
from ledger.search import search

_TAG = "Journals"


async def own_paths(
    conn: AsyncConnection[Any], sight: Sight, *journals: read.JournalView
) -> frozenset[str] | None:
    """Which accounts of these journals' postings may be shown; None for all."""
    if sight.owner is None:
        return None
    touched = {path for j in journals for posting in j.postings for path in (posting.debit, posting.credit)}
    return await read.owned(conn, sight.book_id, touched, sight.owner)


@get(
    "/v1/journals",
    **reads(Scope.JOURNALS_READ, "Journals, newest first", _TAG, JournalList, query=JournalsQuery),
)
async def list_journals(request: ApiRequest) -> Response[bytes]:
    """Those that fit all that is asked for. A merchant sees those that touch its accounts."""
    asked = request.asked(JournalsQuery)
    sight = await sight_of(request.deps, request.auth, asked.book)
    async with request.deps.pool.connection() as conn:
        found = await search(
            *(conn, sight.book_id, asked.query()),
            before_seq=asked.before,
            limit=asked.limit,
            owner=sight.owner,
        )
        own = await own_paths(conn, sight, *found.journals)
    entries = [JournalEntry.of(journal, own) for journal in found.journals]
    return view(JournalList.model_construct(data=entries, next=found.next_before_seq))


@get(
    "/v1/journals/{journal_id:str}",
    **reads(Scope.JOURNALS_READ, "One journal", _TAG, JournalEntry, query=BookQuery),
)
async def get_journal(request: ApiRequest, journal_id: FromPath[str]) -> Response[bytes]:
    """With its postings, its source and its leaf hash."""
    sight = await sight_of(request.deps, request.auth, request.asked(BookQuery).book)
    async with request.deps.pool.connection() as conn:
        found = await read.journal_by_id(conn, sight.book_id, uuid_in(journal_id), owner=sight.owner)
        if found is None:
            raise NotFound
        own = await own_paths(conn, sight, found)
    return view(JournalEntry.of(found, own))


routes = (list_journals, get_journal)
