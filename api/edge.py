"""The outermost ASGI function: request id, security headers, access log, last resort.

Plain ASGI and not a Litestar middleware: it also sees requests that match no route, and costs microseconds.
The log carries the route's template, never the path (a checkout link is a secret), the query, a body or a header.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, MutableMapping
from time import perf_counter
from typing import Any, cast
from uuid import UUID

import structlog
from litestar.types import ASGIApp, HTTPScope, Message, Receive, ReceiveMessage, Scope, Send

from api.access import AccessLog
from api.errors import CallerGone
from api.problems import DENIED, MEDIA_TYPE, document, report

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
_LEFT = 499
_HSTS = (b"strict-transport-security", b"max-age=31536000; includeSubDomains")
_REQUEST_ID = b"x-request-id"
_NAMES = frozenset({*dict(_DEFAULTS), _HSTS[0], _REQUEST_ID})


class Edge:
    """``Edge(app, ids, https=…)`` answers like ``app``, and always with an answer, unless nobody reads it.

    A denial is in ``access`` before it is told. ``send_s``: how long a part of an answer may wait for the caller to
    read what was sent before it.
    """

    def __init__(
        self,
        app: ASGIApp,
        ids: Callable[[], UUID],
        *,
        https: bool,
        access: AccessLog | None = None,
        send_s: float | None = None,
    ) -> None:
        self._app = app
        self._ids = ids
        self.access = access
        self.unread = _Unread(send_s)
        self.defaults = (*_DEFAULTS, _HSTS) if https else _DEFAULTS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = _Exchange(scope, (receive, send), str(self._ids()), self)
        started = perf_counter()
        try:
            await self._app(scope, request.receive, request.send)
        except Exception as error:
            request.left = request.left or _given_up(error)
            if not request.left:
                report(error, request.id, 500)
                await request.fail(error)
        except asyncio.CancelledError:
            request.left = True
            raise
        finally:
            _log(scope, request, perf_counter() - started)


class _Sending:
    """A part of an answer on its way. ``given_up``: it took too long, so its task was cancelled."""

    __slots__ = ("given_up", "since", "task")

    def __init__(self, task: asyncio.Task[Any], since: float) -> None:
        self.task = task
        self.since = since
        self.given_up = False


class _Unread:
    """Gives up what nobody reads for ``limit_s`` (None: never), at the latest after twice that time.

    One timer for all answers: one of its own for each costs more than it takes to send it.
    """

    def __init__(self, limit_s: float | None) -> None:
        self._limit_s = limit_s
        self._under_way: set[_Sending] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> _Sending:
        loop = self._loop = self._loop or asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None
        sending = _Sending(task, loop.time())
        self._under_way.add(sending)
        if self._timer is None and self._limit_s is not None:
            self._timer = loop.call_later(self._limit_s, self._look, loop, self._limit_s)
        return sending

    def end(self, sending: _Sending) -> None:
        self._under_way.discard(sending)

    def _look(self, loop: asyncio.AbstractEventLoop, limit_s: float) -> None:
        for sending in self._under_way:
            if loop.time() - sending.since >= limit_s and not sending.given_up:
                sending.given_up = True
                sending.task.cancel()
        self._timer = loop.call_later(limit_s, self._look, loop, limit_s) if self._under_way else None


class _Exchange:
    """One request and what has been answered so far. ``left``: the caller went away before the end of it."""

    def __init__(
        self,
        scope: Scope,
        wires: tuple[Receive, Send],
        id: str,
        edge: Edge,
    ) -> None:
        self.id = id
        self.status = 0
        self.left = False
        self._whole = False
        self._receive, self._send = wires
        self._scope = scope
        self._edge = edge
        self._defaults = (*edge.defaults, (_REQUEST_ID, id.encode()))
        state: MutableMapping[str, Any] = scope  # type: ignore[assignment]  # our own key beside ASGI's
        state["khata.request_id"] = id

    async def receive(self) -> ReceiveMessage:
        message = await self._receive()
        if message["type"] == "http.disconnect" and not self._whole:
            self.left = True
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            denied = self._scope.get(DENIED)
            if denied is not None and self._edge.access is not None:
                await self._edge.access.deny(cast(HTTPScope, self._scope), cast(str, denied))
            headers = list(message.get("headers", ()))
            given = {name.lower() for name, _ in headers}
            # A page or a static file brings its own policy; nothing goes out without one.
            defaults = self._defaults
            if not given.isdisjoint(_NAMES):
                defaults = [pair for pair in defaults if pair[0] not in given]
            message["headers"] = [*headers, *defaults]
        sending = self._edge.unread.begin()
        try:
            await self._send(message)
        except asyncio.CancelledError:
            if not sending.given_up:
                raise
            sending.task.uncancel()
            raise CallerGone("what was sent is not read") from None
        finally:
            self._edge.unread.end(sending)
        self._whole = message["type"] == "http.response.body" and not message.get("more_body")

    async def fail(self, error: Exception) -> None:
        """Answer what nobody caught, unless an answer is under way already."""
        if self.status:
            return
        status, body, extra = document(error, self.id)
        headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
        headers += [(name.lower().encode(), value.encode()) for name, value in extra.items()]
        await self.send({"type": "http.response.start", "status": status, "headers": headers})  # type: ignore[arg-type]
        await self.send({"type": "http.response.body", "body": body, "more_body": False})


def _given_up(error: BaseException) -> bool:
    """Whether ``CallerGone`` is what ended an answer: by then others have put their own errors around it."""
    if isinstance(error, BaseExceptionGroup):
        return any(map(_given_up, cast(BaseExceptionGroup[BaseException], error).exceptions))
    return isinstance(error, CallerGone) or (error.__cause__ is not None and _given_up(error.__cause__))


def _log(scope: Any, request: _Exchange, seconds: float) -> None:
    principal = scope.get("auth")
    log.info(
        "request",
        request_id=request.id,
        method=scope["method"],
        route=scope.get("path_template") or "unmatched",
        status=_LEFT if request.left else request.status,
        ms=round(seconds * 1000, 2),
        client_id=getattr(principal, "client_id", None),
    )
