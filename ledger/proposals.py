"""What takes two people: one proposes, another approves or rejects. Nothing here commits.

``ledger.adjustments`` and ``ledger.periods`` say what can be proposed. The database keeps every rule again
(migrations, ``ledger.propose`` and ``ledger.decide_proposal``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import orjson
import psycopg
from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row

from ledger.acts import By
from ledger.errors import (
    BookUnknown,
    DatabaseRefused,
    NotInTransaction,
    ProposalConflict,
    ProposalDecided,
    ProposalUnknown,
    SamePerson,
)


class Kind(StrEnum):
    ADJUSTMENT = "adjustment"
    REOPENING = "reopening"


@dataclass(frozen=True, slots=True)
class Verdict:
    """``number``: of the act that gave it."""

    approved: bool
    person: str
    reason: str
    decided_at: datetime
    number: int


@dataclass(frozen=True, slots=True)
class Proposal:
    """``number``: of the act that proposed it; proposals are paged by it. ``verdict`` None: still open.

    ``journal_seq``: the journal of an adjustment that was approved.
    """

    id: UUID
    kind: Kind
    content: Mapping[str, Any]
    reason: str
    proposer: str
    proposed_at: datetime
    number: int
    verdict: Verdict | None
    journal_seq: int | None

    @property
    def status(self) -> str:
        if self.verdict is None:
            return "open"
        return "approved" if self.verdict.approved else "rejected"


_FIND = """
SELECT p.proposal_id, p.kind, p.content, p.reason, p.proposer, p.proposed_at, p.act,
       v.approved, v.person, v.reason AS verdict_reason, v.decided_at, v.act AS verdict_act, j.seq
  FROM ledger.proposal p
  LEFT JOIN ledger.verdict v ON v.book_id = p.book_id AND v.proposal_id = p.proposal_id
  LEFT JOIN ledger.journal j ON v.approved AND j.book_id = p.book_id AND j.source_id = p.proposal_id::text
        AND j.source_type = 'adjustment' AND j.source_event = 'approved'
 WHERE p.book_id = %(book)s AND p.kind = %(kind)s"""
_PAGE = " AND p.act < coalesce(%(before)s, 9223372036854775807)"
_OPEN = " AND v.proposal_id IS NULL"


async def find(conn: AsyncConnection[Any], book_id: int, kind: Kind, proposal_id: UUID) -> Proposal | None:
    async with conn.cursor(row_factory=dict_row) as cursor:
        given = {"book": book_id, "kind": kind.value, "id": proposal_id}
        await cursor.execute(_FIND + " AND p.proposal_id = %(id)s", given)
        row = await cursor.fetchone()
    return None if row is None else _proposal(row)


async def page(
    conn: AsyncConnection[Any],
    book_id: int,
    kind: Kind,
    *,
    before: int | None = None,
    limit: int = 100,
    open_only: bool = True,
) -> list[Proposal]:
    """The newest first, numbered below ``before``."""
    sql = _FIND + _PAGE + (_OPEN if open_only else "") + " ORDER BY p.act DESC LIMIT %(limit)s"
    async with conn.cursor(row_factory=dict_row) as cursor:
        given = {"book": book_id, "kind": kind.value, "before": before, "limit": limit}
        await cursor.execute(sql, given)
        return [_proposal(row) for row in await cursor.fetchall()]


def _proposal(row: dict[str, Any]) -> Proposal:
    decided = row["approved"] is not None
    return Proposal(
        id=row["proposal_id"],
        kind=Kind(row["kind"]),
        content=orjson.loads(row["content"]),
        reason=row["reason"],
        proposer=row["proposer"],
        proposed_at=row["proposed_at"],
        number=row["act"],
        verdict=Verdict(
            row["approved"], row["person"], row["verdict_reason"], row["decided_at"], row["verdict_act"]
        )
        if decided
        else None,
        journal_seq=row["seq"],
    )


async def lock_book(conn: AsyncConnection[Any], book_id: int, *, now: datetime) -> None:
    """The book's lock, as every writer takes it: what is read after it stands until the transaction ends.

    Raises ``NotInTransaction``, ``BookUnknown``.
    """
    if conn.autocommit and conn.info.transaction_status is TransactionStatus.IDLE:
        raise NotInTransaction  # the lock would be gone at once
    cursor = await conn.execute(
        "UPDATE ledger.book SET recorded_at = greatest(recorded_at, %s) WHERE book_id = %s", [now, book_id]
    )
    if cursor.rowcount == 0:
        raise BookUnknown(book_id)


async def propose(
    conn: AsyncConnection[Any],
    book_id: int,
    kind: Kind,
    proposal_id: UUID,
    content: Mapping[str, Any],
    by: By,
) -> Proposal:
    """Record the proposal. The same proposal again (id, content, reason, person) is the one that stands.

    Raises ``ProposalConflict`` when the id stands for another proposal.
    """
    await lock_book(conn, book_id, now=by.now)
    known = await find(conn, book_id, kind, proposal_id)
    if known is None:
        wanted = orjson.dumps(dict(content)).decode()
        await call(
            conn,
            "SELECT ledger.propose(%s, %s, %s, %s::jsonb, %s, %s, %s)",
            [book_id, proposal_id, kind.value, wanted, by.person, by.reason, by.now],
        )
        known = await find(conn, book_id, kind, proposal_id)
        assert known is not None
    elif (known.content, known.reason, known.proposer) != (content, by.reason, by.person):
        raise ProposalConflict(proposal_id)
    return known


async def to_decide(
    conn: AsyncConnection[Any],
    book_id: int,
    kind: Kind,
    proposal_id: UUID,
    by: By,
    *,
    approved: bool,
) -> Proposal:
    """The proposal that ``by`` may decide, under the book's lock; decided if they have, in just this way.

    Raises ``ProposalUnknown``, ``ProposalDecided``, ``SamePerson``, in this order.
    """
    await lock_book(conn, book_id, now=by.now)
    proposal = await find(conn, book_id, kind, proposal_id)
    if proposal is None:
        raise ProposalUnknown(proposal_id)
    verdict = proposal.verdict
    if verdict is not None and (verdict.approved, verdict.person) != (approved, by.person):
        raise ProposalDecided(proposal_id, verdict.approved, verdict.person)
    if proposal.proposer == by.person:
        raise SamePerson(proposal_id, by.person)
    return proposal


async def decide(
    conn: AsyncConnection[Any],
    book_id: int,
    proposal: Proposal,
    by: By,
    *,
    approved: bool,
) -> None:
    """Give the verdict on a proposal that ``to_decide`` returned as open."""
    await call(
        conn,
        "SELECT ledger.decide_proposal(%s, %s, %s, %s, %s, %s, %s)",
        [book_id, proposal.id, proposal.kind.value, approved, by.person, by.reason, by.now],
    )


async def reject(
    conn: AsyncConnection[Any],
    book_id: int,
    kind: Kind,
    proposal_id: UUID,
    by: By,
) -> Proposal:
    """Reject; the same rejection again changes nothing. Raises as ``to_decide``."""
    proposal = await to_decide(conn, book_id, kind, proposal_id, by, approved=False)
    if proposal.verdict is None:
        await decide(conn, book_id, proposal, by, approved=False)
    return await found(conn, book_id, kind, proposal_id)


async def found(conn: AsyncConnection[Any], book_id: int, kind: Kind, proposal_id: UUID) -> Proposal:
    """The proposal; raises ``ProposalUnknown``."""
    proposal = await find(conn, book_id, kind, proposal_id)
    if proposal is None:
        raise ProposalUnknown(proposal_id)
    return proposal


async def call(conn: AsyncConnection[Any], sql: str, given: list[Any]) -> None:
    """Call a function of the ledger; its refusals (SQLSTATE class KH) become ``DatabaseRefused``."""
    try:
        await conn.execute(sql.encode(), given)
    except psycopg.DatabaseError as error:
        if error.sqlstate is not None and error.sqlstate.startswith("KH"):
            raise DatabaseRefused(error.sqlstate, error.diag.message_primary or "") from error
        raise
