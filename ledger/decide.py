"""Judges units against a book's state: a pure function, no I/O, one unit after the other.

Refusals come in a written order, replay first: source key, hold, account, period, floor, velocity limit (ADR 2). A
refused unit leaves no trace, so the next one is judged as if it had never come.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from typing import NamedTuple
from uuid import UUID

import orjson

from ledger import canonical, errors
from ledger.model import (
    Capture,
    Expire,
    HoldAction,
    Increase,
    Journal,
    Layer,
    OnClosed,
    Place,
    Posted,
    Release,
    Result,
    Source,
    Unit,
)
from ledger.state import Account, Hold, State, Stored


class PostingRow(NamedTuple):
    """A row of ``ledger.posting`` but for its book. ``action``: index into ``canonical.HOLD_ACTIONS``."""

    journal_seq: int
    amount: int
    debit_seq: int
    debit_posted: int
    debit_available: int
    debit_incoming: int
    credit_seq: int
    credit_posted: int
    credit_available: int
    credit_incoming: int
    debit_account: int
    credit_account: int
    line: int
    layer: int
    currency: str
    action: int | None
    hold_id: UUID | None


class JournalRow(NamedTuple):
    """A row of ``ledger.journal``: the journal as given, and what the ledger adds."""

    journal: Journal
    seq: int
    effective_at: datetime
    lines: int
    canonical: bytes


@dataclass(slots=True)
class Decisions:
    """One result a unit, in order, and the rows to write for those that stand."""

    results: list[Result] = field(default_factory=list)
    journals: list[JournalRow] = field(default_factory=list)
    postings: list[PostingRow] = field(default_factory=list)
    holds: list[Hold] = field(default_factory=list)


class Line(NamedTuple):
    """A posting to book; ``amount`` is negative where a hold is given back. ``action`` as in ``PostingRow``.

    ``up_to``: what was asked of a posting that books as much as is available.
    """

    debit: str
    credit: str
    amount: int
    currency: str
    layer: Layer
    action: int | None = None
    up_to: int | None = None


def decide(state: State, units: Sequence[Unit]) -> Decisions:
    """Judge ``units`` in order. ``state`` moves with every unit that stands."""
    decisions = Decisions()
    for unit in units:
        state.begin()
        mark = len(decisions.journals), len(decisions.postings), len(decisions.holds)
        try:
            decisions.results.append(replay(state.sources, unit) or _stand(state, unit, decisions))
        except errors.Refusal as refusal:
            state.undo()
            del decisions.journals[mark[0] :], decisions.postings[mark[1] :], decisions.holds[mark[2] :]
            decisions.results.append(refusal)
    return decisions


def replay(sources: Mapping[Source, Stored], unit: Unit) -> Posted | None:
    """The unit as it stands already, None if it is new; ``SourceConflict`` if a key stands for something else."""
    stored = [sources.get(journal.source) for journal in unit.journals]
    if not any(stored):
        return None
    known: list[Stored] = []
    for index, (journal, found) in enumerate(zip(unit.journals, stored, strict=True)):
        if found is None or not canonical.same_content(journal, found.canonical):
            conflict = errors.SourceConflict(str(journal.source), found.seq if found else None)
            conflict.index = index
            raise conflict
        known.append(found)
    return Posted(tuple(k.seq for k in known), tuple(k.id for k in known), replayed=True)


def _stand(state: State, unit: Unit, decisions: Decisions) -> Posted:
    first = state.head + 1
    for index, journal in enumerate(unit.journals):
        try:
            _book(state, journal, decisions)
        except errors.Refusal as refusal:
            refusal.index = index
            raise
    for seq, journal in enumerate(unit.journals, start=first):
        state.sources[journal.source] = state.journals[seq]
    return Posted(tuple(range(first, state.head + 1)), tuple([j.id for j in unit.journals]))


def _book(state: State, journal: Journal, decisions: Decisions) -> None:
    seq = state.head + 1
    lines = journal_lines(state, journal, decisions)
    accounts = _accounts(state, lines)
    effective_at = _effective_at(state, journal)
    hold_id = journal.hold.hold_id if journal.hold else None
    number = 0
    try:
        for number, (line, (debit, credit)) in enumerate(zip(lines, accounts, strict=True), start=1):
            if line.up_to is not None:
                lines[number - 1] = line = _as_available(line, debit, credit)
            decisions.postings.append(_move(state, line, debit, credit, seq, number, hold_id))
    except errors.Refusal as refusal:
        refusal.line = number - 1
        raise
    if state.limits:
        _check_limits(state, lines, accounts)
    recorded = state.recorded_text
    text = canonical.canonical_line(
        journal,
        book=state.book,
        seq=seq,
        effective_at=recorded if journal.effective_at is None else canonical.rfc3339(effective_at),
        recorded_at=recorded,
        lines=[_canonical_posting(line) for line in lines],
    )
    decisions.journals.append(JournalRow(journal, seq, effective_at, len(lines), text))
    state.journals[seq] = Stored(seq, journal.id, text)  # what comes later in the batch may reverse it
    state.head = seq


def _canonical_posting(line: Line) -> dict[str, str]:
    return canonical.posting_line(
        line.debit,
        line.credit,
        line.amount,
        line.currency,
        line.layer,
        None if line.action is None else canonical.HOLD_ACTIONS[line.action],
        line.up_to,
    )


def _accounts(state: State, lines: Sequence[Line]) -> list[tuple[Account, Account]]:
    accounts: list[tuple[Account, Account]] = []
    try:
        for line in lines:
            accounts.append((_account(state, line.debit, line), _account(state, line.credit, line)))
    except errors.Refusal as refusal:
        refusal.line = len(accounts)
        raise
    return accounts


def _account(state: State, path: str, line: Line) -> Account:
    account = state.accounts.get((path, line.currency))
    if account is None:
        raise errors.AccountUnknown(path, line.currency)
    if account.status != "open":
        if account.status == "closed":
            raise errors.AccountClosed(path)
        if line.amount > 0:  # frozen: what is held may still be given back
            raise errors.AccountFrozen(path)
    return account


def _effective_at(state: State, journal: Journal) -> datetime:
    """When it counts: as stated, or from the first open day where that is closed and the journal may move."""
    effective_at = journal.effective_at or state.recorded_at
    if state.closed_through is None or effective_at.date() > state.closed_through:
        return effective_at
    if journal.effective_at is None or journal.on_closed is OnClosed.REFUSE:
        raise errors.PeriodClosed(effective_at.date(), state.closed_through)
    return datetime.combine(state.closed_through + timedelta(days=1), time(), UTC)


def _as_available(line: Line, debit: Account, credit: Account) -> Line:
    """As much of the line as those sides can give whose available falls; refused if that is nothing."""
    amount = line.amount
    for account, falls in ((debit, not debit.debit_normal), (credit, credit.debit_normal)):
        if falls:
            floor = account.floor or 0
            if account.available <= floor:
                raise errors.InsufficientFunds(
                    account.path, account.currency, account.available, floor, needed=1
                )
            amount = min(amount, account.available - floor)
    return line._replace(amount=amount)


def _check_limits(state: State, lines: Sequence[Line], accounts: Sequence[tuple[Account, Account]]) -> None:
    """Every posted line counts in its two accounts' limits, line by line, the debit side first."""
    for number, (line, sides) in enumerate(zip(lines, accounts, strict=True)):
        if line.layer is Layer.POSTED:
            try:
                _use_limits(state, line, sides)
            except errors.Refusal as refusal:
                refusal.line = number
                raise


