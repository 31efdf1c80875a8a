"""The outermost ASGI function: request id, security headers, access log, last resort.

Plain ASGI and not a Litestar middleware: it also sees requests that match no route, and costs microseconds.
The log carries the route's template, never the path (a checkout link is a secret), the query, a body or a header.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, MutableMapping
from time import perf_counter
from typing import Any
from uuid import UUID

import structlog
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import MEDIA_TYPE, document, report

log = structlog.get_logger("khata.access")

_DEFAULTS: tuple[tuple[bytes, bytes], ...] = (
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
)
_HSTS = (b"strict-transport-security", b"max-age=31536000; includeSubDomains")


class Edge:
    """``Edge(app, ids, https=…)`` answers like ``app``, and always with an answer."""

    def __init__(self, app: ASGIApp, ids: Callable[[], UUID], *, https: bool) -> None:
        self._app = app
        self._ids = ids
        self._defaults = (*_DEFAULTS, _HSTS) if https else _DEFAULTS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = _Exchange(scope, send, str(self._ids()), self._defaults)
        started = perf_counter()
        try:
            await self._app(scope, receive, request.send)
        except Exception as error:
            report(error, request.id, 500)
            await request.fail(error)
        except asyncio.CancelledError:
            request.status = 499  # the caller hung up
            raise
        finally:
            _log(scope, request, perf_counter() - started)


class _Exchange:
    """One request and what has been answered so far."""

    def __init__(self, scope: Scope, send: Send, id: str, defaults: tuple[tuple[bytes, bytes], ...]) -> None:
        self.id = id
        self.status = 0
        self._send = send
        self._defaults = (*defaults, (b"x-request-id", id.encode()))
        state: MutableMapping[str, Any] = scope  # type: ignore[assignment]  # our own key beside ASGI's
        state["khata.request_id"] = id

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = list(message.get("headers", ()))
            given = {name.lower() for name, _ in headers}
            # A page or a static file brings its own policy; nothing goes out without one.
            message["headers"] = headers + [pair for pair in self._defaults if pair[0] not in given]
        await self._send(message)

    async def fail(self, error: Exception) -> None:
        """Answer what nobody caught, unless an answer is under way already."""
        if self.status:
            return
        status, body, extra = document(error, self.id)
        headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
        headers += [(name.lower().encode(), value.encode()) for name, value in extra.items()]
        await self.send({"type": "http.response.start", "status": status, "headers": headers})  # type: ignore[arg-type]
        await self.send({"type": "http.response.body", "body": body, "more_body": False})


def _log(scope: Any, request: _Exchange, seconds: float) -> None:
    principal = scope.get("auth")
    log.info(
        "request",
        request_id=request.id,
        method=scope["method"],
        route=scope.get("path_template") or "unmatched",
        status=request.status,
        ms=round(seconds * 1000, 2),
        client_id=getattr(principal, "client_id", None),
    )
