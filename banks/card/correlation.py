"""Which answer belongs to which request, with many in flight and answers in any order."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from banks.card.codec import Message
from banks.card.spec import response_to
from banks.outcomes import UnknownReason

Answer = Message | UnknownReason
_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Key:
    """What an acquirer repeats from the request: fields 11, 7 and, where there is one, 37."""

    stan: str
    transmission: str
    rrn: str

    @classmethod
    def of(cls, message: Message) -> Key:
        """Raises ``MalformedMessage`` if fields 11 or 7 are missing."""
        return cls(message.need(11), message.need(7), message.get(37) or "")


@dataclass(slots=True)
class Counters:
    """Since the start of the process. ``late``: answers to requests given up; dropped, never applied."""

    sent: int = 0
    answered: int = 0
    late: int = 0
    unmatched: int = 0
    malformed: int = 0
    connections: int = 0


@dataclass(frozen=True, slots=True)
class _Waiting:
    answer: asyncio.Future[Answer]
    mti: str  # of the answer it waits for


class InFlight:
    """The requests that wait for their answers on one connection."""

    def __init__(self) -> None:
        self._waiting: dict[Key, _Waiting] = {}
        self._given_up: dict[Key, None] = {}  # in order of time, so that the oldest are forgotten first

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, key: Key) -> bool:
        return key in self._waiting

    def add(self, request: Message) -> asyncio.Future[Answer]:
        """Wait for the answer to ``request``, whose key must not be waiting already."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        key = Key.of(request)
        self._given_up.pop(key, None)  # a repeat is waited for again
        self._waiting[key] = _Waiting(answer, response_to(request.mti))
        return answer

    def give_up(self, key: Key) -> None:
        """Wait no longer; an answer that comes now is late. No effect once answered."""
        if self._waiting.pop(key, None) is None:
            return
        self._given_up[key] = None
        while len(self._given_up) > _REMEMBERED:
            del self._given_up[next(iter(self._given_up))]

    def time_out(self, key: Key) -> None:
        """Tell who waits that no answer came in time, and wait no longer. No effect once answered."""
        waiting = self._waiting.get(key)
        if waiting is not None and not waiting.answer.done():
            waiting.answer.set_result(UnknownReason.TIMED_OUT)
        self.give_up(key)

    def is_late(self, key: Key) -> bool:
        return key in self._given_up

    def answer(self, message: Message) -> bool:
        """Hand ``message`` to the request that waits for it; False if none does."""
        waiting = self._waiting.pop(Key.of(message), None)
        if waiting is None:
            return False
        if not waiting.answer.done():
            fits = message.mti == waiting.mti
            waiting.answer.set_result(message if fits else UnknownReason.MISMATCHED)
        return True

    async def drained(self) -> None:
        """Return once nothing waits; the waiters themselves see to it by giving up in time."""
        while self._waiting:
            await asyncio.wait([waiting.answer for waiting in self._waiting.values()])

    def fail_all(self, reason: UnknownReason) -> None:
        """The connection is gone: whoever waits learns that the outcome is unknown."""
        for waiting in self._waiting.values():
            if not waiting.answer.done():
                waiting.answer.set_result(reason)
        self._waiting.clear()
