"""The access log: who looked at what, and who was turned away."""

from __future__ import annotations

from litestar import Response, get

from api.access import read
from api.answers import view
from api.operation import ApiRequest, reads
from api.policy import Audience, Scope
from api.schemas.access import AccessEntry, AccessList, AccessQuery


@get(
    "/v1/access-log",
    **reads(
        *(Scope.ACCESS_READ, "Who looked at what, newest first", "Access log", AccessList),
        audience=Audience.PLATFORM,
        query=AccessQuery,
        problems=(),
    ),
)
async def list_accesses(request: ApiRequest) -> Response[bytes]:
    """Every call of a platform client and every denied attempt, over all books; this call's own entry is the first."""
    asked = request.asked(AccessQuery)
    async with request.deps.pool.connection() as conn:
        page = await read(
            conn,
            before=asked.before,
            limit=asked.limit,
            person=asked.person,
            denied=asked.outcome == "denied",
        )
    following = page[-1].entry_id if len(page) == asked.limit else None
    return view(AccessList.model_construct(data=[AccessEntry.of(a) for a in page], next=following))


routes = (list_accesses,)
