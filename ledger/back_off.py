"""Waiting longer after each try in vain, in the memory of one process: what is stuck leaves its turn to the others."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

FIRST, LONGEST = timedelta(seconds=1), timedelta(minutes=5)


@dataclass(slots=True)
class BackOff:
    """Of each thing that was tried in vain, when it may be tried again and how long that wait is."""

    _waits: dict[Hashable, tuple[datetime, timedelta]] = field(
        default_factory=dict[Hashable, tuple[datetime, timedelta]]
    )

    def due(self, what: Hashable, now: datetime) -> bool:
        return what not in self._waits or self._waits[what][0] <= now

    def in_vain(self, what: Hashable, now: datetime) -> None:
        """The first wait, or twice the last one."""
        wait = min(2 * self._waits[what][1], LONGEST) if what in self._waits else FIRST
        self._waits[what] = (now + wait, wait)

    def forget(self, now: datetime) -> None:
        """What nobody has asked for since long before: it has ended."""
        self._waits = {what: wait for what, wait in self._waits.items() if now - wait[0] <= LONGEST}
