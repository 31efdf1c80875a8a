"""Who may call what: each route declares a policy, one guard enforces it.

A route without a policy stops the application from being built (``check_policies``), so nothing is open by
having been forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypedDict
from uuid import UUID

from litestar import Request
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.routes import HTTPRoute

from api.errors import AudienceWrong, PolicyMissing, ScopeMissing, TokenInvalid, TokenMissing

if TYPE_CHECKING:
    from litestar import Litestar

    from api.access import AccessLog
    from api.limits import RateLimit
    from api.oauth.tokens import TokenVerifier

POLICY = "policy"


class Scope(StrEnum):
    """OAuth scopes; the text is what a client asks for."""

    PAYMENTS_READ = "payments:read"
    PAYMENTS_WRITE = "payments:write"
    REFUNDS_WRITE = "refunds:write"
    HOLDS_READ = "holds:read"
    HOLDS_WRITE = "holds:write"
    TRANSFERS_WRITE = "transfers:write"
    ACCOUNTS_READ = "accounts:read"
    ACCOUNTS_WRITE = "accounts:write"
    JOURNALS_READ = "journals:read"
    EXPORTS_READ = "exports:read"
    ADJUSTMENTS_READ = "adjustments:read"
    ADJUSTMENTS_WRITE = "adjustments:write"
    PERIODS_READ = "periods:read"
    PERIODS_WRITE = "periods:write"
    APPROVALS_WRITE = "approvals:write"
    ACTS_READ = "acts:read"
    ACCESS_READ = "access:read"


SCOPE_MEANING = {
    Scope.PAYMENTS_READ: "Read payments and refunds",
    Scope.PAYMENTS_WRITE: "Create, confirm, capture and void payments; open checkout sessions",
    Scope.REFUNDS_WRITE: "Refund payments",
    Scope.HOLDS_READ: "Read holds on ledger accounts",
    Scope.HOLDS_WRITE: "Place, capture, increase and release holds on ledger accounts",
    Scope.TRANSFERS_WRITE: "Transfer between ledger accounts",
    Scope.ACCOUNTS_WRITE: "Freeze and close accounts, set their floors and velocity limits",
    Scope.ACCOUNTS_READ: "Read accounts, balances and statements",
    Scope.JOURNALS_READ: "Read journals",
    Scope.EXPORTS_READ: "Export the whole journal of a book",
    Scope.ADJUSTMENTS_READ: "Read manual adjustments",
    Scope.ADJUSTMENTS_WRITE: "Propose manual adjustments",
    Scope.PERIODS_READ: "Read which periods are closed",
    Scope.PERIODS_WRITE: "Close periods and propose to reopen them",
    Scope.APPROVALS_WRITE: "Approve or reject what others proposed",
    Scope.ACTS_READ: "Read the log of what people did",
    Scope.ACCESS_READ: "Read who looked at what, and who was turned away",
}
PLATFORM_ONLY = frozenset(
    {
        *(Scope.EXPORTS_READ, Scope.ADJUSTMENTS_READ, Scope.ADJUSTMENTS_WRITE, Scope.PERIODS_READ),
        *(Scope.PERIODS_WRITE, Scope.APPROVALS_WRITE, Scope.ACTS_READ, Scope.ACCOUNTS_WRITE),
        Scope.ACCESS_READ,
    }
)
MERCHANT_SCOPES = frozenset(Scope) - PLATFORM_ONLY
# An auditor reads everything and changes nothing.
AUDITOR_SCOPES = frozenset(scope for scope in Scope if scope.value.endswith(":read"))


class Audience(StrEnum):
    """Which clients may call: a merchant's, the platform's own (auditor, operator), or both."""

    MERCHANT = "merchant"
    PLATFORM = "platform"
    ANY = "any"


@dataclass(frozen=True, slots=True)
class Policy:
    """``scope`` None: open to everybody."""

    scope: Scope | None
    audience: Audience = Audience.ANY


@dataclass(frozen=True, slots=True)
class Principal:
    """The client behind a verified access token. ``merchant_id`` None: a platform client."""

    client_id: str
    merchant_id: UUID | None
    scopes: frozenset[str]


class RouteOptions(TypedDict):
    """Keyword arguments of a route decorator (or of a Router, for all its routes)."""

    opt: dict[str, Any]


def requires(scope: Scope, audience: Audience = Audience.ANY) -> RouteOptions:
    """``@get("/v1/…", **requires(Scope.PAYMENTS_READ, Audience.MERCHANT))``."""
    return {"opt": {POLICY: Policy(scope, audience)}}


def public() -> RouteOptions:
    """Open to everybody, on purpose."""
    return {"opt": {POLICY: Policy(None)}}


def judge(policy: Policy, principal: Principal) -> None:
    """Raise unless ``principal`` may: the scope first, then the kind of client."""
    if policy.scope is not None and policy.scope.value not in principal.scopes:
        raise ScopeMissing(policy.scope.value)
    kind = Audience.PLATFORM if principal.merchant_id is None else Audience.MERCHANT
    if policy.audience not in (Audience.ANY, kind):
        raise AudienceWrong(policy.audience.value)


def bearer_token(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Of a request's headers, their names in lower case (ASGI); of several, the first."""
    found = [value for name, value in headers if name == b"authorization"]
    if not found:
        raise TokenMissing
    scheme, _, token = found[0].decode("latin-1").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise TokenInvalid("the Authorization header does not carry a bearer token")
    return token.strip()


