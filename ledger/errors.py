"""Why the ledger refuses: one root, facts as attributes, a stable ``code``.

A ``Refusal`` is an expected outcome: ``post`` returns it as a value, one unit at a time, and the books are
as if the unit had never come. Everything else is raised.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import date, datetime
from typing import ClassVar
from uuid import UUID


class LedgerError(Exception):
    """Root of every error of this package. ``code`` never changes once published."""

    code: ClassVar[str] = "ledger_error"


@dataclass(unsafe_hash=True)
class InvalidEntry(LedgerError):
    """A journal, posting or hold that cannot exist at all; raised when it is built."""

    code: ClassVar[str] = "invalid_entry"
    field: str
    reason: str

    def __str__(self) -> str:
        return f"{self.field}: {self.reason}"


@dataclass(unsafe_hash=True)
class FormatUnavailable(LedgerError):
    """An export that needs a library which is not installed here."""

    code: ClassVar[str] = "format_unavailable"
    format: str
    library: str

    def __str__(self) -> str:
        return f"{self.format} needs {self.library}: pip install 'khata[{self.format}]'"


@dataclass(unsafe_hash=True)
class BookUnknown(LedgerError):
    code: ClassVar[str] = "book_unknown"
    book_id: int

    def __str__(self) -> str:
        return f"there is no book {self.book_id}"


@dataclass(unsafe_hash=True)
class NotRecorded(LedgerError):
    """What was known at a journal that the book does not have yet cannot be told: the answer would change."""

    code: ClassVar[str] = "not_recorded"
    reason: str

    def __str__(self) -> str:
        return self.reason


@dataclass(unsafe_hash=True)
class TransferUnknown(LedgerError):
    code: ClassVar[str] = "transfer_unknown"
    book_id: int
    transfer_id: UUID

    def __str__(self) -> str:
        return f"book {self.book_id} has sent no transfer {self.transfer_id}"


@dataclass(unsafe_hash=True)
class Overloaded(LedgerError):
    """The writer's queue is full; nothing was written, try again later."""

    code: ClassVar[str] = "overloaded"
    queued: int

    def __str__(self) -> str:
        return f"{self.queued} units are waiting already"


@dataclass(unsafe_hash=True)
class WriterClosed(LedgerError):
    code: ClassVar[str] = "writer_closed"

    def __str__(self) -> str:
        return "the writer has been closed; nothing was written"


@dataclass(unsafe_hash=True)
class LedgerUnavailable(LedgerError):
    """The database cannot be reached. Whether the unit stands is unknown: submit it again, its source key decides."""

    code: ClassVar[str] = "ledger_unavailable"

    def __str__(self) -> str:
        return "the database cannot be reached; submit the same unit again"


@dataclass(unsafe_hash=True)
class DatabaseRefused(LedgerError):
    """The database's own guards (SQLSTATE class KH, constraints) refused a batch: a bug or an attack, such as a
    journal id used twice; never a business outcome."""

    code: ClassVar[str] = "database_refused"
    sqlstate: str
    message: str

    def __str__(self) -> str:
        return f"{self.sqlstate}: {self.message}"


@dataclass(unsafe_hash=True)
class JournalUnreadable(LedgerError):
    """The journal's canonical line is none: somebody wrote it past this package. The audit tells what is wrong."""

    code: ClassVar[str] = "journal_unreadable"
    journal_seq: int

    def __str__(self) -> str:
        return f"the canonical line of journal {self.journal_seq} cannot be read"


@dataclass(unsafe_hash=True)
class EntryMissing(LedgerError):
    """An entry that the log has is gone: somebody wrote past this package. The audit tells what else is wrong."""

    code: ClassVar[str] = "entry_missing"
    book_id: int
    source: str

    def __str__(self) -> str:
        return f"book {self.book_id} has not all entries of {self.source} that its log has"


@dataclass(unsafe_hash=True)
class NotInTransaction(LedgerError):
    """``post`` was given a connection that would commit each statement by itself: a bug of the caller."""

    code: ClassVar[str] = "not_in_transaction"

    def __str__(self) -> str:
        return "the connection is in autocommit mode, outside a transaction"


