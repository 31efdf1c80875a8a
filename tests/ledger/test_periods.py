"""Closing and reopening periods, and what becomes of journals that come late."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import AsyncConnection

from ledger import acts, errors, periods, proposals
from ledger import model as m
from ledger.acts import By
from ledger.audit import audit
from ledger.decide import decide
from ledger.load import load
from ledger.periods import PeriodFact
from ledger.post import post
from ledger.proposals import Kind, Proposal
from ledger.store import store
from tests.ledger.words import ESCROW, NOW, PENDING_A, PENDING_B, Book, fund, journal, new_id, pay

OCTOBER, SEPTEMBER = date(2026, 10, 31), date(2026, 9, 30)
LATE = datetime(2026, 10, 5, 12, 30, tzinfo=UTC)
FIRST_OPEN = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture
def book(book_of_many: Book) -> Book:
    return book_of_many


async def close(book: Book, through: date = OCTOBER, person: str = "asha") -> PeriodFact:
    try:
        return await periods.close(book.conn, book.book_id, By(person, "month end", NOW), through=through)
    finally:
        await book.conn.commit()


async def propose(book: Book, through: date | None, *, id_: UUID | None = None) -> Proposal:
    by = By("asha", "an invoice came late", NOW)
    try:
        return await periods.propose_reopening(book.conn, book.book_id, id_ or new_id(), by, through=through)
    finally:
        await book.conn.commit()


async def approve(book: Book, id_: UUID, person: str = "ben") -> Proposal:
    try:
        return await periods.approve_reopening(book.conn, book.book_id, id_, By(person, "seen it", NOW))
    finally:
        await book.conn.commit()


async def closed_through(book: Book) -> date | None:
    cursor = await book.conn.execute(
        "SELECT closed_through FROM ledger.book WHERE book_id = %s", [book.book_id]
    )
    row = await cursor.fetchone()
    await book.conn.rollback()
    assert row is not None
    return row[0]


def late(effective_at: datetime = LATE, **more: Any) -> m.Journal:
    return journal(pay(PENDING_A, ESCROW, 100), effective_at=effective_at, **more)


def moved(source: str | None = None) -> m.Journal:
    return late(on_closed=m.OnClosed.FIRST_OPEN_DAY, source=source)


async def assert_proved(book: Book) -> None:
    async with await AsyncConnection.connect(book.database.audit_dsn) as conn:
        results = await audit(conn, book.book_id)
    assert [str(f) for r in results for f in r.findings] == []


# ---------------------------------------------------------------- closing


async def test_a_close_locks_its_days_and_keeps_the_trial_balance_it_left(book: Book) -> None:
    await book.ok(late(), fund(PENDING_B, 7))
    fact = await close(book)
    assert await closed_through(book) == OCTOBER
    lines = (
        f'{{"book":"{await name_of(book)}","head":2,"through":"2026-10-31"}}\n'
        '{"account":"Assets:Bank:Meridian:Escrow","credit":"0","currency":"INR","debit":"100"}\n'
        '{"account":"Liabilities:Merchant:a:Pending","credit":"100","currency":"INR","debit":"0"}\n'
    )
    assert fact.trial_balance_hash == sha256(lines.encode()).digest()
    assert (fact.fact, fact.action, fact.through, fact.head, fact.person) == (1, "close", OCTOBER, 2, "asha")
    [act] = await acts.acts(book.conn, book.book_id)
    assert (act.action, act.subject, act.reason) == ("period_closed", "2026-10-31", "month end")
    await assert_proved(book)


async def name_of(book: Book) -> str:
    cursor = await book.conn.execute("SELECT name FROM ledger.book WHERE book_id = %s", [book.book_id])
    row = await cursor.fetchone()
    assert row is not None
    return row[0]


async def test_a_close_goes_forward_only_and_the_same_again_is_a_replay(book: Book) -> None:
    first = await close(book)
    assert await close(book) == first
    for through in (OCTOBER, SEPTEMBER):
        with pytest.raises(errors.PeriodAlreadyClosed):
            await close(book, through, "ben")
    assert (await close(book, OCTOBER + timedelta(days=1))).fact == 2
    with pytest.raises(errors.PeriodAlreadyClosed):
        await close(book)


async def test_only_days_that_are_over_by_the_books_clock_are_closed(book: Book) -> None:
    for through in (NOW.date(), NOW.date() + timedelta(days=1)):
        with pytest.raises(errors.PeriodNotOver):
            await close(book, through)
    await close(book, NOW.date() - timedelta(days=1))
    await book.ok(fund(PENDING_A, 1), now=NOW + timedelta(days=1))  # the book's clock, not the caller's
    await close(book, NOW.date())


async def test_a_closed_day_takes_no_journal_and_the_next_one_does(book: Book) -> None:
    await close(book)
    last_instant = FIRST_OPEN - timedelta(microseconds=1)
    refused = await book.post(late(effective_at=last_instant), late(effective_at=FIRST_OPEN))
    assert refused[0] == errors.PeriodClosed(OCTOBER, OCTOBER)
    assert isinstance(refused[1], m.Posted)


async def test_no_journal_slips_into_a_day_that_closes_while_writers_post(book: Book) -> None:
    """Writers on connections of their own; whoever comes after the close is refused, by the numbers."""

    async def write(count: int) -> list[m.Result]:
        async with await AsyncConnection.connect(book.database.app_dsn) as conn:
            told: list[m.Result] = []
            for _ in range(count):
                told += await post(
                    conn, book.book_id, [m.Unit((late(),)), m.Unit((fund(PENDING_A, 1),))], now=NOW
                )
                await conn.commit()
            return told

    async def close_soon() -> PeriodFact:
        async with await AsyncConnection.connect(book.database.app_dsn) as conn:
            fact = await periods.close(conn, book.book_id, By("asha", "month end", NOW), through=OCTOBER)
            await conn.commit()
            return fact

    fact, told = await asyncio.gather(close_soon(), asyncio.gather(*(write(6) for _ in range(4))))
    results = [result for some in told for result in some]
    stand = [r.seqs[0] for r in results if isinstance(r, m.Posted)]
    refused = [r for r in results if isinstance(r, errors.Refusal)]
    assert all(isinstance(r, errors.PeriodClosed) for r in refused)
    assert len(stand) + len(refused) == 48
    cursor = await book.conn.execute(
        "SELECT count(*) FROM ledger.journal WHERE book_id = %s AND seq > %s AND effective_at < %s",
        [book.book_id, fact.head, FIRST_OPEN],
    )
    assert await cursor.fetchone() == (0,)
    await book.conn.rollback()
    await assert_proved(book)


# ---------------------------------------------------------------- reopening


async def test_a_reopening_takes_two_people(book: Book) -> None:
    await close(book, SEPTEMBER)
    await close(book)
    asked = await propose(book, SEPTEMBER)
    assert await closed_through(book) == OCTOBER
    with pytest.raises(errors.SamePerson):
        await approve(book, asked.id, "asha")
    done = await approve(book, asked.id)
    assert (done.status, await approve(book, asked.id)) == ("approved", done)
    assert await closed_through(book) == SEPTEMBER
    await book.ok(late())
    facts = await periods.facts(book.conn, book.book_id)
    assert [(f.fact, f.action, f.through, f.proposal_id) for f in facts] == [
        (3, "reopen", SEPTEMBER, asked.id),
        (2, "close", OCTOBER, None),
        (1, "close", SEPTEMBER, None),
    ]
    assert (await close(book, person="chen")).trial_balance_hash != facts[1].trial_balance_hash
    await assert_proved(book)


async def test_everything_can_be_reopened(book: Book) -> None:
    await close(book)
    await approve(book, (await propose(book, None)).id)
    assert await closed_through(book) is None
    await book.ok(late())
    with pytest.raises(errors.PeriodNotClosed):
        await propose(book, None)
    await assert_proved(book)


async def test_a_reopening_goes_back_only(book: Book) -> None:
    with pytest.raises(errors.PeriodNotClosed):
        await propose(book, SEPTEMBER)
    await close(book)
    for through in (OCTOBER, OCTOBER + timedelta(days=1)):
        with pytest.raises(errors.PeriodNotClosed):
            await propose(book, through)


async def test_a_rejected_reopening_opens_nothing(book: Book) -> None:
    await close(book)
    asked = await propose(book, None)
    by = By("ben", "no", NOW)
    rejected = await proposals.reject(book.conn, book.book_id, Kind.REOPENING, asked.id, by)
    await book.conn.commit()
    assert rejected.status == "rejected"
    with pytest.raises(errors.ProposalDecided):
        await approve(book, asked.id)
    assert await closed_through(book) == OCTOBER
    await assert_proved(book)


async def test_a_reopening_is_of_what_was_closed_when_it_was_proposed(book: Book) -> None:
    await close(book, SEPTEMBER)
    asked = await propose(book, None)
    await close(book)
    with pytest.raises(errors.ReopeningOutdated):
        await approve(book, asked.id)
    assert await propose(book, None, id_=asked.id) == asked  # a replay, whatever became of the book
    with pytest.raises(errors.ProposalConflict):
        await propose(book, date(2026, 1, 1), id_=asked.id)


# ---------------------------------------------------------------- late journals


async def test_a_late_journal_counts_from_the_first_open_day_on_request(book: Book) -> None:
    await close(book)
    refused, stands = await book.post(late(), moved())
    assert isinstance(refused, errors.PeriodClosed)
    assert isinstance(stands, m.Posted)
    cursor = await book.conn.execute(
        "SELECT effective_at, canonical::jsonb ->> 'effective_at', canonical::jsonb ->> 'requested_effective_at'"
        " FROM ledger.journal WHERE book_id = %s",
        [book.book_id],
    )
    assert await cursor.fetchall() == [
        (FIRST_OPEN, "2026-11-01T00:00:00.000000Z", "2026-10-05T12:30:00.000000Z")
    ]
    await book.conn.rollback()
    await assert_proved(book)


async def test_a_late_journal_is_a_replay_whatever_became_of_the_period(book: Book) -> None:
    first, second = moved("first"), moved("second")
    [before] = await book.ok(first)  # nothing is closed: it counts when it says
    await close(book)
    [after] = await book.ok(second)
    again = await book.ok(first, second)
    assert [(r.seqs, r.replayed) for r in again] == [(before.seqs, True), (after.seqs, True)]
    await approve(book, (await propose(book, None)).id)
    assert [r.replayed for r in await book.ok(first, second)] == [True, True]
    [conflict] = await book.post(late(source="second", effective_at=FIRST_OPEN))
    assert isinstance(conflict, errors.SourceConflict)  # the day it counts on is not the time it asked for
    await assert_proved(book)


async def test_a_journal_in_an_open_period_does_not_move(book: Book) -> None:
    await close(book, SEPTEMBER)
    await book.ok(moved())
    cursor = await book.conn.execute(
        "SELECT effective_at, canonical::jsonb ? 'requested_effective_at' FROM ledger.journal WHERE book_id = %s",
        [book.book_id],
    )
    assert await cursor.fetchall() == [(LATE, False)]


async def test_metadata_called_like_the_field_is_no_field(book: Book) -> None:
    await book.ok(late(metadata={"requested_effective_at": "2026"}))
    await assert_proved(book)


# ---------------------------------------------------------------- raw SQL of the application's role

CLOSE = "SELECT ledger.close_period(%s, %s, sha256('x'), %s, %s, %s, %s)"
PROPOSE = "SELECT ledger.propose(%s, %s, 'reopening', %s::jsonb, 'asha', 'so', now())"


async def refused(book: Book, statement: str, *values: object) -> str:
    with pytest.raises(psycopg.Error) as error:
        await book.conn.execute(statement.encode(), values)
    await book.conn.rollback()
    return error.value.sqlstate or ""


async def test_the_database_refuses_closes_that_cannot_be(book: Book) -> None:
    await close(book)
    november = date(2026, 11, 1)
    for values, state in (
        ((OCTOBER, 0, "asha", "so", NOW), "KH027"),
        ((SEPTEMBER, 0, "asha", "so", NOW), "KH027"),
        ((NOW.date(), 0, "asha", "so", NOW), "KH027"),
        ((november, 1, "asha", "so", NOW), "KH027"),
        ((None, 0, "asha", "so", NOW), "KH019"),
        ((november, 0, "asha", "", NOW), "KH025"),
        ((november, 0, None, "so", NOW), "KH025"),
        ((november, 0, "asha", "so", None), "KH019"),
    ):
        assert await refused(book, CLOSE, book.book_id, *values) == state, values
    assert await refused(book, CLOSE, 999, november, 0, "asha", "so", NOW) == "KH005"
    assert await closed_through(book) == OCTOBER


OFF_THE_CALENDAR = ("-infinity", "0044-03-15 BC", "0001-01-01", "1899-12-31")


@pytest.mark.parametrize("day", OFF_THE_CALENDAR)
async def test_a_book_that_is_not_closed_is_not_closed_through_a_day_that_is_none(
    book: Book, day: str
) -> None:
    assert await refused(book, CLOSE, book.book_id, day, 0, "asha", "so", NOW) == "KH014"
    assert await refused(book, CLOSE, book.book_id, "infinity", 0, "asha", "so", NOW) == "KH027"
    await book.ok(fund(PENDING_A, 1))
    await assert_proved(book)


@pytest.mark.parametrize("day", OFF_THE_CALENDAR)
async def test_not_even_its_owner_moves_a_book_to_a_day_that_is_none(book: Book, day: str) -> None:
    async with await AsyncConnection.connect(book.database.owner_dsn) as owner:
        with pytest.raises(psycopg.Error) as error:
            await owner.execute("UPDATE ledger.book SET closed_through = %s::date", [day])
    assert error.value.sqlstate == "KH014"


async def test_a_day_before_the_calendar_is_a_typed_error(book: Book) -> None:
    with pytest.raises(errors.InvalidEntry):
        await close(book, date(1899, 12, 31))
    await close(book)
    with pytest.raises(errors.InvalidEntry):
        await propose(book, date.min)


async def test_what_is_recorded_is_the_same_in_every_style_of_dates(book: Book) -> None:
    digest = periods.trial_balance_hash(await name_of(book), 0, OCTOBER, [])
    close_raw = CLOSE.replace("sha256('x')", "%s")
    german = "SET LOCAL datestyle = 'German'"  # psycopg cannot read times in it: what follows writes
    await book.conn.execute(german)
    given = [book.book_id, OCTOBER, digest, 0, "asha", "so", NOW]
    await book.conn.execute(close_raw.encode(), given)
    content = '{"closed_through": "2026-10-31", "through": "2026-09-30"}'
    await book.conn.execute(PROPOSE.encode(), [book.book_id, id_ := new_id(), content])
    approval = "SELECT ledger.decide_proposal(%s, %s, 'reopening', true, 'ben', 'so', now())"
    await book.conn.execute(approval.encode(), [book.book_id, id_])
    await book.conn.commit()
    told = [a.subject for a in await acts.acts(book.conn, book.book_id)]
    assert told == [str(id_), str(id_), "2026-10-31"]
    await assert_proved(book)


async def test_the_database_refuses_reopenings_that_cannot_be(book: Book) -> None:
    await close(book)
    for content in (
        '{"closed_through": "2026-10-31", "through": "2026-10-31"}',
        '{"closed_through": "2026-10-31", "through": "2026-13-31"}',
        '{"closed_through": "2026-10-30", "through": null}',
        *(f'{{"closed_through": "2026-10-31", "through": "{day}"}}' for day in OFF_THE_CALENDAR),
        '{"closed_through": "2026-10-31", "through": "yesterday"}',
        '{"closed_through": "2026-10-31", "through": "20260930"}',
        '{"closed_through": "2026-10-31", "through": "2026-09-30\\n"}',
        '{"closed_through": "2026-10-31", "through": 20260930}',
        '{"closed_through": "2026-10-31"}',
        "[]",
    ):
        assert await refused(book, PROPOSE, book.book_id, new_id(), content) == "KH027", content
    asked = await propose(book, None)
    approval = "SELECT ledger.decide_proposal(%s, %s, 'reopening', true, %s, 'so', now())"
    assert await refused(book, approval, book.book_id, asked.id, "asha") == "KH026"
    await close(book, OCTOBER + timedelta(days=1))
    assert await refused(book, approval, book.book_id, asked.id, "ben") == "KH027"


async def test_the_application_moves_no_close_by_itself(book: Book) -> None:
    await close(book)
    for statement in (
        "UPDATE ledger.book SET closed_through = NULL",
        "SELECT ledger.move_close(1, 'reopen', NULL, NULL, NULL, 'asha', 'so', 1)",
    ):
        assert await refused(book, statement) == "42501"


async def test_a_journal_in_a_closed_day_is_refused_by_the_database_too(book: Book) -> None:
    """The writer's own judgement is left out: it believes that nothing is closed."""
    await close(book)
    unit = m.Unit((late(),))
    state = await load(book.conn, book.book_id, [unit], now=NOW)
    state.closed_through = None
    with pytest.raises(psycopg.Error) as error:
        await store(book.conn, state, decide(state, [unit]))
    await book.conn.rollback()
    assert error.value.sqlstate == "KH002"


