"""Closing periods, and reopening them by two people."""

from __future__ import annotations

from litestar import Response, get, post
from litestar.params import FromPath

from api.answers import view
from api.books import sight_of
from api.once import once_of
from api.operation import ApiRequest, changes, reads
from api.paths import uuid_in
from api.people import Conn, act_once, next_before
from api.policy import Audience, Scope
from api.schemas.people import (
    CloseBody,
    PeriodEntry,
    PeriodList,
    PeriodsQuery,
    ProposalsQuery,
    ReopeningBody,
    ReopeningEntry,
    ReopeningList,
    VerdictBody,
)
from ledger import periods, proposals
from ledger.acts import By
from ledger.proposals import Kind

_TAG = "Periods"
_PLATFORM = Audience.PLATFORM


@get(
    "/v1/periods",
    **reads(
        *(Scope.PERIODS_READ, "Closes and reopenings, newest first", _TAG, PeriodList),
        audience=_PLATFORM,
        query=PeriodsQuery,
    ),
)
async def list_periods(request: ApiRequest) -> Response[bytes]:
    """The first one says what is closed now."""
    asked = request.asked(PeriodsQuery)
    sight = await sight_of(request.deps, request.auth, asked.book)
    async with request.deps.pool.connection() as conn:
        page = await periods.facts(conn, sight.book_id, before=asked.before, limit=asked.limit)
    following = next_before(page, asked.limit, lambda fact: fact.fact)
    return view(PeriodList.model_construct(data=[PeriodEntry.of(f) for f in page], next=following))


@post(
    "/v1/periods/close",
    **changes(
        *(Scope.PERIODS_WRITE, "Close a period", _TAG, PeriodEntry, CloseBody),
        audience=_PLATFORM,
        status=201,
    ),
)
async def close_period(request: ApiRequest) -> Response[bytes]:
    """From then on no journal counts in its days. The trial balance it leaves behind is kept as a hash."""
    body = await request.read(CloseBody)

    async def act(conn: Conn, book_id: int, by: By) -> PeriodEntry:
        return PeriodEntry.of(await periods.close(conn, book_id, by, through=body.through))

    return await act_once(request, "period_close", body.book, body.reason, act, status=201)


@post(
    "/v1/periods/reopenings",
    **changes(
        *(Scope.PERIODS_WRITE, "Propose to reopen a period", _TAG, ReopeningEntry, ReopeningBody),
        audience=_PLATFORM,
        status=201,
    ),
)
async def propose_reopening(request: ApiRequest) -> Response[bytes]:
    """Nothing is reopened before somebody else approves it."""
    body = await request.read(ReopeningBody)
    proposal_id = (await once_of(request, None, "reopening_propose")).id

    async def act(conn: Conn, book_id: int, by: By) -> ReopeningEntry:
        made = await periods.propose_reopening(conn, book_id, proposal_id, by, through=body.through)
        return ReopeningEntry.of(made)

    return await act_once(request, "reopening_propose", body.book, body.reason, act, status=201)


@get(
    "/v1/periods/reopenings",
    **reads(
        *(Scope.PERIODS_READ, "Proposed reopenings, newest first", _TAG, ReopeningList),
        audience=_PLATFORM,
        query=ProposalsQuery,
    ),
)
async def list_reopenings(request: ApiRequest) -> Response[bytes]:
    """Those that wait for a verdict, or all."""
    asked = request.asked(ProposalsQuery)
    sight = await sight_of(request.deps, request.auth, asked.book)
    async with request.deps.pool.connection() as conn:
        page = await proposals.page(
            *(conn, sight.book_id, Kind.REOPENING),
            before=asked.before,
            limit=asked.limit,
            open_only=asked.status == "open",
        )
    data = [ReopeningEntry.of(p) for p in page]
    following = next_before(page, asked.limit, lambda p: p.number)
    return view(ReopeningList.model_construct(data=data, next=following))


@post(
    "/v1/periods/reopenings/{proposal_id:str}/approve",
    **changes(
        *(Scope.APPROVALS_WRITE, "Approve a reopening", _TAG, ReopeningEntry, VerdictBody),
        audience=_PLATFORM,
    ),
)
async def approve_reopening(request: ApiRequest, proposal_id: FromPath[str]) -> Response[bytes]:
    """By another client than the one that proposed it, as long as the book is closed as it was then."""
    body, id_ = await request.read(VerdictBody), uuid_in(proposal_id)

    async def act(conn: Conn, book_id: int, by: By) -> ReopeningEntry:
        return ReopeningEntry.of(await periods.approve_reopening(conn, book_id, id_, by))

    return await act_once(request, "reopening_approve", body.book, body.reason, act)


@post(
    "/v1/periods/reopenings/{proposal_id:str}/reject",
    **changes(
        *(Scope.APPROVALS_WRITE, "Reject a reopening", _TAG, ReopeningEntry, VerdictBody),
        audience=_PLATFORM,
    ),
)
async def reject_reopening(request: ApiRequest, proposal_id: FromPath[str]) -> Response[bytes]:
    """By another client than the one that proposed it."""
    body, id_ = await request.read(VerdictBody), uuid_in(proposal_id)

    async def act(conn: Conn, book_id: int, by: By) -> ReopeningEntry:
        return ReopeningEntry.of(await proposals.reject(conn, book_id, Kind.REOPENING, id_, by))

    return await act_once(request, "reopening_reject", body.book, body.reason, act)


routes = (
    list_periods,
    close_period,
    propose_reopening,
    list_reopenings,
    approve_reopening,
    reject_reopening,
)