@dataclass(unsafe_hash=True)
class Refusal(LedgerError):
    """A unit judged and refused; it left no trace.

    ``index``: which of the unit's journals broke it, ``line``: which line of that one (a hold's come first), each
    from 0; None where that is not known, or no line is to blame.
    """

    code: ClassVar[str] = "refused"

    def __post_init__(self) -> None:
        # No fields: the same refusal is equal wherever in a unit it came.
        self.index: int | None = None
        self.line: int | None = None

    def __str__(self) -> str:
        facts = ", ".join(f"{f.name}={getattr(self, f.name)}" for f in fields(self))
        return f"{self.code}: {facts}"


@dataclass(unsafe_hash=True)
class SourceConflict(Refusal):
    """The source key is taken by a journal with other content."""

    code: ClassVar[str] = "source_conflict"
    source: str
    journal_seq: int | None


@dataclass(unsafe_hash=True)
class AccountUnknown(Refusal):
    code: ClassVar[str] = "account_unknown"
    account: str
    currency: str


@dataclass(unsafe_hash=True)
class AccountFrozen(Refusal):
    code: ClassVar[str] = "account_frozen"
    account: str


@dataclass(unsafe_hash=True)
class AccountClosed(Refusal):
    code: ClassVar[str] = "account_closed"
    account: str


@dataclass(unsafe_hash=True)
class PeriodClosed(Refusal):
    code: ClassVar[str] = "period_closed"
    effective_on: date
    closed_through: date


@dataclass(unsafe_hash=True)
class InsufficientFunds(Refusal):
    """Available would fall below the account's floor. Amounts in minor units."""

    code: ClassVar[str] = "insufficient_funds"
    account: str
    currency: str
    available: int
    floor: int
    needed: int


@dataclass(unsafe_hash=True)
class VelocityExceeded(Refusal):
    """``used`` and ``needed`` are together more than the limit's ``maximum`` for the window that began at
    ``window_start``: minor units, or lines."""

    code: ClassVar[str] = "velocity_exceeded"
    account: str
    currency: str
    limit: str
    window_start: datetime
    used: int
    maximum: int
    needed: int


@dataclass(unsafe_hash=True)
class AmountTooLarge(Refusal):
    """A sum of the account would leave its range (2**62 minor units)."""

    code: ClassVar[str] = "amount_too_large"
    account: str


@dataclass(unsafe_hash=True)
class HoldUnknown(Refusal):
    code: ClassVar[str] = "hold_unknown"
    hold_id: UUID


@dataclass(unsafe_hash=True)
class HoldExists(Refusal):
    code: ClassVar[str] = "hold_exists"
    hold_id: UUID


@dataclass(unsafe_hash=True)
class HoldEnded(Refusal):
    """Nothing is left to capture, increase or release."""

    code: ClassVar[str] = "hold_ended"
    hold_id: UUID


@dataclass(unsafe_hash=True)
class HoldExpired(Refusal):
    """Past ``expires_at``, also when no job has expired it yet."""

    code: ClassVar[str] = "hold_expired"
    hold_id: UUID
    expired_at: datetime


@dataclass(unsafe_hash=True)
class HoldNotExpired(Refusal):
    code: ClassVar[str] = "hold_not_expired"
    hold_id: UUID
    expires_at: datetime | None


@dataclass(unsafe_hash=True)
class HoldExceeded(Refusal):
    """More asked for than the hold (with its tolerance, for a capture) still allows. Minor units."""

    code: ClassVar[str] = "hold_exceeded"
    hold_id: UUID
    requested: int
    allowed: int


@dataclass(unsafe_hash=True)
class AlreadyReversed(Refusal):
    code: ClassVar[str] = "already_reversed"
    journal_seq: int


@dataclass(unsafe_hash=True)
class JournalUnknown(Refusal):
    code: ClassVar[str] = "journal_unknown"
    journal_seq: int


