"""A TCP proxy before the database that cuts connections at chosen places: the network of bad days."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import urlsplit

from psycopg import AsyncConnection

COMMIT = b"COMMIT\x00"
ANSWER_S = 0.2
# (bytes the client is about to send) -> what to do with them
Judge = Callable[[bytes], str]


def pass_on(data: bytes) -> str:
    return "pass"


class Proxy:
    """``judge`` sees everything the client sends: "pass"; "cut" before it is forwarded; "forward and cut" once the
    server has answered it, the answer being lost. One cut, then everything passes."""

    def __init__(self, dsn: str) -> None:
        parts = urlsplit(dsn)
        self._dsn, self._target = dsn, (parts.hostname or "127.0.0.1", parts.port or 5432)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.judge: Judge = pass_on
        self.cuts = 0

    async def connect(self) -> AsyncConnection[Any]:
        return await AsyncConnection.connect(self._dsn, host="127.0.0.1", port=self.port)

    async def up(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def down(self) -> None:
        """Refuse new connections and cut those that are."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection(*self._target)
        lost = asyncio.Event()
        self._writers |= {writer, up_writer}
        try:
            back = asyncio.create_task(self._answers(up_reader, writer, lost))
            await self._requests(reader, up_writer, back, lost)
        finally:
            self._writers -= {writer, up_writer}
            for end in (writer, up_writer):
                end.transport.abort()
            back.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError):
                await back

    async def _requests(
        self,
        reader: asyncio.StreamReader,
        up: asyncio.StreamWriter,
        back: asyncio.Task[None],
        lost: asyncio.Event,
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                verdict = self.judge(data)
                if verdict == "pass":
                    up.write(data)
                    continue
                self.judge = pass_on
                self.cuts += 1
                if verdict == "cut":
                    return
                lost.set()
                up.write(data)
                # Ends with the first answer, which is lost; a piece of a COPY has none.
                await asyncio.wait({back}, timeout=ANSWER_S)
                return

    async def _answers(
        self, up: asyncio.StreamReader, writer: asyncio.StreamWriter, lost: asyncio.Event
    ) -> None:
        while data := await up.read(65536):
            if lost.is_set():
                return
            writer.write(data)


@contextlib.asynccontextmanager
async def proxied(dsn: str) -> AsyncIterator[Proxy]:
    proxy = Proxy(dsn)
    await proxy.up()
    try:
        yield proxy
    finally:
        await proxy.down()
