"""The persistent connection to an acquirer: connects, signs on, echoes, connects again when it is lost."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Self

import structlog

from banks.card.codec import Message, encode, frame
from banks.card.correlation import Answer, Counters
from banks.card.session import Limits, Session
from banks.errors import MalformedMessage
from banks.outcomes import NotSentReason

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the acquirer listens and how patient to be with it (seconds)."""

    host: str
    port: int
    response_timeout_s: float = 15.0
    connect_timeout_s: float = 5.0
    ready_timeout_s: float = 1.0  # how long a request waits for a connection before it is not sent
    echo_interval_s: float = 30.0
    backoff_first_s: float = 0.1
    backoff_most_s: float = 10.0
    max_in_flight: int = 512
    tls: ssl.SSLContext | None = None


class Connection:
    """``async with Connection(…) as connection``; entering does not wait for the bank to be there.

    ``random`` gives numbers in [0, 1) that spread the reconnecting of many processes over time.
    """

    def __init__(
        self, endpoint: Endpoint, *, clock: Callable[[], datetime], random: Callable[[], float]
    ) -> None:
        self.counters = Counters()
        self._endpoint, self._clock, self._random = endpoint, clock, random
        self._session: Session | None = None
        self._ready = asyncio.Event()
        self._closing = False
        self._keeper: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._keeper = asyncio.create_task(self._keep_connected(), name="bank-connection")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def ready(self) -> bool:
        """Connected and signed on."""
        return self._session is not None and self._session.alive

    async def exchange(self, request: Message) -> Answer | NotSentReason:
        """Send ``request`` and wait for its answer, within ``response_timeout_s`` once it is written."""
        try:
            data = frame(encode(request))
        except MalformedMessage as error:
            log.error("bank_request_unsendable", field=error.field, reason=error.reason)
            return NotSentReason.UNSENDABLE
        session = await self._ready_session()
        if isinstance(session, NotSentReason):
            return session
        return await session.exchange(request, data)

    async def close(self) -> None:
        """Take no more requests, let those in flight end, sign off and disconnect."""
        self._closing = True
        session = self._session
        if session is not None:
            await session.drain()
            await session.sign_off()
        if self._keeper is not None:
            await _end(self._keeper)

    async def _ready_session(self) -> Session | NotSentReason:
        if self._closing:
            return NotSentReason.CLOSED
        if self._session is not None and self._session.alive:
            return self._session
        try:
            async with asyncio.timeout(self._endpoint.ready_timeout_s):
                while self._session is None or not self._session.alive:
                    self._ready.clear()  # a lost session may not have been noticed by the keeper yet
                    await self._ready.wait()
        except TimeoutError:
            return NotSentReason.DISCONNECTED
        return self._session

    async def _keep_connected(self) -> None:
        failures = 0
        while True:
            served = await self._connect_and_serve()
            failures = 0 if served else failures + 1
            delay_s = min(
                self._endpoint.backoff_most_s, self._endpoint.backoff_first_s * 2 ** min(failures, 20)
            )
            await asyncio.sleep(delay_s * (0.5 + self._random() / 2))

    async def _connect_and_serve(self) -> bool:
        """One connection from start to end; False if it never came to be signed on."""
        end = self._endpoint
        try:
            async with asyncio.timeout(end.connect_timeout_s):
                reader, writer = await asyncio.open_connection(end.host, end.port, ssl=end.tls)
        except (OSError, TimeoutError) as error:
            log.info(
                "bank_unreachable", host=end.host, port=end.port, reason=str(error) or type(error).__name__
            )
            return False
        limits = Limits(end.response_timeout_s, end.echo_interval_s, end.max_in_flight)
        session = Session(reader, writer, limits, self.counters, self._clock)
        reading = asyncio.create_task(session.run(), name="bank-reader")
        try:
            return await self._serve(session, reading)
        finally:
            self._session = None
            await _end(reading)

    async def _serve(self, session: Session, reading: asyncio.Task[None]) -> bool:
        if not await session.sign_on():
            log.warning("bank_sign_on_failed", host=self._endpoint.host, port=self._endpoint.port)
            return False
        self.counters.connections += 1
        self._session = session
        self._ready.set()
        log.info("bank_signed_on", host=self._endpoint.host, port=self._endpoint.port)
        echoing = asyncio.create_task(session.keep_alive(), name="bank-echo")
        try:
            await asyncio.wait({reading})
        finally:
            await _end(echoing)
        return True


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel ``task`` and wait for its end; raises what it failed with, if it had failed."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.result()
