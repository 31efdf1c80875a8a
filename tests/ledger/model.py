"""An independent model of one book: the ledger as its documents describe it, with nothing of its implementation.

It keeps only the list of entries. Every balance and every hold is folded from all lines each time it is asked
for, and a unit is tried on a copy that is thrown away when it is refused: slow, and hard to get wrong in the same
way. It imports the ledger's vocabulary (``ledger.model``), nothing else; refusals are codes with facts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from ledger import model as m


class Refused(Exception):
    """Why a unit does not stand: the stable code, and the facts under their published names."""

    def __init__(self, code: str, **facts: Any) -> None:
        super().__init__(code)
        self.outcome = (code, facts)


class Line(NamedTuple):
    """Both sides of one amount; negative where a hold is given back. ``part``: of a hold's lines, what it is."""

    debit: str
    credit: str
    amount: int
    currency: str
    pending: bool = False
    hold_id: UUID | None = None
    part: str | None = None
    up_to: bool = False


@dataclass(frozen=True)
class Entry:
    """A journal that stands."""

    journal: m.Journal
    recorded_at: datetime
    effective_at: datetime
    lines: tuple[Line, ...]


class Position(NamedTuple):
    """An account's figures; ``posted`` on its normal side."""

    seq: int
    posted: int
    available: int
    incoming: int


class Fate(NamedTuple):
    """What became of a hold."""

    held: int
    consumed: int
    captured: int
    released: int
    expired: int

    @property
    def left(self) -> int:
        return self.held - self.consumed - self.released - self.expired


@dataclass(frozen=True)
class AccountTerms:
    floor: int | None
    status: str = "open"


@dataclass(frozen=True)
class Limit:
    """A velocity limit as it was set once ``after`` journals stood."""

    after: int
    path: str
    currency: str
    name: str
    side: str
    measure: str
    window: str
    maximum: int
    active: bool

    def counts(self, line: Line) -> int:
        """What a line uses of it."""
        path = line.debit if self.side == "debit" else line.credit
        if line.pending or (path, line.currency) != (self.path, self.currency):
            return 0
        return 1 if self.measure == "count" else line.amount


Outcome = tuple[str, dict[str, Any]]