class Authorize:
    """Runs before every route: verifies the token, takes from the client's rate, judges the policy, and writes down
    that a platform client is let in (``api.access``). ``strangers``: the rate of each address without a good token.

    A ``before_request`` hook and not a guard: Litestar copies the route's whole declaration for each call of a guard,
    which takes longer than all of this. A route could put a hook of its own in this one's place: ``check_policies``
    refuses an application with such a route.
    """

    def __init__(
        self, verifier: TokenVerifier, rate: RateLimit, strangers: RateLimit, access: AccessLog
    ) -> None:
        self._verifier = verifier
        self._rate = rate
        self._strangers = strangers
        self._access = access

    async def __call__(self, request: Request[Any, Any, Any]) -> None:
        handler = request.route_handler
        policy: Policy | None = handler.opt.get(POLICY)
        if policy is None:
            # Only the OPTIONS answers that Litestar adds by itself; check_policies saw all others.
            if request.method == "OPTIONS":
                return
            raise PolicyMissing(str(handler))
        if policy.scope is None:
            return
        try:
            principal = await self._verifier.verify(bearer_token(request.scope["headers"]))
        except (TokenMissing, TokenInvalid):
            # Each attempt is written down: nobody may fill the log as fast as it can be asked.
            self._strangers.take(request.client.host if request.client else "unknown")
            raise
        request.scope["auth"] = principal
        self._rate.take(principal.client_id)
        judge(policy, principal)
        if principal.merchant_id is None:
            await self._access.admit(request.scope)


def routes_of(app: Litestar) -> Iterable[tuple[str, str, BaseRouteHandler]]:
    """(method, path, handler) of each route that somebody wrote; method is the scope type if it is not HTTP."""
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for handler in route.route_handlers:
                yield from (
                    (m, route.path_format, handler) for m in sorted(handler.http_methods) if m != "OPTIONS"
                )
        else:
            yield route.scope_type.value, route.path_format, route.route_handler


def check_policies(app: Litestar) -> None:
    """Raise ``PolicyMissing`` naming the first route that does not say who may call it, or would not ask."""
    for method, path, handler in routes_of(app):
        asks = (
            isinstance(handler, HTTPRouteHandler) and handler.resolve_before_request() is app.before_request
        )
        if not asks or not isinstance(handler.opt.get(POLICY), Policy):
            raise PolicyMissing(f"{method} {path}")
