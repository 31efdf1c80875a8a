"""All books together, for platform clients."""

from __future__ import annotations

from litestar import Response, get

from api.answers import view
from api.operation import ApiRequest, reads
from api.policy import Audience, Scope
from api.schemas.books import ConsolidatedQuery, ConsolidatedReport
from ledger.consolidated import consolidated


@get(
    "/v1/reports/consolidated-trial-balance",
    **reads(
        *(Scope.ACCOUNTS_READ, "Consolidated trial balance", "Reports", ConsolidatedReport),
        audience=Audience.PLATFORM,
        query=ConsolidatedQuery,
    ),
)
async def get_consolidated(request: ApiRequest) -> Response[bytes]:
    """The books' trial balances summed, each at one number of its own; what they owe each other is taken out, what
    was on the way between them is named."""
    seqs = request.asked(ConsolidatedQuery).seqs()
    async with request.deps.pool.connection() as conn:
        return view(ConsolidatedReport.of(await consolidated(conn, seqs)))


routes = (get_consolidated,)
