"""The reference that identifies one message exchange with a bank, and keeps its repeats idempotent there.

Committed by the caller before the first byte is sent (payments.md, "Operation").
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from psycopg import AsyncConnection

from banks.errors import BankUnknown

_STAN = re.compile(r"(?!0{6})[0-9]{6}")
_RRN = re.compile(r"[0-9A-Z]{12}")
_EPOCH = datetime(2020, 1, 1, tzinfo=UTC)
_BASE32 = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford: no I, L, O, U to misread
_MAX_STAN = 999_999
_AT_ONCE = 256
_KEEP = timedelta(seconds=5)

Draw = Callable[[int], Awaitable[Sequence[int]]]


@dataclass(frozen=True, slots=True)
class BankReference:
    """``stan`` (DE 11), ``rrn`` (DE 37) and ``transmitted_at`` (DE 7, UTC, whole seconds)."""

    stan: str
    rrn: str
    transmitted_at: datetime

    def __post_init__(self) -> None:
        if not _STAN.fullmatch(self.stan):
            raise ValueError("a STAN is six digits, 000001 to 999999")
        if not _RRN.fullmatch(self.rrn):
            raise ValueError("an RRN is twelve digits or capital letters")
        if self.transmitted_at.tzinfo is None:
            raise ValueError("transmitted_at needs its zone")
        object.__setattr__(self, "transmitted_at", self.transmitted_at.astimezone(UTC).replace(microsecond=0))

    @property
    def transmission(self) -> str:
        """DE 7: MMDDhhmmss in UTC."""
        at = self.transmitted_at
        return f"{at.month:02d}{at.day:02d}{at.hour:02d}{at.minute:02d}{at.second:02d}"


async def new_reference(conn: AsyncConnection, bank: str, *, now: datetime) -> BankReference:
    """Draw a reference for a message to ``bank``; raises ``BankUnknown``."""
    cursor = await conn.execute("SELECT nextval('banks.reference') FROM banks.bank WHERE code = %s", (bank,))
    row = await cursor.fetchone()
    if row is None:
        raise BankUnknown(bank)
    return reference(row[0], now)


class Numbers:
    """Numbers for references, drawn some at a time: what is drawn is this process's alone.

    None is kept for long: the STAN wraps, and one that was drawn a million numbers ago must not meet its like within
    one second.
    """

    def __init__(self) -> None:
        self._drawn: deque[int] = deque()
        self._drawn_at = _EPOCH
        self._drawing = asyncio.Lock()

    async def reference(self, draw: Draw, *, now: datetime) -> BankReference:
        """A new reference. ``draw(n)``: the next n numbers of the sequence ``banks.reference``."""
        if not self._ready(now):
            async with self._drawing:
                if not self._ready(now):
                    self._drawn = deque(await draw(_AT_ONCE))
                    self._drawn_at = now
                return reference(self._drawn.popleft(), now)
        return reference(self._drawn.popleft(), now)

    def _ready(self, now: datetime) -> bool:
        return bool(self._drawn) and abs(now - self._drawn_at) <= _KEEP


def reference(number: int, now: datetime) -> BankReference:
    """The ``number``-th reference, drawn at ``now``.

    STAN: the number, wrapping at 999999. RRN: the second since 2020 (30 bits, until 2054) and the number
    (30 bits), each as six base-32 digits: one comes again only if a thousand million were drawn within one
    second, and a sequence set back by a restored backup still differs by the second.
    """
    seconds = int((now - _EPOCH).total_seconds())
    if not 0 <= seconds < 2**30:
        raise ValueError("references reach from 2020 to 2054")
    return BankReference(
        stan=f"{number % _MAX_STAN + 1:06d}",
        rrn=_six_digits(seconds) + _six_digits(number % 2**30),
        transmitted_at=now,
    )


def _six_digits(value: int) -> str:
    return "".join([_BASE32[value >> shift & 31] for shift in (25, 20, 15, 10, 5, 0)])
