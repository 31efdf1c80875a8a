"""Reads what a batch touches: under the book's lock, or without it for who goes by the book's version.

One round trip; two under the lock if an account has velocity limits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, LiteralString
from uuid import UUID

from psycopg import AsyncConnection, AsyncCursor

from ledger.errors import BookUnknown
from ledger.model import Capture, Journal, Place, Source, Unit
from ledger.state import Account, Hold, Limit, State, Stored

# Never SELECT … FOR UPDATE as the mutex: on a distributed PostgreSQL that lock can sit on a shard's old placement.
_LOCK = """
UPDATE ledger.book SET recorded_at = greatest(recorded_at, %(now)s) WHERE book_id = %(book)s
RETURNING name, version, head, recorded_at, closed_through, 'ledger.posting'::regtype::oid"""

_SOURCES = "SELECT * FROM ledger.find_sources(%(book)s, %(types)s, %(ids)s, %(events)s)"
_ACCOUNTS = (
    "SELECT * FROM ledger.find_accounts(%(book)s, %(paths)s, %(holds)s::uuid[], %(reversed)s::bigint[])"
)
_AHEAD = """
SELECT a.account_id, a.path, a.currency, a.debit_normal, b.status, b.floor, b.limits, b.seq,
       b.posted_debits, b.posted_credits, b.pending_debits, b.pending_credits
  FROM (SELECT * FROM ledger.account x WHERE x.book_id = %(book)s AND x.account_id > %(after)s
         ORDER BY x.account_id LIMIT %(most)s) AS a
 CROSS JOIN LATERAL (
   SELECT * FROM ledger.balance x WHERE x.book_id = a.book_id AND x.account_id = a.account_id OFFSET 0) AS b
 ORDER BY a.account_id"""
_HOLDS = "SELECT * FROM ledger.find_holds(%(book)s, %(holds)s::uuid[])"

_REVERSED = """
SELECT j.seq, j.id, j.canonical,
       EXISTS (SELECT FROM ledger.journal r WHERE r.book_id = j.book_id AND r.reverses = j.seq)
  FROM ledger.journal j WHERE j.book_id = %(book)s AND j.seq = ANY(%(reversed)s)"""


_VERSION = "SELECT version FROM ledger.book WHERE book_id = %(book)s"

_LIMITED = 6  # the column of ``find_accounts`` that says how many
_LIMITS = "SELECT * FROM ledger.find_limits(%(book)s, %(accounts)s::int[])"


async def load(conn: AsyncConnection[Any], book_id: int, units: Sequence[Unit], *, now: datetime) -> State:
    """Lock the book with a write, then read sources, accounts, holds and journals to reverse.

    Raises ``BookUnknown``. The lock is held until the caller's transaction ends.
    """
    journals = [journal for unit in units for journal in unit.journals]
    holds = [j.hold.hold_id for j in journals if j.hold]
    reverses = [j.reverses for j in journals if j.reverses is not None]
    paths = touched_paths(journals)
    given = {
        "book": book_id,
        "now": now,
        "holds": holds,
        "reversed": reverses,
        "paths": "\n".join(paths),
    }
    given |= _source_columns(journals)
    wanted: dict[str, LiteralString] = {"lock": _LOCK, "sources": _SOURCES, "accounts": _ACCOUNTS}
    if holds:
        wanted["holds"] = _HOLDS
    if reverses:
        wanted["reversed"] = _REVERSED
    rows = await _fetch(conn, wanted, given)
    if not rows["lock"]:
        raise BookUnknown(book_id)
    state = _state(book_id, rows)
    _add_accounts(state, paths, rows["accounts"])
    limited = list({row[0] for row in rows["accounts"] if row[_LIMITED]})
    if limited:
        state.limits = await _limits(conn, book_id, limited)
    return state


async def load_more(conn: AsyncConnection[Any], state: State, units: Sequence[Unit]) -> None:
    """Read, without the lock, the accounts and holds of ``units`` that ``state`` does not know.

    They may be of a later version than ``state``. Then somebody else has written the book, and what is decided upon
    them is refused when it is posted.
    """
    journals = [journal for unit in units for journal in unit.journals]
    paths = set[str]() if state.whole else touched_paths(journals) - state.paths
    holds = [
        j.hold.hold_id
        for j in journals
        if j.hold and not isinstance(j.hold, Place) and j.hold.hold_id not in state.holds
    ]
    if not paths and not holds:
        return
    wanted: dict[str, LiteralString] = {"accounts": _ACCOUNTS}
    if holds:
        wanted["holds"] = _HOLDS
    no_reversals: list[int] = []
    given = {"book": state.book_id, "holds": holds, "reversed": no_reversals, "paths": "\n".join(paths)}
    rows = await _fetch(conn, wanted, given)
    _add_accounts(state, paths, rows["accounts"])
    state.learn({row[0]: _hold(row) for row in rows.get("holds", ())})


async def load_ahead(conn: AsyncConnection[Any], state: State, most: int) -> None:
    """Read the next ``most`` accounts of the book, in the order of their numbers; as ``load_more`` otherwise."""
    given = {"book": state.book_id, "after": state.read_to, "most": most}
    rows = (await _fetch(conn, {"accounts": _AHEAD}, given))["accounts"]
    _add_accounts(state, set(), rows)
    state.whole = len(rows) < most
    if rows:
        state.read_to = rows[-1][0]


async def find_stored(
    conn: AsyncConnection[Any], state: State, units: Sequence[Unit]
) -> tuple[int, dict[Source, Stored]]:
    """The book's version now, and the journals that stand already for the source keys of ``units``."""
    journals = [journal for unit in units for journal in unit.journals]
    given = {"book": state.book_id} | _source_columns(journals)
    rows = await _fetch(conn, {"version": _VERSION, "sources": _SOURCES}, given)
    return rows["version"][0][0], _stored(rows["sources"])


