"""What a batch of units is judged against: the touched part of one book, in memory, changed as units pass.

A unit that is refused must leave no trace, so everything it changes is remembered and put back by ``undo``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import NamedTuple
from uuid import UUID

from ledger.canonical import rfc3339
from ledger.errors import AmountTooLarge, InsufficientFunds, VelocityExceeded
from ledger.model import Layer, Source

# Half of what 64 bits hold: posted less outgoing, both at their worst, still fits.
SUM_MAX = 2**62

Balances = tuple[int, int, int, int, int, int]


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
        """Book one line: the next sequence number, the balances after it.

        Raises ``AmountTooLarge``, and ``InsufficientFunds`` when available falls below the floor.
        """
        inflow = debit == self.debit_normal
        self.seq += 1
        if layer:
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
        if (
            self.debits > SUM_MAX
            or self.credits > SUM_MAX
            or self.incoming > SUM_MAX
            or self.outgoing > SUM_MAX
        ):
            raise AmountTooLarge(self.path)
        if self.floor is not None and self.posted - self.outgoing < self.floor:
            needed = 0 if inflow else amount
            raise InsufficientFunds(self.path, self.currency, self.available + needed, self.floor, needed)

    def balances(self) -> Balances:
        return self.seq, self.debits, self.credits, self.posted, self.outgoing, self.incoming

    def restore(self, balances: Balances) -> None:
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


@dataclass(slots=True)
class Limit:
    """A velocity limit in force, and what its window holds so far: minor units, or lines if it ``counts`` them.

    ``debit``: which side of its account it bounds.
    """

    name: str
    debit: bool
    counts: bool
    maximum: int
    window_start: datetime
    used: int


class Stored(NamedTuple):
    """A journal that stands: its number, its id and its canonical line."""

    seq: int
    id: UUID
    canonical: bytes


@dataclass(slots=True)
class State:
    """The touched part of a book as of ``version``; ``before``: the one it was made from.

    ``recorded_at``: the time of this batch, also as text.
    ``posting_type``: the oid of the row type of ``ledger.posting`` in this database.
    ``paths``: those of which every account is here, or there is none. ``whole``: that holds for every path.
    ``read_to``: the accounts up to this number have been read, wanted or not.
    ``limited``: paths of accounts with velocity limits; ``limits``: those in force, by account id and in the order
    of their names.
    """

    book_id: int
    book: str
    version: int
    head: int
    recorded_at: datetime
    closed_through: date | None
    posting_type: int
    accounts: dict[tuple[str, str], Account]
    holds: dict[UUID, Hold]
    sources: dict[Source, Stored]
    journals: dict[int, Stored]
    reversed: set[int]
    paths: set[str] = field(default_factory=set)
    whole: bool = False
    read_to: int = 0
    batches: int = 0
    before: int | None = None
    limited: set[str] = field(default_factory=set)
    limits: dict[int, list[Limit]] = field(default_factory=dict)
    recorded_text: str = field(init=False)
    # What the unit at hand has changed, in order; one account may come several times.
    _accounts_before: list[tuple[Account, Balances]] = field(default_factory=list)
    _holds_before: dict[UUID, tuple[Hold, tuple[int, int, int, int, int]] | None] = field(
        default_factory=dict
    )
    _limits_before: list[tuple[Limit, int]] = field(default_factory=list)
    _head_before: int = 0
    _reversed_now: list[int] = field(default_factory=list)
    # Touched or read by this batch: they may have ended.
    _holds_seen: set[UUID] = field(default_factory=set)
    _holds_seen_before: set[UUID] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.recorded_text = rfc3339(self.recorded_at)
        self._holds_seen |= self.holds.keys()

    def next_batch(self, now: datetime) -> None:
        """Another batch is judged, upon what the last one left."""
        self.batches += 1
        self.recorded_at = max(self.recorded_at, now)
        self.recorded_text = rfc3339(self.recorded_at)
        self.sources.clear()
        self.journals.clear()
        self.limits = {}
        self.reversed.clear()
        # Not all that are open: there may be many. And not yet those that the last batch ended: it may be under way
        # still, and whoever reads them anew would find them as they were.
        for id_ in self._holds_seen_before - self._holds_seen:
            if id_ in self.holds and not self.holds[id_].remaining:
                del self.holds[id_]
        self._holds_seen_before, self._holds_seen = self._holds_seen, set()

    def begin(self) -> None:
        """A new unit: from here on, changes can be undone."""
        self._accounts_before.clear()
        self._holds_before.clear()
        self._reversed_now.clear()
        self._limits_before.clear()
        self._head_before = self.head

    def touch(self, account: Account) -> None:
        self._accounts_before.append((account, account.balances()))

    def learn(self, holds: dict[UUID, Hold]) -> None:
        """Holds that were read."""
        self.holds |= holds
        self._holds_seen |= holds.keys()

    def touch_hold(self, hold: Hold, new: bool = False) -> None:
        if hold.id not in self._holds_before:
            self._holds_before[hold.id] = None if new else (hold, hold.sums())
        self.holds[hold.id] = hold
        self._holds_seen.add(hold.id)

    def reverse(self, seq: int) -> None:
        self.reversed.add(seq)
        self._reversed_now.append(seq)

    def use(self, limit: Limit, account: Account, amount: int) -> None:
        """Count a line of ``account`` in its limit; raises ``VelocityExceeded``."""
        needed = 1 if limit.counts else amount
        if limit.used + needed > limit.maximum:
            raise VelocityExceeded(
                account.path,
                account.currency,
                limit.name,
                limit.window_start,
                limit.used,
                limit.maximum,
                needed,
            )
        self._limits_before.append((limit, limit.used))
        limit.used += needed

    def undo(self) -> None:
        """As if the unit had never come."""
        for limit, used in reversed(self._limits_before):
            limit.used = used
        for account, balances in reversed(self._accounts_before):
            account.restore(balances)
        for hold_id, before in self._holds_before.items():
            if before is None:
                del self.holds[hold_id]
            else:
                before[0].restore(before[1])
        for seq in range(self._head_before + 1, self.head + 1):
            del self.journals[seq]
        self.head = self._head_before
        self.reversed.difference_update(self._reversed_now)
