"""Posting without the book's lock: decide upon what the last batch left, and let the database compare.

Whoever wrote a book last knows it. Its next batch is decided in memory and sent with the version that it was decided
upon; if anybody else has written the book since, the database refuses it whole (KH036), and what was known is
forgotten. So a batch costs one round trip, and the next may be decided and sent before it is committed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection

from ledger import wire
from ledger.decide import decide, replay
from ledger.errors import Refusal
from ledger.load import find_stored, load_ahead, load_more, touched_paths
from ledger.model import Result, Unit
from ledger.points import WRITER_POSTED, reach
from ledger.state import State
from ledger.statements import Group, run_groups, statement_groups
from ledger.store import append, encode

MOST_KNOWN = 100_000
"""Accounts and holds that are kept in memory; then they are read anew."""


SETTLED, AHEAD = 32, 1000
"""After so many batches upon one memory, the rest of the book's accounts is read, so many with each batch."""

_LEADER = -1  # beside the locks of versions, none of which is negative (migrations, ``ledger.append``)


@dataclass(frozen=True, slots=True)
class Batch:
    """Units with what was decided of them. ``row``: the parameters of ``append``, None if nothing stands.

    ``version``: the book's after it; the same as before it if nothing stands. ``follows``: as ``append`` takes it.
    ``groups``: the callers' statements.
    """

    state: State
    units: Sequence[Unit]
    results: list[Result]
    rows: list[bytes] | None
    version: int
    follows: int | None
    groups: Sequence[Group] = ()

    def calls(self) -> list[wire.Call]:
        return [group.call for group in self.groups if group.call is not None]


def can_judge(state: State, units: Sequence[Unit]) -> bool:
    """Whether ``state`` is enough to decide of ``units``: not of reversals, nor where velocity limits bind."""
    if len(state.accounts) + len(state.holds) > MOST_KNOWN:
        return False
    journals = [journal for unit in units for journal in unit.journals]
    if any(journal.reverses is not None for journal in journals):
        return False
    if not state.limited:
        return True
    paths = touched_paths(journals)
    for journal in journals:
        hold = state.holds.get(journal.hold.hold_id) if journal.hold else None
        if hold is not None:
            paths |= {hold.debit, hold.credit}
    return state.limited.isdisjoint(paths)


async def lead(conn: AsyncConnection[Any], book_id: int) -> bool:
    """Be the one who posts to this book without its lock, for as long as ``conn`` lives; False if somebody is already.

    Two at once would only stand in each other's way, with rows written and rows to wait for.
    """
    cursor = await conn.execute("SELECT pg_try_advisory_lock(%s, %s)", [book_id, _LEADER])
    row = await cursor.fetchone()
    return row is not None and row[0]


async def judge(
    conn: AsyncConnection[Any], state: State, units: Sequence[Unit], *, now: datetime
) -> Batch | None:
    """Decide of ``units``; ``state`` is then what the book will be. None if that cannot be decided without the lock."""
    state.next_batch(now)
    if state.batches > SETTLED and not state.whole and len(state.accounts) < MOST_KNOWN:
        await load_ahead(conn, state, AHEAD)
    await load_more(conn, state, units)
    if not can_judge(state, units):
        return None
    expected = state.version
    decisions = decide(state, units)
    if not decisions.journals:
        return Batch(state, units, decisions.results, None, expected, None)
    follows, state.before = state.before, expected
    rows = encode(state, decisions)
    groups = statement_groups(units, decisions.results)
    return Batch(state, units, decisions.results, rows, state.version, follows, groups)


async def send(conn: AsyncConnection[Any], batch: Batch) -> None:
    """Send what stands, with those statements that run together; ``written`` waits. ``conn`` is in autocommit mode."""
    if batch.rows is None:
        return
    rows = append(batch.rows, follows=batch.follows)
    if batch.groups:
        await wire.send_begin(conn, [rows, *batch.calls()])
    else:
        await wire.send_call(conn, rows)


async def written(conn: AsyncConnection[Any], batch: Batch) -> None:
    """Wait until what was sent is written, and committed.

    Raises ``psycopg.Error`` (KH036: the book is at another version) and ``StatementRefused``: nothing stands, or it is
    unknown because the connection is lost.
    """
    if batch.rows is None:
        return
    if not batch.groups:
        await wire.answer(conn)
        return
    sent = [group for group in batch.groups if group.call is not None]
    _, *answers = await wire.answers_of_begin(conn, 1 + len(sent))
    for group, answer in zip(sent, answers, strict=True):
        group.check([answer.command_tuples])
    await run_groups(conn, [group for group in batch.groups if group.call is None])
    reach(WRITER_POSTED)
    await wire.commit(conn)


async def confirm(conn: AsyncConnection[Any], batch: Batch, ours: Sequence[int]) -> list[Result] | None:
    """The results once ``batch`` and those before it are committed; None if the book is not what it was decided upon.

    What is refused may stand already: a replay comes first (ADR 2). And a refusal must be of the book as it is: if
    nothing of the batch was written, nobody compared. ``ours``: the batch's version, and those that follow from it.
    """
    refused = [n for n, result in enumerate(batch.results) if isinstance(result, Refusal)]
    if not refused:
        return batch.results
    version, stored = await find_stored(conn, batch.state, [batch.units[n] for n in refused])
    if batch.rows is None and version not in ours:
        return None
    results = list(batch.results)
    for n in refused:
        try:
            results[n] = replay(stored, batch.units[n]) or results[n]
        except Refusal as conflict:
            results[n] = conflict
    return results
