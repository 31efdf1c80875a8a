"""Manual adjustments: proposed by one person, approved or rejected by another."""

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
from api.schemas.ledger import BookQuery
from api.schemas.people import AdjustmentEntry, AdjustmentList, NewAdjustmentBody, ProposalsQuery, VerdictBody
from ledger import adjustments, proposals
from ledger.acts import By
from ledger.proposals import Kind

_TAG = "Adjustments"
_PLATFORM = Audience.PLATFORM


@post(
    "/v1/adjustments",
    **changes(
        *(Scope.ADJUSTMENTS_WRITE, "Propose an adjustment", _TAG, AdjustmentEntry, NewAdjustmentBody),
        audience=_PLATFORM,
        status=201,
    ),
)
async def propose_adjustment(request: ApiRequest) -> Response[bytes]:
    """Nothing is booked before somebody else approves it; balances are judged then."""
    body = await request.read(NewAdjustmentBody)
    adjustment = body.adjustment()
    proposal_id = (await once_of(request, None, "adjustment_propose")).id

    async def act(conn: Conn, book_id: int, by: By) -> AdjustmentEntry:
        return AdjustmentEntry.of(await adjustments.propose(conn, book_id, proposal_id, adjustment, by))

    return await act_once(request, "adjustment_propose", body.book, body.reason, act, status=201)


@get(
    "/v1/adjustments",
    **reads(
        *(Scope.ADJUSTMENTS_READ, "Adjustments, newest first", _TAG, AdjustmentList),
        audience=_PLATFORM,
        query=ProposalsQuery,
    ),
)
async def list_adjustments(request: ApiRequest) -> Response[bytes]:
    """Those that wait for a verdict, or all."""
    asked = request.asked(ProposalsQuery)
    sight = await sight_of(request.deps, request.auth, asked.book)
    async with request.deps.pool.connection() as conn:
        page = await proposals.page(
            *(conn, sight.book_id, Kind.ADJUSTMENT),
            before=asked.before,
            limit=asked.limit,
            open_only=asked.status == "open",
        )
    data = [AdjustmentEntry.of(p) for p in page]
    following = next_before(page, asked.limit, lambda p: p.number)
    return view(AdjustmentList.model_construct(data=data, next=following))


@get(
    "/v1/adjustments/{proposal_id:str}",
    **reads(
        *(Scope.ADJUSTMENTS_READ, "One adjustment", _TAG, AdjustmentEntry),
        audience=_PLATFORM,
        query=BookQuery,
    ),
)
async def get_adjustment(request: ApiRequest, proposal_id: FromPath[str]) -> Response[bytes]:
    """With its verdict and its journal, once there are."""
    sight = await sight_of(request.deps, request.auth, request.asked(BookQuery).book)
    async with request.deps.pool.connection() as conn:
        found = await proposals.found(conn, sight.book_id, Kind.ADJUSTMENT, uuid_in(proposal_id))
    return view(AdjustmentEntry.of(found))


@post(
    "/v1/adjustments/{proposal_id:str}/approve",
    **changes(
        *(Scope.APPROVALS_WRITE, "Approve and book an adjustment", _TAG, AdjustmentEntry, VerdictBody),
        audience=_PLATFORM,
    ),
)
async def approve_adjustment(request: ApiRequest, proposal_id: FromPath[str]) -> Response[bytes]:
    """By another client than the one that proposed it. If the journal is refused, the proposal stays open."""
    body, id_ = await request.read(VerdictBody), uuid_in(proposal_id)

    async def act(conn: Conn, book_id: int, by: By) -> AdjustmentEntry:
        journal_id = request.deps.gateway.ids()
        return AdjustmentEntry.of(await adjustments.approve(conn, book_id, id_, by, journal_id=journal_id))

    return await act_once(request, "adjustment_approve", body.book, body.reason, act)


@post(
    "/v1/adjustments/{proposal_id:str}/reject",
    **changes(
        *(Scope.APPROVALS_WRITE, "Reject an adjustment", _TAG, AdjustmentEntry, VerdictBody),
        audience=_PLATFORM,
    ),
)
async def reject_adjustment(request: ApiRequest, proposal_id: FromPath[str]) -> Response[bytes]:
    """By another client than the one that proposed it."""
    body, id_ = await request.read(VerdictBody), uuid_in(proposal_id)

    async def act(conn: Conn, book_id: int, by: By) -> AdjustmentEntry:
        return AdjustmentEntry.of(await proposals.reject(conn, book_id, Kind.ADJUSTMENT, id_, by))

    return await act_once(request, "adjustment_reject", body.book, body.reason, act)


routes = (propose_adjustment, list_adjustments, get_adjustment, approve_adjustment, reject_adjustment)
