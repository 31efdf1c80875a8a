"""The witness over HTTP: two routes, plain ASGI."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from khata.witness.judge import Reply, Witness

log = structlog.get_logger("khata.witness")

BODY_LIMIT = 131_072
_CHECKPOINT = re.compile(r"/([0-9a-f]{64})/checkpoint")

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class WitnessApp:
    """``POST /add-checkpoint`` and ``GET /<SHA-256 of the origin>/checkpoint``."""

    def __init__(self, witness: Witness) -> None:
        self._witness = witness

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            reply = await self._reply(scope["method"], scope["path"], receive)
        except OSError as error:
            log.error("not_remembered", error=type(error).__qualname__, errno=error.errno)
            reply = Reply(503, "the witness cannot write down what it would sign\n")
        body = reply.body.encode()
        headers = [(b"content-type", reply.media_type.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _reply(self, method: str, path: str, receive: Receive) -> Reply:
        asked = _CHECKPOINT.fullmatch(path)
        if path != "/add-checkpoint" and asked is None:
            return Reply(404, "there is nothing here\n")
        if method not in (("GET", "HEAD") if asked else ("POST",)):
            return Reply(405, "this address does not answer that method\n")
        if asked:
            note = self._witness.checkpoint(asked[1])
            return Reply(200, note) if note else Reply(404, "no checkpoint of that log was signed here\n")
        body = await _body(receive)
        return Reply(413, "the body is too large\n") if body is None else self._witness.add_checkpoint(body)


async def _body(receive: Receive) -> bytes | None:
    """None: too large."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > BODY_LIMIT:
            return None
        if not message.get("more_body"):
            return body