# ---------------------------------------------------------------- what a superuser did


async def findings_after(book: Book, *statements: str) -> list[tuple[str, str]]:
    """What the audit names after a superuser's statements, as (table, field)."""
    async with await AsyncConnection.connect(book.database.admin_dsn) as conn:
        await conn.execute("SET session_replication_role = replica")
        for statement in statements:
            await conn.execute(statement.encode(), {"book": book.book_id})
        await conn.commit()
    async with await AsyncConnection.connect(book.database.audit_dsn) as conn:
        return [(f.table, f.field) for r in await audit(conn, book.book_id) for f in r.findings]


async def test_a_close_taken_back_behind_the_facts_is_named(book: Book) -> None:
    await close(book)
    named = await findings_after(
        book, "UPDATE ledger.book SET closed_through = NULL WHERE book_id = %(book)s"
    )
    assert named == [("book", "closed_through")]


async def test_a_journal_smuggled_into_a_closed_day_is_named(book: Book) -> None:
    """Effective time, canonical line and leaf hash agree: only the close tells."""
    await close(book)
    await book.ok(late(effective_at=FIRST_OPEN))
    named = await findings_after(
        book,
        "UPDATE ledger.journal SET effective_at = '2026-10-05Z', canonical = replace(canonical,"
        ' \'"effective_at":"2026-11-01\', \'"effective_at":"2026-10-05\') WHERE book_id = %(book)s',
        "UPDATE ledger.journal SET leaf_hash = sha256('\\x00'::bytea || convert_to(canonical, 'UTF8'))"
        " WHERE book_id = %(book)s",
    )
    assert named == [("journal", "effective_at")]