@dataclass
class LedgerModel:
    """``accounts`` by path and currency. ``post`` judges and keeps; everything else folds."""

    clock: datetime
    accounts: dict[tuple[str, str], AccountTerms]
    entries: list[Entry] = field(default_factory=list)
    closed_through: date | None = None
    limits: list[Limit] = field(default_factory=list)

    # ------------------------------------------------------------ folding

    def position(self, path: str, currency: str) -> Position:
        seq = posted = incoming = outgoing = 0
        debit_raises = _debit_raises(path)
        for line in self.lines():
            if line.currency != currency or path not in (line.debit, line.credit):
                continue
            seq += 1
            raises = (line.debit == path) == debit_raises
            if not line.pending:
                posted += line.amount if raises else -line.amount
            elif raises:
                incoming += line.amount
            else:
                outgoing += line.amount
        return Position(seq, posted, posted - outgoing, incoming)

    def lines(self) -> Iterator[Line]:
        for entry in self.entries:
            yield from entry.lines

    def placed(self, hold_id: UUID) -> m.Place | None:
        actions = (entry.journal.hold for entry in self.entries)
        return next((a for a in actions if isinstance(a, m.Place) and a.hold_id == hold_id), None)

    def fate(self, hold_id: UUID) -> Fate:
        sums = dict.fromkeys(("held", "consumed", "captured", "released", "expired"), 0)
        for line in self.lines():
            if line.hold_id == hold_id and line.part is not None:
                sums[line.part] += abs(line.amount)
        return Fate(**sums)

    def hold_ids(self) -> list[UUID]:
        return [e.journal.hold.hold_id for e in self.entries if isinstance(e.journal.hold, m.Place)]

    # ------------------------------------------------------------ posting

    def post(self, units: Sequence[m.Unit], now: datetime) -> list[Outcome]:
        """One outcome a unit: ``("posted", …)`` or a refusal's code and facts."""
        self.clock = max(self.clock, now)
        return [self._post_one(unit) for unit in units]

    def _post_one(self, unit: m.Unit) -> Outcome:
        trial = replace(self, entries=list(self.entries))
        try:
            outcome = trial._known(unit) or trial._append(unit)
        except Refused as refused:
            return refused.outcome
        self.entries = trial.entries
        return outcome

    def _known(self, unit: m.Unit) -> Outcome | None:
        standing = {entry.journal.source: seq for seq, entry in enumerate(self.entries, 1)}
        if not any(journal.source in standing for journal in unit.journals):
            return None
        seqs: list[int] = []
        for journal in unit.journals:
            seq = standing.get(journal.source)
            if seq is None or not says_the_same(journal, self.entries[seq - 1]):
                raise Refused("source_conflict", source=str(journal.source), journal_seq=seq)
            seqs.append(seq)
        ids = tuple(self.entries[seq - 1].journal.id for seq in seqs)
        return "posted", {"seqs": tuple(seqs), "ids": ids, "replayed": True}

    def _append(self, unit: m.Unit) -> Outcome:
        first = len(self.entries) + 1
        for journal in unit.journals:
            self._append_journal(journal)
        seqs = tuple(range(first, len(self.entries) + 1))
        return "posted", {"seqs": seqs, "ids": tuple(j.id for j in unit.journals), "replayed": False}

    def _append_journal(self, journal: m.Journal) -> None:
        lines = (*self._mirror(journal), *self._of_hold(journal.hold), *_own_lines(journal))
        for line in lines:
            self._check_account(line.debit, line)
            self._check_account(line.credit, line)
        effective_at = self._effective_at(journal)
        # Line by line: the floor holds after each of them, not only at the end.
        booked: tuple[Line, ...] = ()
        for line in lines:
            before = Entry(journal, self.clock, effective_at, booked)
            if line.up_to:
                line = line._replace(amount=self._as_available(before, line), up_to=False)
            self._check_floors(before, line)
            booked = (*booked, line)
        self._check_limits(Entry(journal, self.clock, effective_at, booked))
        self.entries.append(Entry(journal, self.clock, effective_at, booked))

    def _effective_at(self, journal: m.Journal) -> datetime:
        effective_at = (journal.effective_at or self.clock).astimezone(UTC)
        if self.closed_through is None or effective_at.date() > self.closed_through:
            return effective_at
        if journal.effective_at is not None and journal.on_closed is m.OnClosed.FIRST_OPEN_DAY:
            day = self.closed_through + timedelta(days=1)
            return datetime(day.year, day.month, day.day, tzinfo=UTC)
        facts = {"effective_on": effective_at.date(), "closed_through": self.closed_through}
        raise Refused("period_closed", **facts)

    def _check_account(self, path: str, line: Line) -> None:
        terms = self.accounts.get((path, line.currency))
        if terms is None:
            raise Refused("account_unknown", account=path, currency=line.currency)
        if terms.status == "closed":
            raise Refused("account_closed", account=path)
        if terms.status == "frozen" and line.amount > 0:
            raise Refused("account_frozen", account=path)

    def _check_floors(self, before: Entry, line: Line) -> None:
        earlier = replace(self, entries=[*self.entries, before])
        later = replace(self, entries=[*self.entries, before, replace(before, lines=(line,))])
        for path in (line.debit, line.credit):
            floor = self.accounts[path, line.currency].floor
            had = earlier.position(path, line.currency).available
            has = later.position(path, line.currency).available
            if floor is not None and has < floor:
                facts = {"available": had, "floor": floor, "needed": had - has}
                raise Refused("insufficient_funds", account=path, currency=line.currency, **facts)

    def _as_available(self, before: Entry, line: Line) -> int:
        """The least room above the floor of the accounts whose balance falls, and at most what was asked."""
        now = replace(self, entries=[*self.entries, before])
        amounts = [line.amount]
        for path in (line.debit, line.credit):
            if _debit_raises(path) == (path == line.debit):
                continue
            floor = self.accounts[path, line.currency].floor or 0
            available = now.position(path, line.currency).available
            if available - floor <= 0:
                facts = {"available": available, "floor": floor, "needed": 1}
                raise Refused("insufficient_funds", account=path, currency=line.currency, **facts)
            amounts.append(available - floor)
        return min(amounts)

    # ------------------------------------------------------------ velocity limits

    def limit_at(self, path: str, currency: str, name: str, seq: int) -> Limit | None:
        """The limit that journal ``seq`` is judged by; None if there is none, or it is not active."""
        found = [
            limit
            for limit in self.limits
            if (limit.path, limit.currency, limit.name) == (path, currency, name) and limit.after < seq
        ]
        return found[-1] if found and found[-1].active else None

    def used(self, limit: Limit, start: datetime) -> int:
        """What the journals so far have used of one window, while the limit was active."""
        total = 0
        for seq, entry in enumerate(self.entries, 1):
            then = self.limit_at(limit.path, limit.currency, limit.name, seq)
            if then is not None and window_start(then.window, entry.recorded_at) == start:
                total += sum(then.counts(line) for line in entry.lines)
        return total

    def uses(self) -> dict[tuple[str, str, str, datetime], int]:
        """Every window of every limit of which something has been used."""
        starts = {
            (limit, window_start(limit.window, entry.recorded_at))
            for limit in self.limits
            for entry in self.entries
        }
        used = {(at.path, at.currency, at.name, start): self.used(at, start) for at, start in starts}
        return {window: amount for window, amount in used.items() if amount}

    def _check_limits(self, entry: Entry) -> None:
        """Line by line, the debited account first, an account's limits by name."""
        for count, line in enumerate(entry.lines):
            before = replace(self, entries=[*self.entries, replace(entry, lines=entry.lines[:count])])
            for path in (line.debit, line.credit):
                for name in sorted({limit.name for limit in self.limits}):
                    limit = self.limit_at(path, line.currency, name, len(self.entries) + 1)
                    needed = limit.counts(line) if limit else 0
                    if limit is None or not needed:
                        continue
                    start = window_start(limit.window, entry.recorded_at)
                    used = before.used(limit, start)
                    if used + needed > limit.maximum:
                        facts = {"used": used, "maximum": limit.maximum, "needed": needed}
                        names = {"account": path, "currency": line.currency, "limit": name}
                        raise Refused("velocity_exceeded", **names, window_start=start, **facts)

    def set_limit(self, limit: Limit, now: datetime) -> str | None:
        """The rule that forbids it; None once it is so."""
        if self.accounts[limit.path, limit.currency].status == "closed":
            return "closed"
        for old in self.limits:
            if (old.path, old.currency, old.name) == (limit.path, limit.currency, limit.name) and (
                (old.side, old.measure, old.window) != (limit.side, limit.measure, limit.window)
            ):
                return "limit_fixed"
        self.clock = max(self.clock, now)
        self.limits.append(limit)
        return None

    # ------------------------------------------------------------ reversals and holds

    def _mirror(self, journal: m.Journal) -> Iterator[Line]:
        seq = journal.reverses
        if seq is None:
            return
        if not 1 <= seq <= len(self.entries):
            raise Refused("journal_unknown", journal_seq=seq)
        if any(entry.journal.reverses == seq for entry in self.entries):
            raise Refused("already_reversed", journal_seq=seq)
        undone = self.entries[seq - 1]
        if undone.journal.hold is not None:
            raise Refused("not_reversible", journal_seq=seq)
        for line in reversed(undone.lines):
            yield line._replace(debit=line.credit, credit=line.debit)

    def _of_hold(self, action: m.HoldAction | None) -> list[Line]:
        if action is None:
            return []
        if isinstance(action, m.Place):
            return [self._place(action)]
        place = self.placed(action.hold_id)
        if place is None:
            raise Refused("hold_unknown", hold_id=action.hold_id)
        fate = self.fate(action.hold_id)
        if fate.left == 0:
            raise Refused("hold_ended", hold_id=action.hold_id)
        over = place.expires_at is not None and self.clock >= place.expires_at
        if isinstance(action, m.Expire):
            if not over:
                raise Refused("hold_not_expired", hold_id=action.hold_id, expires_at=place.expires_at)
            return [_reserve(place, -fate.left, "expired")]
        if isinstance(action, m.Release):
            return [_release(place, fate, action)]
        if over:
            raise Refused("hold_expired", hold_id=action.hold_id, expired_at=place.expires_at)
        if isinstance(action, m.Increase):
            return [_reserve(place, action.amount, "held")]
        return _capture(place, fate, action)

    def _place(self, action: m.Place) -> Line:
        if self.placed(action.hold_id) is not None:
            raise Refused("hold_exists", hold_id=action.hold_id)
        if action.expires_at is not None and action.expires_at <= self.clock:
            raise Refused("hold_expired", hold_id=action.hold_id, expired_at=action.expires_at)
        return _reserve(action, action.amount, "held")

    # ------------------------------------------------------------ facts about accounts

    def change(self, path: str, currency: str, now: datetime, terms: AccountTerms) -> str | None:
        """The rule that forbids it; None once it is so."""
        old, position = self.accounts[path, currency], self.position(path, currency)
        if old.status == "closed":
            return "closed"
        if terms.status == "closed" and (position.posted, position.available, position.incoming) != (0, 0, 0):
            return "balance_closed"
        if terms.floor is not None and position.available < terms.floor:
            return "balance_floor"
        self.clock = max(self.clock, now)
        self.accounts[path, currency] = terms
        return None


