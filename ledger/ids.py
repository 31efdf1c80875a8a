"""Time-ordered ids (UUIDv7, RFC 9562 section 5.7), made from a time and randomness that are passed in."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from uuid import UUID

RANDOM_BYTES = 10


def uuid7(now: datetime, random: bytes) -> UUID:
    """``now`` to the millisecond, then 74 of the 80 bits of ``random``."""
    millis = int(now.timestamp() * 1000)
    value = (millis & (1 << 48) - 1) << 80 | int.from_bytes(random[:RANDOM_BYTES], "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    return UUID(int=value & ~(0x3 << 62) | 0x2 << 62)


class Ids:
    """``ids()`` is a new UUIDv7 at the clock's time; keys made in order also arrive in order in an index.

    Also within one millisecond: what is not above the last id is the one after it (RFC 9562 section 6.2).
    """

    def __init__(self, clock: Callable[[], datetime], random: Callable[[int], bytes] = os.urandom) -> None:
        self._clock = clock
        self._random = random
        self._last = 0

    def __call__(self) -> UUID:
        made = uuid7(self._clock(), self._random(RANDOM_BYTES))
        if made.int <= self._last and made.int >> 80 == self._last >> 80:
            made = UUID(int=self._last + 1)
        self._last = made.int
        return made