async def test_a_trial_balance_that_was_another_is_named(book: Book) -> None:
    """Fact, act and the act's leaf hash agree: only the lines tell."""
    await book.ok(late())
    fact = await close(book)
    assert fact.trial_balance_hash is not None
    true, lie = fact.trial_balance_hash.hex(), "ab" * 32
    named = await findings_after(
        book,
        f"UPDATE ledger.period_fact SET trial_balance_hash = '\\x{lie}' WHERE book_id = %(book)s",
        f"UPDATE ledger.act SET detail = replace(detail, '{true}', '{lie}') WHERE book_id = %(book)s",
        "UPDATE ledger.act a SET leaf_hash = sha256('\\x00'::bytea || convert_to(ledger.act_line(a, b.name), 'UTF8'))"
        " FROM ledger.book b WHERE b.book_id = a.book_id AND b.book_id = %(book)s",
    )
    assert named == [("period_fact", "trial_balance_hash")]


# Last: it takes checks off tables that the tests of this module share.
@pytest.mark.parametrize("day", ["-infinity", "infinity", "0044-03-15 BC", "9999-12-31"])
async def test_a_day_that_cannot_be_read_is_named(book: Book, day: str) -> None:
    """The checks of the columns were taken off: the audit names the day, and goes on."""
    await close(book)
    await book.ok(moved())
    named = await findings_after(
        book,
        "ALTER TABLE ledger.book DROP CONSTRAINT IF EXISTS book_closed_through",
        "ALTER TABLE ledger.period_fact DROP CONSTRAINT IF EXISTS period_through",
        f"UPDATE ledger.period_fact SET through = '{day}' WHERE book_id = %(book)s",
        f"UPDATE ledger.book SET closed_through = '{day}' WHERE book_id = %(book)s",
    )
    assert ("period_fact", "through") in named