def _debit_raises(path: str) -> bool:
    return path.split(":")[0] in ("Assets", "Expenses")


def says_the_same(journal: m.Journal, entry: Entry) -> bool:
    """Apart from its id, and from its time unless it states one."""
    stands = entry.journal
    return (
        (journal.kind, journal.description, dict(journal.metadata))
        == (stands.kind, stands.description, dict(stands.metadata))
        and (journal.postings, journal.hold, journal.reverses)
        == (stands.postings, stands.hold, stands.reverses)
        and journal.effective_at in (None, stands.effective_at or entry.effective_at)
    )


def window_start(window: str, at: datetime) -> datetime:
    """The beginning of the calendar's window in UTC; a week begins on Monday."""
    day = at.replace(hour=0, minute=0, second=0, microsecond=0)
    return {
        "minute": at.replace(second=0, microsecond=0),
        "hour": at.replace(minute=0, second=0, microsecond=0),
        "day": day,
        "week": day - timedelta(days=day.weekday()),
        "month": day.replace(day=1),
    }[window]


def _own_lines(journal: m.Journal) -> Iterator[Line]:
    for p in journal.postings:
        yield Line(p.debit, p.credit, p.amount, p.currency, up_to=p.up_to)


def _reserve(place: m.Place, amount: int, part: str) -> Line:
    return Line(place.debit, place.credit, amount, place.currency, True, place.hold_id, part)


def _release(place: m.Place, fate: Fate, action: m.Release) -> Line:
    amount = fate.left if action.amount is None else action.amount
    if amount > fate.left:
        raise Refused("hold_exceeded", hold_id=place.hold_id, requested=amount, allowed=fate.left)
    return _reserve(place, -amount, "released")


def _capture(place: m.Place, fate: Fate, action: m.Capture) -> list[Line]:
    never_given_back = fate.held - fate.released - fate.expired
    ceiling = never_given_back * (10_000 + place.tolerance_bps) // 10_000
    if fate.captured + action.amount > ceiling:
        allowed = ceiling - fate.captured
        raise Refused("hold_exceeded", hold_id=place.hold_id, requested=action.amount, allowed=allowed)
    taken = min(action.amount, fate.left)
    lines = [_reserve(place, -taken, "consumed")]
    if action.final and fate.left > taken:
        lines.append(_reserve(place, taken - fate.left, "released"))
    debit, credit = action.debit or place.debit, action.credit or place.credit
    booked = Line(debit, credit, action.amount, place.currency, False, place.hold_id, "captured")
    return [*lines, booked]