def _use_limits(state: State, line: Line, sides: tuple[Account, Account]) -> None:
    for account, debit in zip(sides, (True, False), strict=True):
        for limit in state.limits.get(account.id, ()):
            if limit.debit is debit:
                state.use(limit, account, line.amount)


def _move(
    state: State, line: Line, debit: Account, credit: Account, seq: int, number: int, hold_id: UUID | None
) -> PostingRow:
    """Book one line on both accounts; the floor holds after every line (invariant I3)."""
    _, _, amount, currency, layer, action, _ = line
    state.touch(debit)
    debit.add(amount, layer, True)
    state.touch(credit)
    credit.add(amount, layer, False)
    return PostingRow(
        seq,
        amount,
        debit.seq,
        debit.posted,
        debit.posted - debit.outgoing,
        debit.incoming,
        credit.seq,
        credit.posted,
        credit.posted - credit.outgoing,
        credit.incoming,
        debit.id,
        credit.id,
        number,
        layer,
        currency,
        action,
        None if action is None else hold_id,
    )


def journal_lines(state: State, journal: Journal, decisions: Decisions) -> list[Line]:
    """Every line of a journal: the hold's first (what it gives back is available to the rest), then its own."""
    if journal.reverses is not None:
        return _mirror(state, journal.reverses)
    own = [
        Line(p.debit, p.credit, p.amount, p.currency, p.layer, None, p.amount if p.up_to else None)
        for p in journal.postings
    ]
    return own if journal.hold is None else _hold_lines(state, journal.hold, decisions) + own


