"""The log of acts: what people did to the books."""

from __future__ import annotations

from litestar import Response, get

from api.answers import view
from api.books import sight_of
from api.operation import ApiRequest, reads
from api.people import next_before
from api.policy import Audience, Scope
from api.schemas.people import ActEntry, ActList, ActsQuery
from ledger.acts import acts


@get(
    "/v1/acts",
    **reads(
        *(Scope.ACTS_READ, "What people did, newest first", "Acts", ActList),
        audience=Audience.PLATFORM,
        query=ActsQuery,
    ),
)
async def list_acts(request: ApiRequest) -> Response[bytes]:
    """Who did what to what, when and why."""
    asked = request.asked(ActsQuery)
    sight = await sight_of(request.deps, request.auth, asked.book)
    async with request.deps.pool.connection() as conn:
        page = await acts(
            *(conn, sight.book_id),
            before=asked.before,
            limit=asked.limit,
            person=asked.person,
            subject=asked.subject,
        )
    following = next_before(page, asked.limit, lambda act: act.act)
    return view(ActList.model_construct(data=[ActEntry.of(a) for a in page], next=following))


routes = (list_acts,)
