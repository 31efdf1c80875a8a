"""The application: routes, guard, errors and edge put together. Wiring of real parts lives in khata/.

Pages plug in as Litestar ``InitPlugin``s: each adds its routers (with ``public()`` or ``requires(…)`` as their
options) and its template engine. Shared assets are in ``api/static``, served under ``/static``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import orjson
from litestar import Litestar, Response, get
from litestar.datastructures import CacheControlHeader, State
from litestar.plugins import PluginProtocol
from litestar.static_files import create_static_files_router

from api import openapi
from api.answers import JSON, as_answer
from api.dependencies import AppDependencies
from api.edge import Edge
from api.heads import Heads
from api.oauth import routes as oauth
from api.operation import ApiRequest
from api.policy import Authorize, check_policies, public
from api.problems import answer_problem
from api.routes import (
    access,
    account_changes,
    accounts,
    acts,
    adjustments,
    book_transfers,
    checkout,
    consolidated,
    exports,
    health,
    holds,
    journals,
    log,
    payments,
    periods,
    receipts,
    reports,
    statements,
    transfers,
)

STATIC = Path(__file__).parent / "static"
DOCS_PAGE = (STATIC / "docs" / "index.html").read_bytes()
DOCS_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
BODY_LIMIT = 65_536
ROUTES = (
    *(*oauth.routes, *health.routes, *payments.routes, *checkout.routes),
    *(*holds.routes, *accounts.routes, *journals.routes, *exports.routes),
    *(*statements.routes, *reports.routes),
    *(*transfers.routes, *account_changes.routes),
    *(*adjustments.routes, *periods.routes, *acts.routes, *access.routes),
    *(*log.routes, *receipts.routes),
    *(*book_transfers.routes, *consolidated.routes),
)


def create_app(deps: AppDependencies, *, plugins: Sequence[PluginProtocol] = ()) -> Litestar:
    """The ASGI application on ``deps``. Raises ``PolicyMissing`` if a route does not say who may call it.

    It opens nothing but its own signing keys and closes nothing but its own reads: ``deps`` is ready when it starts.
    """
    app = Litestar(
        route_handlers=[*ROUTES, _static(), get_docs],
        before_request=Authorize(deps.verifier, deps.rate, deps.stranger_rate, deps.access),
        exception_handlers={Exception: answer_problem},
        request_class=ApiRequest.on(deps),
        request_max_body_size=BODY_LIMIT,
        state=State({"deps": deps}),
        on_startup=[deps.keys.start],
        on_shutdown=[deps.reads.close],
        plugins=list(plugins),
        openapi_config=None,
        logging_config=None,
    )
    app.register(_description(app, deps))
    check_policies(app)
    app.asgi_handler = Edge(
        *(Heads(app.asgi_handler), deps.gateway.ids),
        https=deps.issuer.startswith("https:"),
        access=deps.access,
        send_s=deps.send_s,
    )
    return app


def _static():
    return create_static_files_router(
        path="/static",
        directories=[STATIC],
        cache_control=CacheControlHeader(max_age=3600, public=True),
        **public(),
    )


@get("/docs", include_in_schema=False, sync_to_thread=False, **public())
def get_docs() -> Response[bytes]:
    """The description for people: swagger-ui from our own files."""
    headers = {"Content-Security-Policy": DOCS_POLICY}
    return as_answer(DOCS_PAGE, media_type="text/html; charset=utf-8", headers=headers)


def _description(app: Litestar, deps: AppDependencies):
    """``/openapi.json``, made once."""
    document = orjson.dumps(openapi.document(app, issuer=deps.issuer))

    @get("/openapi.json", sync_to_thread=False, **public())
    def get_description() -> Response[bytes]:
        return as_answer(document, media_type=JSON)

    return get_description
