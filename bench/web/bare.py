"""What the API's figures are set against: one Litestar route that does nothing, or (``raw``) a socket that answers.

``python -m bench.web.bare litestar PORT`` runs uvicorn as ``khata serve`` does. ``raw`` parses nothing: its rate is the
most that the load client can ask for.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvicorn
import uvloop
from litestar import Litestar, Response, get

from khata.memory import collect_rarely

BODY = b'{"merchant":"mer_01k9z0v8h7e2q4s6t8w0x2y4z6","data":[{"currency":"INR","pending":0,"payable":0}]}'
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(BODY)


@get("/v1/balance")
async def answer() -> Response[bytes]:
    """Bytes that are ready, as the API's routes return them."""
    return Response(BODY, media_type="application/json")


def run_litestar(port: int) -> None:
    app = Litestar(route_handlers=[answer], openapi_config=None, logging_config=None)
    config = uvicorn.Config(
        app,
        port=port,
        http="httptools",
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
    )
    collect_rarely()
    uvloop.run(uvicorn.Server(config).serve())


class Raw(asyncio.Protocol):
    """Answers each segment it receives: the load client sends one request a segment and waits."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        self._transport.write(HEAD + BODY)


async def run_raw(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Raw, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    if sys.argv[1] == "litestar":
        run_litestar(int(sys.argv[2]))
    else:
        uvloop.run(run_raw(int(sys.argv[2])))
