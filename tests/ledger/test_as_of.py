"""Balances, statements and restatements of the past against a recomputation from canonical lines, at random points
of both axes of time; in a book that is rolled up behind its writer's back, and in one that never was."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from random import Random
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import AsyncConnection

from khata.tamper.spans import small_spans
from ledger import as_of
from ledger import model as m
from ledger.errors import InvalidEntry, NotRecorded
from ledger.rollups import roll_up
from tests.ledger.history import History, Sums, history, sums
from tests.ledger.random_books import RandomBook
from tests.ledger.words import NOW

T = TypeVar("T")
TODAY = NOW.date()


class Restless(RandomBook):
    """Journals that are effective long before they are recorded, or after."""

    def journal(self, *postings: m.Posting, kind: str = "transfer", **more: Any) -> m.Journal:
        journal = super().journal(*postings, kind=kind, **more)
        days = self.random.choice([0, 0, 0, 0, 1, 2, 7, 40, 400, -1, -30])
        return replace(journal, effective_at=self.now - timedelta(days=days)) if days else journal


@dataclass(frozen=True)
class Past:
    """``run`` runs a coroutine on the connection's own loop."""

    conn: AsyncConnection[Any]
    book_id: int
    history: History
    runner: asyncio.Runner

    def run(self, question: Coroutine[Any, Any, T]) -> T:
        async def ask() -> T:
            try:
                return await question
            finally:
                await self.conn.rollback()

        return self.runner.run(ask())


@pytest.fixture(scope="module", params=["rolled up now and then", "never rolled up"])
def past(request: pytest.FixtureRequest, server: Any) -> Iterator[Past]:
    with server.fresh_database() as database, asyncio.Runner() as runner:
        runner.run(small_spans(database.owner_dsn))
        conn = runner.run(AsyncConnection.connect(database.app_dsn))
        book = runner.run(fill(conn, rolled_up=request.param != "never rolled up"))
        yield Past(conn, book.book_id, runner.run(history(conn, book.book_id)), runner)
        runner.run(conn.close())


async def fill(conn: AsyncConnection[Any], *, rolled_up: bool) -> RandomBook:
    book = Restless(conn, Random(11))
    await book.open("main")
    chance = Random(5)
    for _ in range(16):
        await book.batch(chance.randrange(1, 25))
        if rolled_up and chance.random() < 0.6:
            await roll_up(conn, book.book_id, most_spans=chance.choice([1, 3, 1000]))
            await conn.commit()
    return book


DAYS = st.one_of(
    st.none(),
    st.integers(-420, 40).map(lambda days: TODAY + timedelta(days=days)),
    st.sampled_from([TODAY, date.min, date.max]),
)


def known_in(past: Past) -> st.SearchStrategy[int | datetime | None]:
    entries = past.history.entries
    instants = st.sampled_from(entries).flatmap(
        lambda e: st.sampled_from([-1, 0, 1]).map(lambda us: e.recorded_at + timedelta(microseconds=us))
    )
    return st.one_of(st.none(), st.integers(0, len(entries)), instants)


MANY = settings(max_examples=25, deadline=None, print_blob=True, database=None)


@MANY
@given(data=st.data())
def test_every_balance_is_what_the_journals_known_then_add_up_to(past: Past, data: st.DataObject) -> None:
    day, known = data.draw(DAYS), data.draw(known_in(past))
    found = past.run(as_of.balances(past.conn, past.book_id, as_of.AsOf(day, known)))
    right = past.history.sums(day, known)
    assert [(b.path, b.currency) for b in found] == list(past.history.accounts)
    for b in found:
        own = right.get((b.path, b.currency), Sums())
        assert (b.posted, b.pending_in, b.pending_out) == own.figures(b.path)
        assert b.available == b.posted - b.pending_out
        if day is not None:
            assert (b.posted_debits, b.posted_credits) == (own.posted_debits, own.posted_credits)