def _mirror(state: State, seq: int) -> list[Line]:
    stored = state.journals.get(seq)
    if stored is None:
        raise errors.JournalUnknown(seq)
    if seq in state.reversed:
        raise errors.AlreadyReversed(seq)
    fields = orjson.loads(stored.canonical)
    if "hold" in fields:
        raise errors.NotReversible(seq)
    state.reverse(seq)
    # Last line first: what the journal built up in order comes down in the opposite one.
    return [
        Line(p["credit"], p["debit"], int(p["amount"]), p["currency"], Layer.POSTED)
        for p in reversed(fields["postings"])
    ]


def _hold_lines(state: State, action: HoldAction, decisions: Decisions) -> list[Line]:
    match action:
        case Place():
            return _place(state, action, decisions)
        case Increase():
            hold = _live(state, action)
            _check_time(state, hold)
            hold.held += action.amount
            return [_pending(hold, action.amount, 1)]
        case Capture():
            return _capture(state, action)
        case Release():
            return _release(state, action)
        case Expire():
            return _expire(state, action)


def _live(state: State, action: HoldAction) -> Hold:
    hold = state.holds.get(action.hold_id)
    if hold is None:
        raise errors.HoldUnknown(action.hold_id)
    if hold.remaining == 0:
        raise errors.HoldEnded(hold.id)
    state.touch_hold(hold)
    return hold


def _check_time(state: State, hold: Hold) -> None:
    if hold.expires_at is not None and state.recorded_at >= hold.expires_at:
        raise errors.HoldExpired(hold.id, hold.expires_at)


def _pending(hold: Hold, amount: int, action: int) -> Line:
    return Line(hold.debit, hold.credit, amount, hold.currency, Layer.PENDING, action)


def _place(state: State, action: Place, decisions: Decisions) -> list[Line]:
    if action.hold_id in state.holds:
        raise errors.HoldExists(action.hold_id)
    hold = Hold(
        action.hold_id,
        action.debit,
        action.credit,
        action.currency,
        action.tolerance_bps,
        action.expires_at,
        action.amount,
    )
    _check_time(state, hold)
    state.touch_hold(hold, new=True)
    decisions.holds.append(hold)
    return [_pending(hold, action.amount, 0)]


def _capture(state: State, action: Capture) -> list[Line]:
    hold = _live(state, action)
    _check_time(state, hold)
    if action.amount > hold.capturable:
        raise errors.HoldExceeded(hold.id, action.amount, hold.capturable)
    consumed = min(action.amount, hold.remaining)
    hold.consumed += consumed
    hold.captured += action.amount
    lines = [_pending(hold, -consumed, 2)]
    if action.final and hold.remaining:
        lines.append(_pending(hold, -hold.remaining, 3))
        hold.released += hold.remaining
    debit, credit = action.debit or hold.debit, action.credit or hold.credit
    return [*lines, Line(debit, credit, action.amount, hold.currency, Layer.POSTED, 2)]


def _release(state: State, action: Release) -> list[Line]:
    hold = _live(state, action)
    amount = hold.remaining if action.amount is None else action.amount
    if amount > hold.remaining:
        raise errors.HoldExceeded(hold.id, amount, hold.remaining)
    hold.released += amount
    return [_pending(hold, -amount, 3)]


def _expire(state: State, action: Expire) -> list[Line]:
    hold = _live(state, action)
    if hold.expires_at is None or state.recorded_at < hold.expires_at:
        raise errors.HoldNotExpired(hold.id, hold.expires_at)
    amount = hold.remaining
    hold.expired += amount
    return [_pending(hold, -amount, 4)]
