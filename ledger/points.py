"""Marked points at which a process can be made to die, as in a power cut: how the chaos tests aim.

``KHATA_CRASH_AT=writer.posted`` kills the process with SIGKILL when it first reaches that point,
``KHATA_CRASH_AT=writer.posted:3`` the third time. Unarmed, a point costs one comparison.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

VARIABLE = "KHATA_CRASH_AT"

RAIL_SENDING = "rail.sending"
"""The operation is committed as sending; no byte has been written."""
RAIL_ANSWERED = "rail.answered"
"""The bank has answered, or not in time; nothing of it is booked."""
WRITER_POSTED = "writer.posted"
"""A batch's rows are written, its transaction is not committed (a batch without statements is one statement: never)."""
WRITER_COMMITTED = "writer.committed"
"""A batch is committed; none of its callers knows."""
RECOVERY_CLAIMED = "recovery.claimed"
"""Due operations are claimed for a lease; nothing has been done for them."""
SETTLEMENT_BOOKED = "settlement.booked"
"""A settlement file's journals are written, their transaction is not committed."""


@dataclass(slots=True)
class _Crash:
    point: str
    times: int


def _armed(text: str | None) -> _Crash | None:
    if not text:
        return None
    point, _, times = text.partition(":")
    return _Crash(point, int(times or 1))


_crash = _armed(os.environ.get(VARIABLE))


def reach(point: str) -> None:
    """Say that ``point`` is reached. Returns, unless this is where the process shall die."""
    if _crash is not None and _crash.point == point:
        _crash.times -= 1
        if _crash.times == 0:
            os.kill(os.getpid(), signal.SIGKILL)
