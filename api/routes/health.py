"""Is the process up, and can it do its work?"""

from __future__ import annotations

from litestar import Response, get

from api.answers import view
from api.operation import ApiRequest, Operation, declares
from api.policy import Policy
from api.schemas.health import HealthView

_TAG = "Health"


@get("/health/live", **declares(Policy(None), Operation("Is the process up?", _TAG, HealthView)))
async def get_liveness(request: ApiRequest) -> Response[bytes]:
    """Says nothing about the database: a process is not restarted because that is away."""
    return view(HealthView(status="ok"))


@get("/health/ready", **declares(Policy(None), Operation("Can it take requests?", _TAG, HealthView)))
async def get_readiness(request: ApiRequest) -> Response[bytes]:
    """503 while the database cannot be reached."""
    async with request.deps.pool.connection(timeout=2.0) as conn:
        await conn.execute("SELECT 1")
    return view(HealthView(status="ok"))


routes = (get_liveness, get_readiness)
