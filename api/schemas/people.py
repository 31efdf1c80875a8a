"""What people do to the books, as clients write and read it: adjustments, periods, the log of acts."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints

from api.schemas.as_of import Day
from api.schemas.base import (
    AccountPath,
    Amount,
    Closed,
    CurrencyCode,
    Description,
    Instant,
    InstantIn,
    Metadata,
    View,
    printable,
)
from api.schemas.holds import InBook
from api.schemas.ledger import BookQuery, Number, PageSize
from ledger.acts import LONGEST_REASON, Act
from ledger.adjustments import MAX_POSTINGS, Adjustment
from ledger.errors import InvalidEntry
from ledger.model import OnClosed, Posting
from ledger.periods import PeriodFact
from ledger.proposals import Proposal, Verdict

Reason = Annotated[
    str,
    StringConstraints(min_length=1, max_length=LONGEST_REASON, pattern=r"\S"),
    AfterValidator(printable),
    Field(description="Why, for the log of acts", examples=["Fee booked twice, ticket 4711"]),
]
Person = Annotated[str, Field(description="The client that did it", examples=["cli_ops"])]
Subject = Annotated[str, StringConstraints(min_length=1, max_length=600), AfterValidator(printable)]
Status = Literal["open", "approved", "rejected"]


class AdjustmentPosting(Closed):
    """`amount` goes from `credit` to `debit`."""

    debit: AccountPath
    credit: AccountPath
    amount: Amount
    currency: CurrencyCode


class NewAdjustmentBody(InBook):
    """A journal to book once somebody else approves it.

    Without `effective_at` it counts from its approval. Where that day is closed then, it is refused, or counts from
    the first open day.
    """

    postings: Annotated[list[AdjustmentPosting], Field(min_length=1, max_length=MAX_POSTINGS)]
    reason: Reason
    description: Description = ""
    metadata: Metadata = Field(default_factory=dict)
    effective_at: InstantIn | None = None
    on_closed: Literal["refuse", "first_open_day"] = "refuse"

    def adjustment(self) -> Adjustment:
        """Raises ``InvalidEntry`` for what no journal can be."""
        return Adjustment(
            tuple(Posting(p.debit, p.credit, p.amount, p.currency) for p in self.postings),
            self.description,
            self.metadata,
            self.effective_at,
            OnClosed(self.on_closed),
        )


class VerdictBody(InBook):
    reason: Reason


class CloseBody(InBook):
    """Close every day up to and including `through`; the day must be over, in UTC by the book's clock."""

    through: Annotated[Day, Field(examples=["2026-10-31"])]
    reason: Reason


class ReopeningBody(InBook):
    """Keep only the days up to and including `through` closed; null: none."""

    through: Annotated[Day | None, Field(examples=["2026-09-30"])]
    reason: Reason


class ProposalsQuery(BookQuery):
    status: Annotated[Literal["open", "all"], Field(description="Those to decide, or all")] = "open"
    before: Annotated[Number | None, Field(ge=1, description="Proposals before this number")] = None
    limit: PageSize = 50


class PeriodsQuery(BookQuery):
    before: Annotated[int | None, Field(ge=1, le=2**31 - 1, description="Facts before this number")] = None
    limit: PageSize = 50


class ActsQuery(BookQuery):
    person: Annotated[str | None, Field(pattern=r"^[!-~]{1,64}$", description="Only this person's")] = None
    subject: Annotated[Subject | None, Field(description="Only those about this id, path or day")] = None
    before: Annotated[Number | None, Field(ge=1, description="Acts before this number")] = None
    limit: PageSize = 50


class VerdictEntry(View):
    """`number`: of its act."""

    number: int
    approved: bool
    person: Person
    reason: str
    decided_at: Instant

    @classmethod
    def of(cls, verdict: Verdict) -> Self:
        return cls.model_construct(
            number=verdict.number,
            approved=verdict.approved,
            person=verdict.person,
            reason=verdict.reason,
            decided_at=verdict.decided_at,
        )


class _ProposalEntry(View):
    """What every proposal says. `number`: of its act, by which proposals are paged."""

    id: UUID
    number: int
    status: Status
    reason: str
    proposer: Person
    proposed_at: Instant
    verdict: VerdictEntry | None


