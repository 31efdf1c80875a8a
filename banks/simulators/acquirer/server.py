"""The acquirer's line: books each request before it answers, and misbehaves when asked to."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

import structlog

from banks.card.codec import Message, decode, encode, frame, read_frame
from banks.card.spec import APPROVED, SIGN_OFF, SIGN_ON
from banks.errors import MalformedMessage
from banks.simulators.acquirer.book import Book
from banks.simulators.acquirer.decisions import decider
from banks.simulators.acquirer.requests import Kind, Request, answer_to, read_request
from banks.simulators.cards import (
    CAPTURE_OR_REFUND_FAMILY,
    FIRST_TIME_ONLY,
    REVERSAL_FAMILY,
    Behaviour,
    Magic,
    of_amount,
    of_card,
)

log = structlog.get_logger(__name__)
_RST_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Settings:
    """Faults that concern every request (milliseconds); changed at run time through the control port.

    ``jitter_ms``: each answer waits up to so long at random, so that answers overtake each other.
    """

    latency_ms: int = 0
    jitter_ms: int = 0
    late_ms: int = 20_000
    hang: bool = False  # read requests, do nothing: neither book nor answer

    def changed(self, **values: int | bool) -> Settings:
        """Raises ``ValueError`` on an unknown name or a value out of range."""
        for name, value in values.items():
            now = getattr(self, name, None)
            if now is None or type(value) is not type(now) or not 0 <= value <= 3_600_000:
                raise ValueError(f"{name}: not a setting, or not a value of it")
        return replace(self, **values)


@dataclass(eq=False, slots=True)
class _Link:
    """One client's connection."""

    writer: asyncio.StreamWriter
    signed_on: bool = False

    def send(self, data: bytes) -> None:
        if not self.writer.is_closing():
            self.writer.write(data)

    def reset(self) -> None:
        sock: socket.socket = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)
        self.writer.transport.abort()


@dataclass(eq=False, slots=True)
class Acquirer:
    """Serves ``book``. ``chance`` decides the jitter, so a seed replays it."""

    book: Book
    clock: Callable[[], datetime]
    chance: random.Random
    settings: Settings = field(default_factory=Settings)
    _links: set[_Link] = field(default_factory=set[_Link])
    _seen: set[tuple[str, str, str]] = field(default_factory=set[tuple[str, str, str]])
    _tasks: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from sign-on to its end."""
        link = _Link(writer)
        self._links.add(link)
        try:
            while True:
                self._take(link, decode(await read_frame(reader)))
        except (asyncio.IncompleteReadError, OSError):
            pass  # the client has gone; what it asked for is decided all the same
        except MalformedMessage as error:
            log.warning("client_malformed", field=error.field, reason=error.reason)
        finally:
            self._links.discard(link)
            writer.close()

    def drop_connections(self) -> int:
        """Reset every connection; the number of them."""
        for link in list(self._links):
            link.reset()
        return len(self._links)

    @property
    def connections(self) -> int:
        return len(self._links)

    def _take(self, link: _Link, message: Message) -> None:
        if message.mti == "0800":
            self._network(link, message)
            return
        if not link.signed_on:
            raise MalformedMessage("t", "a request before sign-on")
        task = asyncio.create_task(self._serve(link, message, read_request(message)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _network(self, link: _Link, message: Message) -> None:
        if self.settings.hang:
            return
        code = message.need(70)
        link.signed_on = code == SIGN_ON or (link.signed_on and code != SIGN_OFF)
        link.send(frame(encode(Message("0810", dict(message.fields) | {39: APPROVED}))))

    async def _serve(self, link: _Link, message: Message, request: Request) -> None:
        magic = self._magic(request)
        if self.settings.hang or magic.behaviour in (Behaviour.LOSE_REQUEST, Behaviour.SILENT):
            return
        now = self.clock()
        entry = self.book.book(request, decider(magic.code, now), now)
        if magic.behaviour in (Behaviour.LOSE_ANSWER, Behaviour.SILENT_BOOKED):
            return
        await asyncio.sleep(self._wait_s(magic.behaviour))
        answer = answer_to(message, code=entry.code, authorization_code=entry.authorization_code)
        _ANSWERS.get(magic.behaviour, _answer)(link, answer)

    def _magic(self, request: Request) -> Magic:
        first = request.key not in self._seen
        self._seen.add(request.key)
        if request.kind is Kind.AUTHORIZATION:
            magic = of_card(request.pan or "")
        else:
            family = REVERSAL_FAMILY if request.kind is Kind.REVERSAL else CAPTURE_OR_REFUND_FAMILY
            magic = of_amount(request.amount, family)
        if magic.behaviour in FIRST_TIME_ONLY and not first:
            return Magic(magic.name, Behaviour.NORMAL)
        return magic

    def _wait_s(self, behaviour: Behaviour) -> float:
        wait_ms = self.settings.latency_ms + self.chance.randint(0, self.settings.jitter_ms)
        return (wait_ms + (self.settings.late_ms if behaviour is Behaviour.LATE else 0)) / 1000


def _answer(link: _Link, answer: Message) -> None:
    link.send(frame(encode(answer)))


def _answer_other_amount(link: _Link, answer: Message) -> None:
    _answer(link, Message(answer.mti, dict(answer.fields) | {4: f"{int(answer.need(4)) + 100:012d}"}))


def _reset_in_answer(link: _Link, answer: Message) -> None:
    data = frame(encode(answer))
    link.send(data[: len(data) // 2])
    link.reset()


def _answer_garbage(link: _Link, answer: Message) -> None:
    link.send(frame(b"\xff" * 40))


_ANSWERS: dict[Behaviour, Callable[[_Link, Message], None]] = {
    Behaviour.WRONG_AMOUNT: _answer_other_amount,
    Behaviour.RESET: _reset_in_answer,
    Behaviour.GARBAGE: _answer_garbage,
}