@MANY
@given(data=st.data())
def test_one_balance_a_prefix_and_the_trial_balance_say_the_same(past: Past, data: st.DataObject) -> None:
    day, known = data.draw(DAYS), data.draw(known_in(past))
    at = as_of.AsOf(day, known)
    path, currency = data.draw(st.sampled_from(past.history.accounts))
    right = past.history.sums(day, known)
    one = past.run(as_of.balance(past.conn, past.book_id, path, currency, at))
    assert one is not None
    assert (one.posted, one.pending_in, one.pending_out) == right.get((path, currency), Sums()).figures(path)

    prefix = path.rsplit(":", data.draw(st.integers(0, path.count(":") - 1)))[0]
    below = [a for a in past.history.accounts if (a[0] + ":").startswith(prefix + ":")]
    for total in past.run(as_of.totals(past.conn, past.book_id, prefix, at)):
        own = [right.get(a, Sums()).figures(a[0]) for a in below if a[1] == total.currency]
        assert (total.accounts, total.posted, total.pending_in, total.pending_out) == (
            len(own), *(sum(column) for column in zip(*own, strict=True)),
        )  # fmt: skip

    rows = past.run(as_of.trial_balance(past.conn, past.book_id, at))
    assert {(r.path, r.currency): r.debit - r.credit for r in rows} == {
        account: own.posted_debits - own.posted_credits for account, own in right.items()
    }
    assert all(min(r.debit, r.credit) == 0 for r in rows)
    assert [(r.currency, r.path) for r in rows] == sorted((r.currency, r.path) for r in rows)


@MANY
@given(data=st.data())
def test_a_statement_by_effective_day_holds_every_line_of_its_days_once(
    past: Past, data: st.DataObject
) -> None:
    account = data.draw(st.sampled_from([*sums(past.history.entries)]))
    first = TODAY + timedelta(days=data.draw(st.sampled_from([-500, -400, -40, -2, 0])))
    last = first + timedelta(days=data.draw(st.sampled_from([0, 1, 39, 600])))
    known = data.draw(st.integers(0, len(past.history.entries)))
    limit = data.draw(st.sampled_from([1, 3, 7, 500]))
    days_before = past.history.sums(first - timedelta(days=1), known).get(account, Sums())
    posted, after, seen = days_before.figures(account[0])[0], None, list[tuple[Any, ...]]()
    while True:
        page = past.run(
            as_of.statement(
                *(past.conn, past.book_id, *account),
                first=first, last=last, known=known, after=after, limit=limit,
            )
        )  # fmt: skip
        assert page is not None
        assert (page.opening, page.known) == (posted, known)
        for line in page.lines:
            posted += line.amount if line.layer == "posted" else 0
            assert line.posted == posted
            seen.append((line.effective_at.date(), line.journal_seq, line.line, line.amount, line.layer))
        assert page.closing == posted
        if page.next is None:
            break
        assert len(page.lines) == limit
        after = page.next
    assert seen == past.history.lines(account, first, last, known)


@MANY
@given(data=st.data())
def test_a_restatement_names_the_late_journals_and_every_balance_they_changed(
    past: Past, data: st.DataObject
) -> None:
    entries = past.history.entries
    then = data.draw(st.integers(0, len(entries)))
    now = data.draw(st.one_of(st.none(), st.integers(then, len(entries))))
    day = data.draw(DAYS.filter(lambda d: d is not None))
    assert day is not None
    late = [e for e in entries if then < e.seq <= (now or len(entries)) and e.day <= day]
    if now == 0:
        late = []
    seen, after = list[int](), 0
    while True:
        found = past.run(
            as_of.restated(past.conn, past.book_id, day, then=then, now=now, after=after, limit=40)
        )
        seen += [j.seq for j in found.late]
        if found.next is None:
            break
        after = found.next
    assert seen == [e.seq for e in late]
    before, changes = past.history.sums(day, then), sums(late)
    assert {(c.path, c.currency): (c.reported.posted, c.restated.posted) for c in found.changed} == {
        account: (
            before.get(account, Sums()).figures(account[0])[0],
            before.get(account, Sums()).figures(account[0])[0] + own.figures(account[0])[0],
        )
        for account, own in changes.items()
        if own.figures(account[0]) != (0, 0, 0)
    }


