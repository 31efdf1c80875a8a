"""HEAD on the transparency log's routes: answered as the GET of the same path, without its body.

Plain ASGI around the application, so that no route is declared twice. In the access log the caller is let in to a GET,
which is what is carried out.
"""

from __future__ import annotations

import re
from typing import Any, cast

from litestar.types import ASGIApp, Message, Receive, Scope, Send

_LOG = re.compile(r"/v1/(?:books/[^/]+/)?log/")


class Heads:
    """``Heads(app)`` answers like ``app``, and HEAD where the log is like GET."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD" or not _LOG.match(scope["path"]):
            await self._app(scope, receive, send)
            return
        # A copy: the server must still see HEAD, or it waits for the body that the length announces.
        inner = cast("dict[str, Any]", {**scope, "method": "GET"})

        async def without_body(message: Message) -> None:
            if message["type"] == "http.response.start":
                cast("dict[str, Any]", scope).update(inner | {"method": "HEAD"})
            elif message["type"] == "http.response.body":
                message["body"] = b""
            await send(message)

        await self._app(cast(Scope, inner), receive, without_body)
