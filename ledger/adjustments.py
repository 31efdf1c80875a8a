"""Manual adjustments: a journal that one person proposes and another approves. Nothing here commits.

The database books a journal of kind ``adjustment`` only as it was approved (migrations, ``ledger.adjustment_booked``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection

from ledger.acts import By
from ledger.canonical import posting_line, rfc3339
from ledger.errors import InvalidEntry, Refusal
from ledger.model import Journal, OnClosed, Posting, Source, Unit, utc
from ledger.post import post
from ledger.proposals import Kind, Proposal, decide, found, to_decide
from ledger.proposals import propose as propose_anything
from ledger.transfers import CLEARING

KIND = "adjustment"
MAX_POSTINGS = 100
_RESERVED = "adjustment."  # metadata of the journal: which acts proposed and approved it


@dataclass(frozen=True, slots=True)
class Adjustment:
    """The journal to book, without its id; as ``Journal``. Raises ``InvalidEntry``."""

    postings: tuple[Posting, ...]
    description: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    effective_at: datetime | None = None
    on_closed: OnClosed = OnClosed.REFUSE

    def __post_init__(self) -> None:
        if self.effective_at is not None:
            object.__setattr__(self, "effective_at", utc(self.effective_at, "effective_at"))
        if len(self.postings) > MAX_POSTINGS:
            raise InvalidEntry("postings", f"more than {MAX_POSTINGS}")
        if any(posting.up_to for posting in self.postings):
            raise InvalidEntry("postings", "two people agree on an amount, not on as much as is available")
        if any(path.startswith(f"{CLEARING}:") for p in self.postings for path in (p.debit, p.credit)):
            raise InvalidEntry("postings", "only transfers book on clearing accounts between books")
        if any(key.startswith(_RESERVED) for key in self.metadata):
            raise InvalidEntry("metadata", f"keys that start with {_RESERVED} are the ledger's own")
        self.journal(UUID(int=0), UUID(int=0), proposed_act=1, approved_act=2)

    def journal(
        self, journal_id: UUID, proposal_id: UUID, *, proposed_act: int, approved_act: int
    ) -> Journal:
        """It names the two acts by number: a journal holds no name of a person."""
        acts = {f"{_RESERVED}approved_act": str(approved_act), f"{_RESERVED}proposed_act": str(proposed_act)}
        return Journal(
            journal_id,
            KIND,
            Source(KIND, str(proposal_id), "approved"),
            self.postings,
            effective_at=self.effective_at,
            description=self.description,
            metadata={**self.metadata, **acts},
            on_closed=self.on_closed,
        )

    def content(self) -> dict[str, Any]:
        """As a proposal keeps it."""
        return {
            "description": self.description,
            "effective_at": None if self.effective_at is None else rfc3339(self.effective_at),
            "metadata": dict(self.metadata),
            "on_closed": self.on_closed.value,
            "postings": [
                posting_line(p.debit, p.credit, p.amount, p.currency, p.layer) for p in self.postings
            ],
        }

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Adjustment:
        """The inverse of ``content``. Raises ``InvalidEntry`` for what is no adjustment: the database checks the form
        of what is proposed, not every rule of a journal."""
        try:
            at = content["effective_at"]
            return cls(
                tuple(
                    Posting(p["debit"], p["credit"], int(p["amount"]), p["currency"])
                    for p in content["postings"]
                ),
                content["description"],
                content["metadata"],
                None if at is None else datetime.fromisoformat(at),
                OnClosed(content["on_closed"]),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InvalidEntry("content", "not an adjustment") from error


async def propose(
    conn: AsyncConnection[Any],
    book_id: int,
    proposal_id: UUID,
    adjustment: Adjustment,
    by: By,
) -> Proposal:
    """Record the proposal; raises as ``proposals.propose``. Balances are judged when it is approved."""
    return await propose_anything(conn, book_id, Kind.ADJUSTMENT, proposal_id, adjustment.content(), by)


async def approve(
    conn: AsyncConnection[Any],
    book_id: int,
    proposal_id: UUID,
    by: By,
    *,
    journal_id: UUID,
) -> Proposal:
    """Approve and book, both or neither; the same approval again changes nothing.

    Raises as ``proposals.to_decide`` and ``Adjustment.of``, and the ``Refusal`` of the journal (floor, frozen, closed
    period): then the proposal is still open. ``conn`` must not be in autocommit mode.
    """
    proposal = await to_decide(conn, book_id, Kind.ADJUSTMENT, proposal_id, by, approved=True)
    if proposal.journal_seq is None:
        adjustment = Adjustment.of(proposal.content)
        async with conn.transaction():  # a savepoint: a refusal takes the verdict back
            if proposal.verdict is None:
                await decide(conn, book_id, proposal, by, approved=True)
                proposal = await found(conn, book_id, Kind.ADJUSTMENT, proposal_id)
            assert proposal.verdict is not None
            numbers = {"proposed_act": proposal.number, "approved_act": proposal.verdict.number}
            journal = adjustment.journal(journal_id, proposal_id, **numbers)
            [result] = await post(conn, book_id, [Unit((journal,))], now=by.now)
            if isinstance(result, Refusal):
                raise result
    return await found(conn, book_id, Kind.ADJUSTMENT, proposal_id)