def _said(proposal: Proposal) -> dict[str, Any]:
    return {
        "id": proposal.id,
        "number": proposal.number,
        "status": proposal.status,
        "reason": proposal.reason,
        "proposer": proposal.proposer,
        "proposed_at": proposal.proposed_at,
        "verdict": None if proposal.verdict is None else VerdictEntry.of(proposal.verdict),
    }


class AdjustmentEntry(_ProposalEntry):
    """`journal_seq`: the journal that was booked with the approval.

    `unreadable`: why what was proposed is no adjustment; nothing of it is shown then, and it can only be rejected.
    """

    postings: list[AdjustmentPosting]
    description: str
    metadata: dict[str, str]
    effective_at: Instant | None
    on_closed: Literal["refuse", "first_open_day"]
    journal_seq: int | None
    unreadable: str | None

    @classmethod
    def of(cls, proposal: Proposal) -> Self:
        try:
            return cls._of(proposal, Adjustment.of(proposal.content))
        except InvalidEntry as error:  # written past this code: it must not hide the others
            return cls.model_construct(
                **_said(proposal),
                postings=[],
                description="",
                metadata={},
                effective_at=None,
                on_closed="refuse",
                journal_seq=proposal.journal_seq,
                unreadable=str(error),
            )

    @classmethod
    def _of(cls, proposal: Proposal, adjustment: Adjustment) -> Self:
        postings = [
            AdjustmentPosting.model_construct(
                debit=p.debit, credit=p.credit, amount=p.amount, currency=p.currency
            )
            for p in adjustment.postings
        ]
        return cls.model_construct(
            **_said(proposal),
            postings=postings,
            description=adjustment.description,
            metadata=dict(adjustment.metadata),
            effective_at=adjustment.effective_at,
            on_closed=adjustment.on_closed.value,
            journal_seq=proposal.journal_seq,
            unreadable=None,
        )


class AdjustmentList(View):
    """`next`: pass it as `before` for those that come after."""

    data: list[AdjustmentEntry]
    next: int | None


class ReopeningEntry(_ProposalEntry):
    """From closed through `closed_through` back to closed through `through` (null: nothing closed)."""

    closed_through: date
    through: date | None

    @classmethod
    def of(cls, proposal: Proposal) -> Self:
        through = proposal.content["through"]
        return cls.model_construct(
            **_said(proposal),
            closed_through=date.fromisoformat(proposal.content["closed_through"]),
            through=None if through is None else date.fromisoformat(through),
        )


class ReopeningList(View):
    """`next`: pass it as `before` for those that come after."""

    data: list[ReopeningEntry]
    next: int | None


class PeriodEntry(View):
    """A close or a reopening. `through`: the last closed day from then on; `head`: the last journal before it.

    `trial_balance_hash`: SHA-256 of the trial balance that a close left behind, effective through that day.
    """

    number: int
    action: Literal["close", "reopen"]
    through: date | None
    head: int
    trial_balance_hash: str | None
    proposal_id: UUID | None
    person: Person
    reason: str
    recorded_at: Instant

    @classmethod
    def of(cls, fact: PeriodFact) -> Self:
        digest = fact.trial_balance_hash
        return cls.model_construct(
            number=fact.fact,
            action=fact.action,
            through=fact.through,
            head=fact.head,
            trial_balance_hash=None if digest is None else digest.hex(),
            proposal_id=fact.proposal_id,
            person=fact.person,
            reason=fact.reason,
            recorded_at=fact.recorded_at,
        )


class PeriodList(View):
    """Newest first. `next`: pass it as `before` for those that come after."""

    data: list[PeriodEntry]
    next: int | None


class ActEntry(View):
    """`leaf_hash`: SHA-256(0x00 ‖ the act as one line of RFC 8785 JSON)."""

    number: int
    recorded_at: Instant
    person: Person
    action: Annotated[str, Field(examples=["adjustment_approved"])]
    subject: str
    reason: str
    detail: dict[str, Any]
    leaf_hash: str

    @classmethod
    def of(cls, act: Act) -> Self:
        return cls.model_construct(
            number=act.act,
            recorded_at=act.recorded_at,
            person=act.person,
            action=act.action,
            subject=act.subject,
            reason=act.reason,
            detail=dict(act.detail),
            leaf_hash=act.leaf_hash.hex(),
        )


class ActList(View):
    """Newest first. `next`: pass it as `before` for those that come after."""

    data: list[ActEntry]
    next: int | None