async def _fetch(
    conn: AsyncConnection[Any], wanted: dict[str, LiteralString], given: dict[str, Any]
) -> dict[str, list[Any]]:
    """The rows of each statement, all in one round trip."""
    cursors: dict[str, AsyncCursor[Any]] = {}
    async with conn.pipeline():
        for name, sql in wanted.items():
            # Reversals are rare: planned anew each time, not once for a book that was young then.
            prepare = name != "reversed"
            cursors[name] = await conn.cursor(binary=True).execute(sql, given, prepare=prepare)
    return {name: await cursor.fetchall() for name, cursor in cursors.items()}


async def _limits(
    conn: AsyncConnection[Any], book_id: int, accounts: Sequence[int]
) -> dict[int, list[Limit]]:
    """The limits in force now of these accounts, and what their windows hold."""
    given = {"book": book_id, "accounts": accounts}
    cursor = await conn.cursor(binary=True).execute(_LIMITS, given, prepare=True)
    limits: dict[int, list[Limit]] = {}
    for account, name, side, measure, maximum, window_start, used in await cursor.fetchall():
        limit = Limit(name, side == "debit", measure == "count", maximum, window_start.astimezone(UTC), used)
        limits.setdefault(account, []).append(limit)
    return limits


def touched_paths(journals: Iterable[Journal]) -> set[str]:
    """The accounts that the journals name; those behind a hold that exists already are not among them."""
    paths: set[str] = set()
    for journal in journals:
        for posting in journal.postings:
            paths.add(posting.debit)
            paths.add(posting.credit)
        if isinstance(journal.hold, Place | Capture) and journal.hold.debit and journal.hold.credit:
            paths |= {journal.hold.debit, journal.hold.credit}
    return paths


def _source_columns(journals: Iterable[Journal]) -> dict[str, str]:
    sources = [journal.source for journal in journals]
    return {
        "types": "\n".join([s.type for s in sources]),
        "ids": "\n".join([s.id for s in sources]),
        "events": "\n".join([s.event for s in sources]),
    }


def _state(book_id: int, rows: dict[str, list[Any]]) -> State:
    name, version, head, recorded_at, closed_through, posting_type = rows["lock"][0]
    reversals: list[tuple[int, UUID, str, bool]] = rows.get("reversed", [])
    return State(
        book_id=book_id,
        book=name,
        version=version,
        head=head,
        recorded_at=recorded_at.astimezone(UTC),  # it comes in the session's zone
        closed_through=closed_through,
        posting_type=posting_type,
        accounts={},
        holds={row[0]: _hold(row) for row in rows.get("holds", ())},
        sources=_stored(rows["sources"]),
        journals={seq: Stored(seq, id_, text.encode()) for seq, id_, text, _ in reversals},
        reversed={seq for seq, _, _, done in reversals if done},
    )


def _stored(rows: Iterable[tuple[Any, ...]]) -> dict[Source, Stored]:
    return {Source(*row[:3]): Stored(row[3], row[4], row[5].encode()) for row in rows}


def _add_accounts(state: State, paths: set[str], rows: Iterable[tuple[Any, ...]]) -> None:
    """Those that ``state`` knows stay: it may be ahead of what was read."""
    for row in rows:
        account = _account(row)
        state.accounts.setdefault((account.path, account.currency), account)
        if row[_LIMITED]:
            state.limited.add(account.path)
    state.paths |= paths


def _hold(row: tuple[Any, ...]) -> Hold:
    id_, debit, credit, currency, tolerance_bps, expires_at, *sums = row
    expires_at = expires_at.astimezone(UTC) if expires_at else None
    return Hold(id_, debit, credit, currency, tolerance_bps, expires_at, *sums)


def _account(row: tuple[Any, ...]) -> Account:
    (
        id_,
        path,
        currency,
        debit_normal,
        status,
        floor,
        _limits,
        seq,
        debits,
        credits,
        pending_debits,
        pending_credits,
    ) = row
    if debit_normal:
        posted, outgoing, incoming = debits - credits, pending_credits, pending_debits
    else:
        posted, outgoing, incoming = credits - debits, pending_debits, pending_credits
    return Account(
        id_, path, currency, debit_normal, status, floor, seq, debits, credits, posted, outgoing, incoming
    )
