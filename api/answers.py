"""Answers are bytes made once, so that what is kept for a replay is what was sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from litestar import Response
from litestar.response.base import ASGIResponse
from litestar.types import Receive, Scope, Send

from api.schemas.base import View

JSON = "application/json"


class Answer(Response[bytes]):
    """``body`` as it is, with headers that are encoded already: there is nothing left for Litestar to make of it."""

    def __init__(self, body: bytes, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        # Not Litestar's, which is a quarter of a fast request: it prepares what could still be encoded or added.
        self.body = body
        self.status = status
        self.pairs = headers

    def to_asgi_response(self, *given: Any, **named: Any) -> ASGIResponse:
        return self  # type: ignore[return-value]  # an ASGI application, which is all that is asked of it

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": self.pairs})
        await send({"type": "http.response.body", "body": self.body, "more_body": False})


def as_answer(
    body: bytes, *, status: int = 200, media_type: str = JSON, headers: Mapping[str, str] | None = None
) -> Answer:
    """``body`` as it is."""
    pairs = [(b"content-type", media_type.encode()), (b"content-length", str(len(body)).encode())]
    if headers:
        pairs += [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return Answer(body, status, pairs)


def view(model: View) -> Answer:
    return as_answer(model.json_bytes())
