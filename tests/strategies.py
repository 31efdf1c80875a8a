"""Hypothesis' vocabulary for the ledger: accounts, amounts, journals and units, drawn around what a book holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID

from hypothesis import strategies as st

from ledger import model as m
from ledger.ids import uuid7

# Small amounts meet floors and each other; the largest one meets the range.
AMOUNTS = st.integers(0, 19).flatmap(
    lambda n: st.integers(1, 60) if n < 17 else st.sampled_from([999, 10**6, m.MAX_AMOUNT])
)
TOLERANCES = st.sampled_from([0, 0, 1, 1000, 3333, 10_000])
KINDS = st.sampled_from(["transfer", "fee", "correction"])
TEXTS = st.sampled_from(["", "settled", "₹ 5 – café", '"quoted" \\ back/slash'])
METADATA = st.dictionaries(st.sampled_from(["payment_id", "a", "b.c"]), TEXTS, max_size=2)
# A clock that mostly goes on, and sometimes jumps either way.
TICKS = st.one_of(
    st.timedeltas(timedelta(0), timedelta(minutes=2)), st.timedeltas(timedelta(hours=-3), timedelta(hours=3))
)


@dataclass
class Words:
    """What journals may be drawn from: ``holds`` ever placed, those still ``live``, every unit ``said`` so far."""

    accounts: Sequence[tuple[str, str]]
    now: datetime
    holds: list[UUID] = field(default_factory=list)
    live: list[UUID] = field(default_factory=list)
    head: int = 0
    said: list[m.Unit] = field(default_factory=list)
    numbers: int = 0

    def new_id(self) -> UUID:
        self.numbers += 1
        return uuid7(self.now, self.numbers.to_bytes(10, "big"))


@st.composite
def postings(draw: st.DrawFn, words: Words) -> m.Posting:
    """Between two accounts of one currency, seldom one that was never opened."""
    currency = draw(st.sampled_from(sorted({c for _, c in words.accounts})))
    paths = [path for path, c in words.accounts if c == currency]
    if draw(st.integers(0, 30)) == 30:
        paths.append("Liabilities:Customer:nobody:Wallet")
    debit = draw(st.sampled_from(paths))
    credit = draw(st.sampled_from([path for path in paths if path != debit]))
    return m.Posting(debit, credit, draw(AMOUNTS), currency, up_to=draw(st.integers(0, 4)) == 4)


@st.composite
def hold_actions(draw: st.DrawFn, words: Words) -> m.HoldAction:
    """Placing, or something with a hold: mostly a live one, sometimes one that has ended or that nobody knows."""
    chance = draw(st.integers(0, 19))
    if not words.holds or chance < 6:
        return draw(places(words))
    known = words.live if words.live and chance < 17 else words.holds
    hold_id = draw(st.sampled_from(known)) if chance < 19 else words.new_id()
    return draw(
        st.one_of(
            st.builds(m.Increase, st.just(hold_id), AMOUNTS),
            captures(words, hold_id),
            captures(words, hold_id),
            st.builds(m.Release, st.just(hold_id), st.none() | AMOUNTS),
            st.builds(m.Expire, st.just(hold_id)),
        )
    )


@st.composite
def places(draw: st.DrawFn, words: Words) -> m.Place:
    pair = draw(postings(words))
    again = words.holds and draw(st.integers(0, 15)) == 15
    hold_id = draw(st.sampled_from(words.holds)) if again else words.new_id()
    minutes = draw(st.none() | st.integers(-1, 60))
    expires_at = None if minutes is None else words.now + timedelta(minutes=minutes)
    if hold_id not in words.holds:  # what follows in the batch may use it, whether it will stand or not
        words.holds.append(hold_id)
        words.live.append(hold_id)
    return m.Place(hold_id, pair.debit, pair.credit, pair.amount, pair.currency, expires_at, draw(TOLERANCES))


@st.composite
def captures(draw: st.DrawFn, words: Words, hold_id: UUID) -> m.Capture:
    elsewhere = draw(st.none() | postings(words))
    return m.Capture(
        hold_id,
        draw(AMOUNTS),
        final=draw(st.booleans()),
        debit=elsewhere.debit if elsewhere else None,
        credit=elsewhere.credit if elsewhere else None,
    )


@st.composite
def journals(draw: st.DrawFn, words: Words) -> m.Journal:
    form = draw(st.sampled_from([*["postings"] * 4, *["hold"] * 5, "reversal"]))
    own = draw(st.lists(postings(words), min_size=1, max_size=3)) if form == "postings" else []
    action = draw(hold_actions(words)) if form == "hold" else None
    if action is not None and draw(st.integers(0, 4)) == 0:
        own = draw(st.lists(postings(words), max_size=2))
    id_ = words.new_id()
    return m.Journal(
        id=id_,
        kind=draw(KINDS),
        source=m.Source("test", f"s{words.numbers}", "done"),
        postings=tuple(own),
        hold=action,
        effective_at=draw(
            st.none()
            | st.none()
            | st.timedeltas(timedelta(days=-3), timedelta(days=1)).map(words.now.__add__)
        ),
        description=draw(TEXTS),
        metadata=draw(METADATA),
        on_closed=draw(st.sampled_from(m.OnClosed)),
        reverses=draw(st.integers(1, words.head + 2)) if form == "reversal" else None,
    )


@st.composite
def sets_of_holds(draw: st.DrawFn, words: Words) -> m.Unit:
    """Several operations on live holds at once, some of them on one hold: they stand or fall together."""
    ids = draw(st.lists(st.sampled_from(words.live), min_size=2, max_size=4))
    end = draw(st.sampled_from(["capture", "release", "mixed"]))
    actions = [draw(_ends(words, hold_id, end)) for hold_id in ids]
    journals: list[m.Journal] = []
    for action in actions:
        id_ = words.new_id()
        journals.append(m.Journal(id_, "ending", m.Source("test", f"s{words.numbers}", "done"), hold=action))
    return m.Unit(tuple(journals))


def _ends(words: Words, hold_id: UUID, end: str) -> st.SearchStrategy[m.HoldAction]:
    release = st.builds(m.Release, st.just(hold_id), st.none() | AMOUNTS)
    capture = st.builds(m.Capture, st.just(hold_id), AMOUNTS, st.booleans())
    if end == "mixed":
        return st.one_of(
            release, capture, st.builds(m.Increase, st.just(hold_id), AMOUNTS), captures(words, hold_id)
        )
    return capture if end == "capture" else release


LIMIT_KINDS = st.tuples(
    st.sampled_from(["debit", "credit"]),
    st.sampled_from(["sum", "sum", "count"]),
    st.sampled_from(["minute", "hour", "day", "week", "month"]),
)


@st.composite
def new_units(draw: st.DrawFn, words: Words) -> m.Unit:
    return m.Unit(
        tuple(draw(st.lists(journals(words), min_size=1, max_size=draw(st.sampled_from([1, 1, 3])))))
    )


@st.composite
def repeated_units(draw: st.DrawFn, words: Words) -> m.Unit:
    """Something that was said before: the same again, in part, with another word, or beside something new."""
    unit = draw(st.sampled_from(words.said))
    again = [_with_id(journal, words.new_id()) for journal in unit.journals]
    change = draw(
        st.sampled_from(["nothing", "nothing", "part", "order", "time", "amount", "up_to", "words", "more"])
    )
    match change:
        case "part":
            again = again[:1]
        case "order":
            again.reverse()
        case "time":
            again[0] = _changed(again[0], effective_at=words.now)
        case "amount" if again[0].postings:
            first = again[0].postings[0]
            other = replace(first, amount=first.amount % m.MAX_AMOUNT + 1)
            again[0] = _changed(again[0], postings=(other, *again[0].postings[1:]))
        case "up_to" if again[0].postings:
            first = again[0].postings[0]
            again[0] = _changed(
                again[0], postings=(replace(first, up_to=not first.up_to), *again[0].postings[1:])
            )
        case "words":
            again[0] = _changed(again[0], description="other words")
        case "more":
            again.append(draw(journals(words)))
        case _:
            pass
    return m.Unit(tuple(again))


def batches(words: Words) -> st.SearchStrategy[list[m.Unit]]:
    unit = (
        st.one_of(new_units(words), new_units(words), repeated_units(words))
        if words.said
        else new_units(words)
    )
    if len(words.live) > 1:
        unit = st.one_of(unit, unit, unit, sets_of_holds(words))
    return st.lists(unit, min_size=1, max_size=6)


def _changed(journal: m.Journal, **changes: object) -> m.Journal:
    fields = {name: getattr(journal, name) for name in m.Journal.__dataclass_fields__}
    return m.Journal(**fields | changes)  # type: ignore[arg-type]


def _with_id(journal: m.Journal, id_: UUID) -> m.Journal:
    return _changed(journal, id=id_)