def test_a_journal_is_late_only_where_it_counts(past: Past) -> None:
    """Not one recorded after the report but effective after its days."""
    found = past.run(as_of.restated(past.conn, past.book_id, date.min, then=0))
    assert (found.late, found.changed, found.next) == ((), (), None)


def test_an_instant_is_the_last_journal_recorded_by_then(past: Past) -> None:
    entries = past.history.entries
    for entry in entries[:: len(entries) // 9]:
        last = max(e.seq for e in entries if e.recorded_at == entry.recorded_at)
        assert past.run(as_of.known_seq(past.conn, past.book_id, entry.recorded_at)) == last
    assert past.run(as_of.known_seq(past.conn, past.book_id, NOW - timedelta(days=1))) == 0
    assert past.run(as_of.known_seq(past.conn, past.book_id, None)) == len(entries)


def test_what_is_not_recorded_yet_cannot_be_known(past: Past) -> None:
    head, path = len(past.history.entries), past.history.accounts[0][0]
    for known in (head + 1, -1, 2**63 - 1):
        with pytest.raises(NotRecorded):
            past.run(as_of.balances(past.conn, past.book_id, as_of.AsOf(known=known)))
    with pytest.raises(ValueError, match="effective day"):
        _ = as_of.BalanceAsOf(path, "INR", 1, 0, 0).posted_debits


def test_accounts_that_are_not_there_or_not_the_owners_have_no_past(past: Past) -> None:
    wallet = next(a for a in past.history.accounts if a[0].startswith("Liabilities:Customer:c0:"))
    at = as_of.AsOf(TODAY, 5)
    assert past.run(as_of.balance(past.conn, past.book_id, wallet[0], "XXX", at)) is None
    assert past.run(as_of.balance(past.conn, past.book_id, *wallet, at, owner="other")) is None
    assert past.run(as_of.balances(past.conn, past.book_id, at, owner="other")) == []
    mine = past.run(as_of.balances(past.conn, past.book_id, at, owner="c0"))
    assert wallet in {(b.path, b.currency) for b in mine}
    asked = as_of.statement(past.conn, past.book_id, *wallet, first=TODAY, last=TODAY, owner="other")
    assert past.run(asked) is None


@pytest.mark.parametrize(
    "cursor", ["", "1", "x.1.1", "2026-11-22.0.1", "2026-11-22.1.99999", "2026-01-01.1.1"]
)
def test_a_cursor_that_no_page_gave_is_refused(past: Past, cursor: str) -> None:
    path, currency = past.history.accounts[0]
    asked = as_of.statement(past.conn, past.book_id, path, currency, first=TODAY, last=TODAY, after=cursor)
    with pytest.raises(InvalidEntry):
        past.run(asked)


def test_a_cursor_of_another_statement_is_refused(past: Past) -> None:
    """What it skips would be missing in the opening balance, or counted though it was not known."""
    account = max(past.history.accounts, key=lambda a: len(page_of(past, a, limit=9).lines))
    whole = page_of(past, account, limit=2)
    assert whole.next is not None
    cursor = as_of.DayPosition.parse(whole.next)
    assert page_of(past, account, after=whole.next, known=cursor.journal_seq).opening == whole.closing
    other = next(
        a
        for a in past.history.accounts
        if cursor.journal_seq not in journals_of(page_of(past, a, limit=10**6))
    )
    for stranger, position, known in (
        (account, cursor, cursor.journal_seq - 1),
        (account, replace(cursor, day=cursor.day + timedelta(days=1)), None),
        (account, replace(cursor, line=2**15 - 1), None),
        (account, replace(cursor, journal_seq=2**62), None),
        (other, cursor, None),
    ):
        with pytest.raises(InvalidEntry, match="another statement"):
            page_of(past, stranger, after=str(position), known=known)


def page_of(past: Past, account: tuple[str, str], **more: Any) -> as_of.EffectiveStatement:
    """Of all days."""
    days = {"first": TODAY - timedelta(days=500), "last": TODAY + timedelta(days=500)}
    page = past.run(as_of.statement(past.conn, past.book_id, *account, **days, **more))
    assert page is not None
    return page


def journals_of(page: as_of.EffectiveStatement) -> set[int]:
    return {line.journal_seq for line in page.lines}
