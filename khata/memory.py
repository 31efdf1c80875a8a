"""How often a long-running process looks for cyclic garbage."""

from __future__ import annotations

import gc

# Net new containers before the youngest, the middle and the oldest are searched.
YOUNG, MIDDLE, OLD = 100_000, 50, 1_000


def collect_rarely() -> None:
    """Call once everything is loaded and open.

    A batch of journals is tens of thousands of small objects and hardly a cycle: with Python's own thresholds the
    search for cycles takes a third of the time it takes to post them.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)