@dataclass(unsafe_hash=True)
class NotReversible(Refusal):
    """Journals that hold or release are undone by hold operations, not by reversal."""

    code: ClassVar[str] = "not_reversible"
    journal_seq: int


@dataclass(unsafe_hash=True)
class StatementRefused(Refusal):
    """A caller's statement hit another number of rows than it promised, or the database refused it."""

    code: ClassVar[str] = "statement_refused"
    statement: str
    reason: str


@dataclass(unsafe_hash=True)
class LimitFixed(LedgerError):
    """A limit of that name bounds another side, measure or window; those never change."""

    code: ClassVar[str] = "limit_fixed"
    account: str
    currency: str
    limit: str

    def __str__(self) -> str:
        return (
            f"{self.account} {self.currency}: limit {self.limit} bounds something else; choose another name"
        )


@dataclass(unsafe_hash=True)
class FactRefused(LedgerError):
    """A change of floor or status that the account's balances forbid; ``rule`` names the constraint."""

    code: ClassVar[str] = "fact_refused"
    account: str
    currency: str
    rule: str

    def __str__(self) -> str:
        return f"{self.account} {self.currency}: {self.rule}"


@dataclass(unsafe_hash=True)
class ProposalUnknown(LedgerError):
    code: ClassVar[str] = "proposal_unknown"
    proposal_id: UUID

    def __str__(self) -> str:
        return f"there is no such proposal as {self.proposal_id}"


@dataclass(unsafe_hash=True)
class ProposalConflict(LedgerError):
    """The id stands for a proposal with another content, reason or proposer."""

    code: ClassVar[str] = "proposal_conflict"
    proposal_id: UUID

    def __str__(self) -> str:
        return f"{self.proposal_id} stands for another proposal"


@dataclass(unsafe_hash=True)
class ProposalDecided(LedgerError):
    code: ClassVar[str] = "proposal_decided"
    proposal_id: UUID
    approved: bool
    person: str

    def __str__(self) -> str:
        return f"{self.person} {'approved' if self.approved else 'rejected'} {self.proposal_id} already"


@dataclass(unsafe_hash=True)
class SamePerson(LedgerError):
    """Who proposed it may not decide it."""

    code: ClassVar[str] = "same_person"
    proposal_id: UUID
    person: str

    def __str__(self) -> str:
        return f"{self.person} proposed {self.proposal_id}: somebody else decides"


@dataclass(unsafe_hash=True)
class PeriodNotOver(LedgerError):
    """``today`` by the book's clock, UTC: only days before it can be closed."""

    code: ClassVar[str] = "period_not_over"
    through: date
    today: date

    def __str__(self) -> str:
        return f"{self.through} is not over: by the book's clock it is {self.today}"


@dataclass(unsafe_hash=True)
class PeriodAlreadyClosed(LedgerError):
    code: ClassVar[str] = "period_already_closed"
    through: date
    closed_through: date

    def __str__(self) -> str:
        return f"{self.through} is closed: the book is closed through {self.closed_through}"


@dataclass(unsafe_hash=True)
class PeriodNotClosed(LedgerError):
    """A reopening that would leave as much closed as there is, or more. ``through`` None: everything reopened."""

    code: ClassVar[str] = "period_not_closed"
    through: date | None
    closed_through: date | None

    def __str__(self) -> str:
        now = f"closed through {self.closed_through}" if self.closed_through else "not closed at all"
        return f"nothing to reopen after {self.through or 'the first day'}: the book is {now}"


@dataclass(unsafe_hash=True)
class ReopeningOutdated(LedgerError):
    """The book was closed or reopened since: what would be reopened is not what was asked for."""

    code: ClassVar[str] = "reopening_outdated"
    proposed_from: date
    closed_through: date | None

    def __str__(self) -> str:
        now = f"closed through {self.closed_through}" if self.closed_through else "not closed at all"
        return f"proposed when the book was closed through {self.proposed_from}; now it is {now}"
