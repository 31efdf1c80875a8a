"""Token buckets, one a caller, in this process.

Each API process counts for itself: behind N processes a client may reach N times the rate. A limit across
workers belongs in front of them or in the database, and comes with high availability.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime
from math import ceil

from api.errors import RateLimited

_MOST_CALLERS = 10_000


class RateLimit:
    """At most ``burst`` requests at once and ``per_second`` in the long run, for each caller."""

    def __init__(self, *, per_second: float, burst: int, clock: Callable[[], datetime]) -> None:
        self._per_second = per_second
        self._burst = float(burst)
        self._clock = clock
        # Least recently seen first, so that forgetting the oldest forgets a full bucket.
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str) -> None:
        """Take one token of ``caller``; raises ``RateLimited`` when none is left."""
        now = self._clock().timestamp()
        tokens, at = self._buckets.pop(caller, (self._burst, now))
        tokens = min(self._burst, tokens + max(0.0, now - at) * self._per_second)
        allowed = tokens >= 1
        self._buckets[caller] = (tokens - 1 if allowed else tokens, now)
        if len(self._buckets) > _MOST_CALLERS:
            self._buckets.popitem(last=False)
        if not allowed:
            raise RateLimited(max(1, ceil((1 - tokens) / self._per_second)))
