"""What a batch of units is judged against: the touched part of one book, in memory, changed as units pass.

A unit that is refused must leave no trace, so everything it changes is remembered and put back by ``undo``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from uuid import UUID

from ledger.errors import AmountTooLarge
from ledger.model import Layer, Source

# Half of what 64 bits hold: posted less outgoing, both at their worst, still fits.
SUM_MAX = 2**62


@dataclass(slots=True)
class Account:
    """An account's facts and balances; amounts in minor units.

    ``posted`` is signed by the account's normal side; ``outgoing`` and ``incoming`` are its pending flows.
    ``debits`` and ``credits`` are the gross posted sums, kept only to see a 64-bit overflow coming.
    """

    id: int
    path: str
    currency: str
    debit_normal: bool
    status: str
    floor: int | None
    seq: int
    debits: int
    credits: int
    posted: int
    outgoing: int
    incoming: int

    @property
    def available(self) -> int:
        return self.posted - self.outgoing

    def add(self, amount: int, layer: Layer, debit: bool) -> None:
        """Book one line: the next sequence number, the balances after it."""
        inflow = debit == self.debit_normal
        self.seq += 1
        if layer is Layer.PENDING:
            if inflow:
                self.incoming += amount
            else:
                self.outgoing += amount
        else:
            self.posted += amount if inflow else -amount
            if debit:
                self.debits += amount
            else:
                self.credits += amount
        if max(self.debits, self.credits, self.incoming, self.outgoing) > SUM_MAX:
            raise AmountTooLarge(self.path)

    def balances(self) -> tuple[int, int, int, int, int, int]:
        return self.seq, self.debits, self.credits, self.posted, self.outgoing, self.incoming

    def restore(self, balances: tuple[int, int, int, int, int, int]) -> None:
        self.seq, self.debits, self.credits, self.posted, self.outgoing, self.incoming = balances


@dataclass(slots=True)
class Hold:
    """A hold's terms and what became of it. ``captured`` exceeds ``consumed`` by what was captured over it."""

    id: UUID
    debit: str
    credit: str
    currency: str
    tolerance_bps: int
    expires_at: datetime | None
    held: int = 0
    consumed: int = 0
    captured: int = 0
    released: int = 0
    expired: int = 0

    @property
    def remaining(self) -> int:
        return self.held - self.consumed - self.released - self.expired

    @property
    def capturable(self) -> int:
        """What captures may still take: what was never given back, with the tolerance, less what they took."""
        kept = self.held - self.released - self.expired
        return kept + kept * self.tolerance_bps // 10_000 - self.captured

    def sums(self) -> tuple[int, int, int, int, int]:
        return self.held, self.consumed, self.captured, self.released, self.expired

    def restore(self, sums: tuple[int, int, int, int, int]) -> None:
        self.held, self.consumed, self.captured, self.released, self.expired = sums


@dataclass(frozen=True, slots=True)
class Stored:
    """A journal that stands: its number, its id and its canonical line."""

    seq: int
    id: UUID
    canonical: bytes


@dataclass(slots=True)
class State:
    """The touched part of a book, under its lock. ``recorded_at`` is the time of this batch."""

    book_id: int
    book: str
    head: int
    recorded_at: datetime
    closed_through: date | None
    accounts: dict[tuple[str, str], Account]
    holds: dict[UUID, Hold]
    sources: dict[Source, Stored]
    journals: dict[int, Stored]
    reversed: set[int]
    _accounts_before: dict[int, tuple[Account, tuple[int, int, int, int, int, int]]] = field(
        default_factory=dict
    )
    _holds_before: dict[UUID, tuple[Hold, tuple[int, int, int, int, int]] | None] = field(
        default_factory=dict
    )
    _head_before: int = 0
    _reversed_before: frozenset[int] = frozenset()

    def begin(self) -> None:
        """A new unit: from here on, changes can be undone."""
        self._accounts_before.clear()
        self._holds_before.clear()
        self._head_before = self.head
        self._reversed_before = frozenset(self.reversed) if self.reversed else frozenset()

    def touch(self, account: Account) -> None:
        if account.id not in self._accounts_before:
            self._accounts_before[account.id] = (account, account.balances())

    def touch_hold(self, hold: Hold, new: bool = False) -> None:
        if hold.id not in self._holds_before:
            self._holds_before[hold.id] = None if new else (hold, hold.sums())
        self.holds[hold.id] = hold

    def undo(self) -> None:
        """As if the unit had never come."""
        for account, balances in self._accounts_before.values():
            account.restore(balances)
        for hold_id, before in self._holds_before.items():
            if before is None:
                del self.holds[hold_id]
            else:
                before[0].restore(before[1])
        for seq in range(self._head_before + 1, self.head + 1):
            del self.journals[seq]
        self.head = self._head_before
        self.reversed = set(self._reversed_before)
