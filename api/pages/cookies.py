"""The one cookie: HttpOnly, SameSite=Strict, and Secure with the ``__Host-`` prefix wherever there is TLS."""

from __future__ import annotations

from litestar.datastructures import Cookie

from api.dependencies import AppDependencies
from api.operation import ApiRequest


def _secure(deps: AppDependencies) -> bool:
    return deps.base_url.startswith("https:")


def _name(deps: AppDependencies) -> str:
    # A browser takes a __Host- cookie only from this host, over TLS, for all paths: no subdomain can plant one.
    return "__Host-khata" if _secure(deps) else "khata"


def token_of(request: ApiRequest) -> str:
    """What the browser brought; empty if nothing."""
    return request.cookies.get(_name(request.deps), "")


def holding(deps: AppDependencies, token: str) -> Cookie:
    """Lives as long as the browser's window; how long it is good for is decided on our side."""
    return Cookie(
        key=_name(deps), value=token, path="/", httponly=True, samesite="strict", secure=_secure(deps)
    )


def gone(deps: AppDependencies) -> Cookie:
    return Cookie(
        key=_name(deps), value="", path="/", httponly=True, samesite="strict", secure=_secure(deps), max_age=0
    )
