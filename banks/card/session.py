"""One TCP connection to an acquirer, from its first byte to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import cycle

import structlog

from banks.card.codec import Message, decode, encode, frame, read_frame
from banks.card.correlation import Answer, Counters, InFlight, Key
from banks.card.spec import APPROVED, ECHO, SIGN_OFF, SIGN_ON
from banks.errors import MalformedMessage
from banks.outcomes import NotSentReason, UnknownReason

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """``max_in_flight`` requests wait at once, each ``response_timeout_s`` for its answer."""

    response_timeout_s: float
    echo_interval_s: float
    max_in_flight: int


class Session:
    """Sends requests and hands each its answer; ends when the peer, the network or its owner ends it."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        limits: Limits,
        counters: Counters,
        clock: Callable[[], datetime],
    ) -> None:
        self._reader, self._writer = reader, writer
        self._limits, self._counters, self._clock = limits, counters, clock
        self._in_flight = InFlight()
        # Network messages carry no RRN, so their numbers cannot be taken for those of payments.
        self._stans: Iterator[int] = cycle(range(1, 1_000_000))

    @property
    def alive(self) -> bool:
        return not self._writer.is_closing()

    async def exchange(self, request: Message, data: bytes) -> Answer | NotSentReason:
        """Write ``data``, the frame of ``request``, and wait for its answer."""
        key = Key.of(request)
        if key in self._in_flight:
            return UnknownReason.UNANSWERED
        if len(self._in_flight) >= self._limits.max_in_flight and request.mti != "0800":
            return NotSentReason.QUEUE_FULL
        if not self.alive:
            return NotSentReason.DISCONNECTED
        answer = self._in_flight.add(request)
        malformed = self._counters.malformed
        self._counters.sent += 1
        # From here on a byte may be on its way. No drain: what may pile up is bounded by max_in_flight.
        self._writer.write(data)
        # A timer of its own costs a fraction of asyncio.timeout.
        timer = asyncio.get_running_loop().call_later(
            self._limits.response_timeout_s, self._in_flight.time_out, key
        )
        try:
            outcome = await answer
        finally:
            timer.cancel()
            self._in_flight.give_up(key)
        unreadable = outcome is UnknownReason.TIMED_OUT and self._counters.malformed > malformed
        return UnknownReason.UNREADABLE if unreadable else outcome

    async def run(self) -> None:
        """Read answers until the connection ends; then every waiting request is unknown."""
        try:
            while True:
                self._take(await read_frame(self._reader))
        except asyncio.IncompleteReadError:
            log.info("bank_connection_ended", in_flight=len(self._in_flight))
        except (OSError, MalformedMessage) as error:
            log.warning("bank_connection_lost", in_flight=len(self._in_flight), reason=str(error))
        finally:
            self._in_flight.fail_all(UnknownReason.CONNECTION_LOST)
            self.abort()

    async def drain(self) -> None:
        """Wait until no request waits for an answer; it ends, because each has its time-out."""
        await self._in_flight.drained()

    async def sign_on(self) -> bool:
        return await self._network(SIGN_ON)

    async def sign_off(self) -> bool:
        return await self._network(SIGN_OFF)

    async def keep_alive(self) -> None:
        """Echo at each interval; a peer that does not answer is given up, so that nobody waits on it."""
        while True:
            await asyncio.sleep(self._limits.echo_interval_s)
            if not await self._network(ECHO):
                log.warning("bank_echo_unanswered")
                self.abort()
                return

    def abort(self) -> None:
        self._writer.transport.abort()

    def _take(self, body: bytes) -> None:
        """One bad answer must not harm its neighbours: it is counted, and its request times out."""
        try:
            message = decode(body)
            key = Key.of(message)
        except MalformedMessage as error:
            self._counters.malformed += 1
            log.warning("bank_answer_malformed", field=error.field, reason=error.reason)
            return
        if message.mti == "0800":
            self._answer_echo(message)
        elif self._in_flight.answer(message):
            self._counters.answered += 1
        else:
            self._drop(key, message)

    def _drop(self, key: Key, message: Message) -> None:
        """A late approval does not revive a request that was given up: its reversal is already decided."""
        late = self._in_flight.is_late(key)
        if late:
            self._counters.late += 1
        else:
            self._counters.unmatched += 1
        log.warning(
            "bank_answer_dropped",
            late=late,
            mti=message.mti,
            stan=key.stan,
            rrn=key.rrn,
            code=message.get(39),
        )

    def _answer_echo(self, request: Message) -> None:
        answer = Message("0810", dict(request.fields) | {39: APPROVED})
        self._writer.write(frame(encode(answer)))

    async def _network(self, code: str) -> bool:
        now = self._clock().astimezone(UTC)
        request = Message("0800", {7: now.strftime("%m%d%H%M%S"), 11: f"{next(self._stans):06d}", 70: code})
        answer = await self.exchange(request, frame(encode(request)))
        return isinstance(answer, Message) and answer.get(39) == APPROVED and answer.get(70) == code
