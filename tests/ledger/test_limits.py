"""Velocity limits: gross posted debits or credits, as sum or count, within calendar windows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from ledger import errors
from ledger import model as m
from ledger.books import account_history, change_account
from ledger.limits import LimitTerms, Measure, Side, Window, limit_history, limits_in_force, set_limit
from tests.ledger.recompute import assert_sound
from tests.ledger.words import (
    AUTHORIZATIONS,
    ESCROW,
    FEES,
    NOW,
    PENDING_A,
    WALLET,
    Book,
    fund,
    journal,
    new_id,
    pay,
    unit,
)

DAY = datetime(2026, 11, 22, tzinfo=UTC)  # of NOW, a Sunday
Limit = Callable[..., Awaitable[None]]


def spend(amount: int) -> m.Journal:
    return journal(pay(PENDING_A, WALLET, amount))


def terms(maximum: int, name: str = "daily", **more: Any) -> LimitTerms:
    given: dict[str, Any] = {"side": Side.DEBIT, "measure": Measure.SUM, "window": Window.DAY} | more
    return LimitTerms(name, maximum=maximum, **given)


@pytest.fixture
def limit(book: Book) -> Limit:
    async def set_(maximum: int, path: str = WALLET, **more: Any) -> None:
        at = {"now": book.now, "reason": "test", "person": "tester"}
        await set_limit(book.conn, book.book_id, path, "INR", terms(maximum, **more), **at)
        await book.conn.commit()

    return set_


async def used(book: Book, path: str = WALLET, now: datetime = NOW) -> dict[str, tuple[int, int]]:
    """Used and maximum of the active limits, by name."""
    found = await limits_in_force(book.conn, book.book_id, path, "INR", now=now)
    await book.conn.rollback()
    assert found is not None
    return {limit.name: (limit.used, limit.maximum) for limit in found}


async def test_a_sum_of_a_day_is_bounded_to_the_paisa_and_the_next_day_begins_anew(
    book: Book, limit: Limit
) -> None:
    await book.ok(fund(WALLET, 1000))
    await limit(100)
    await book.ok(spend(60), spend(40))
    [refused] = await book.post(spend(1))
    assert refused == errors.VelocityExceeded(
        WALLET, "INR", "daily", window_start=DAY, used=100, maximum=100, needed=1
    )
    await book.ok(spend(100), now=DAY + timedelta(days=1))
    await assert_sound(book.conn, book.book_id)


async def test_lines_are_counted_whatever_their_amount(book: Book, limit: Limit) -> None:
    await book.ok(fund(WALLET, 1000))
    await limit(2, measure=Measure.COUNT)
    stand, refused = await book.post(spend(500), journal(pay(PENDING_A, WALLET, 1), pay(FEES, WALLET, 1)))
    assert isinstance(stand, m.Posted)
    assert refused == errors.VelocityExceeded(WALLET, "INR", "daily", DAY, used=2, maximum=2, needed=1)
    assert await used(book) == {"daily": (1, 2)}


async def test_credits_are_bounded_apart_from_debits(book: Book, limit: Limit) -> None:
    await limit(100, side=Side.CREDIT)
    await book.ok(fund(WALLET, 100), spend(100))
    [refused] = await book.post(fund(WALLET, 1))
    assert isinstance(refused, errors.VelocityExceeded)


async def test_a_refused_unit_leaves_no_trace_in_the_counters(book: Book, limit: Limit) -> None:
    await book.ok(fund(WALLET, 1000))
    await limit(100)
    first, last = await book.post(unit(spend(60), spend(60)), spend(100))
    assert isinstance(first, errors.VelocityExceeded)
    assert (first.used, first.index) == (60, 1)
    assert isinstance(last, m.Posted)
    assert await used(book) == {"daily": (100, 100)}


@pytest.mark.parametrize(
    ("window", "start", "end"),
    [
        (Window.MINUTE, datetime(2026, 11, 22, 9, 0, tzinfo=UTC), datetime(2026, 11, 22, 9, 1, tzinfo=UTC)),
        (Window.HOUR, datetime(2026, 11, 22, 9, 0, tzinfo=UTC), datetime(2026, 11, 22, 10, 0, tzinfo=UTC)),
        (Window.DAY, DAY, DAY + timedelta(days=1)),
        (Window.WEEK, datetime(2026, 11, 16, tzinfo=UTC), datetime(2026, 11, 23, tzinfo=UTC)),
        (Window.MONTH, datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)),
    ],
)
async def test_windows_are_the_calendars_in_utc_whatever_zone_the_session_has(
    book: Book, limit: Limit, window: Window, start: datetime, end: datetime
) -> None:
    await book.conn.execute("SET timezone = 'Asia/Kolkata'")
    await book.conn.commit()
    await book.ok(fund(WALLET, 1000))
    await limit(100, window=window)
    await book.ok(spend(100))
    [refused] = await book.post(spend(1), now=end - timedelta(microseconds=1))
    assert isinstance(refused, errors.VelocityExceeded)
    assert refused.window_start == start
    await book.ok(spend(100), now=end)


async def test_a_limit_counts_from_when_it_was_first_set_and_goes_on_when_its_maximum_changes(
    book: Book, limit: Limit
) -> None:
    await book.ok(fund(WALLET, 1000), spend(500))
    await limit(100)
    await book.ok(spend(80))
    await limit(50)  # below what is used: allowed, and bounds what follows
    [refused] = await book.post(spend(1))
    assert refused == errors.VelocityExceeded(WALLET, "INR", "daily", DAY, used=80, maximum=50, needed=1)
    await limit(90)
    await book.ok(spend(10))
    assert await used(book) == {"daily": (90, 90)}


async def test_a_limit_switched_off_neither_bounds_nor_counts_and_goes_on_from_what_it_had(
    book: Book, limit: Limit
) -> None:
    await book.ok(fund(WALLET, 1000))
    await limit(100)
    await book.ok(spend(70))
    await limit(100, active=False)
    await book.ok(spend(500))
    assert await used(book) == {}
    await limit(100)
    [refused] = await book.post(spend(31))
    assert isinstance(refused, errors.VelocityExceeded)
    assert refused.used == 70


async def test_several_limits_hold_at_once_and_the_first_by_name_is_told(book: Book, limit: Limit) -> None:
    await book.ok(fund(WALLET, 1000))
    await limit(2, name="b_often", measure=Measure.COUNT)
    await limit(100, name="a_much")
    await limit(150, name="c_month", window=Window.MONTH)
    await book.ok(spend(50), spend(50))
    [refused] = await book.post(spend(1))
    assert isinstance(refused, errors.VelocityExceeded)
    assert refused.limit == "a_much"
    [month] = await book.post(spend(51), now=NOW + timedelta(days=1))
    assert isinstance(month, errors.VelocityExceeded)
    assert month.limit == "c_month"


async def test_floors_are_judged_before_limits(book: Book, limit: Limit) -> None:
    await limit(0)
    [refused] = await book.post(spend(1))
    assert isinstance(refused, errors.InsufficientFunds)


async def test_holds_count_when_they_are_captured_and_not_when_they_are_placed(
    book: Book, limit: Limit
) -> None:
    await book.ok(fund(WALLET, 1000))
    await limit(100)
    hold = m.Place(new_id(), WALLET, PENDING_A, 500, "INR")
    await book.ok(journal(hold=hold), journal(hold=m.Capture(hold.hold_id, 100)))
    [refused] = await book.post(journal(hold=m.Capture(hold.hold_id, 1)))
    assert isinstance(refused, errors.VelocityExceeded)
    await book.ok(journal(hold=m.Release(hold.hold_id)))


async def test_a_reversal_counts_on_the_other_side_and_gives_nothing_back(book: Book, limit: Limit) -> None:
    await book.ok(fund(WALLET, 1000))
    await limit(100)
    await limit(100, name="in_daily", side=Side.CREDIT)
    [spent] = await book.ok(spend(100))
    await book.ok(journal(reverses=spent.seqs[0], kind="reversal"))
    assert await used(book) == {"daily": (100, 100), "in_daily": (100, 100)}


async def test_what_a_limit_bounds_is_fixed_under_its_name(book: Book, limit: Limit) -> None:
    await limit(100)
    for other in ({"side": Side.CREDIT}, {"measure": Measure.COUNT}, {"window": Window.HOUR}):
        with pytest.raises(errors.LimitFixed):
            await limit(100, **other)
        await book.conn.rollback()
    await limit(100, name="other", window=Window.HOUR)


async def test_limits_of_unknown_and_closed_accounts_are_refused(book: Book, limit: Limit) -> None:
    with pytest.raises(errors.AccountUnknown):
        await limit(1, path="Liabilities:Customer:nobody:Wallet")
    await change_account(
        book.conn, book.book_id, PENDING_A, "INR", now=NOW, reason="test", person="t", status=m.AccountStatus.CLOSED
    )  # fmt: skip
    with pytest.raises(errors.AccountClosed):
        await limit(1, path=PENDING_A)


async def test_nobody_sets_a_limit_without_a_name_of_their_own_and_a_reason(book: Book) -> None:
    for person, reason in (("", "why"), ("two words", "why"), ("ada", ""), ("ada", "   ")):
        with pytest.raises(errors.DatabaseRefused) as refused:
            await set_limit(
                *(book.conn, book.book_id, WALLET, "INR", terms(1)), now=NOW, reason=reason, person=person
            )
        assert refused.value.sqlstate == "KH025"
        await book.conn.rollback()


async def test_the_history_tells_who_set_what_from_which_journal_on(book: Book, limit: Limit) -> None:
    await limit(100)
    await book.ok(fund(WALLET, 10))
    await limit(50)
    history = await limit_history(book.conn, book.book_id, WALLET, "INR")
    assert history is not None
    assert [(f.fact, f.maximum, f.after_seq, f.person) for f in history] == [
        (1, 100, 0, "tester"),
        (2, 50, 1, "tester"),
    ]
    assert await limit_history(book.conn, book.book_id, WALLET, "INR", owner="b") is None


async def test_the_floor_that_was_valid_at_any_journal_can_be_read(book: Book) -> None:
    async def floor(value: int | None) -> None:
        at: dict[str, Any] = {"now": book.now, "reason": "test", "person": "tester"}
        await change_account(book.conn, book.book_id, WALLET, "INR", floor=value, **at)
        await book.conn.commit()

    await book.ok(fund(WALLET, 10))
    await floor(-5)
    await book.ok(fund(WALLET, 10))
    await floor(None)
    history = await account_history(book.conn, book.book_id, WALLET, "INR")
    assert history is not None
    at = {seq: [f.floor for f in history if f.after_seq < seq][-1] for seq in (1, 2, 3)}
    assert at == {1: 0, 2: -5, 3: None}
    assert [(f.fact, f.person) for f in history] == [(1, None), (2, "tester"), (3, "tester")]


async def test_the_memo_pair_can_be_limited_too_and_several_accounts_in_one_batch(
    book: Book, limit: Limit
) -> None:
    await limit(10, path=ESCROW)
    await limit(5, path=FEES, side=Side.CREDIT)
    await limit(1, path=AUTHORIZATIONS)
    first, second, third = await book.post(fund(FEES, 5), fund(WALLET, 6), fund(FEES, 1))
    assert isinstance(first, m.Posted)
    assert (second, third) == (
        errors.VelocityExceeded(ESCROW, "INR", "daily", DAY, used=5, maximum=10, needed=6),
        errors.VelocityExceeded(FEES, "INR", "daily", DAY, used=5, maximum=5, needed=1),
    )


# ---------------------------------------------------------------- what the database refuses by itself


async def test_rows_that_exceed_a_limit_are_refused_by_the_database(
    book: Book, limit: Limit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the application, with ``decide`` blind to limits: its rows are right but for the limit they break."""

    async def blind(*_: Any) -> dict[int, Any]:
        return {}

    await book.ok(fund(WALLET, 1000))
    await limit(100)
    await book.ok(spend(90))
    monkeypatch.setattr("ledger.load._limits", blind)
    with pytest.raises(errors.DatabaseRefused) as refused:
        await book.post(spend(11))
    assert refused.value.sqlstate == "KH020"
    await book.conn.rollback()
    await book.ok(spend(10))
    assert await used(book) == {"daily": (100, 100)}


async def test_the_application_cannot_touch_facts_or_counters_nor_can_their_owner(
    book: Book, limit: Limit
) -> None:
    await book.ok(fund(WALLET, 10))
    await limit(100)
    await book.ok(spend(1))
    for statement in (
        "INSERT INTO ledger.limit_fact SELECT * FROM ledger.limit_fact",
        "INSERT INTO ledger.limit_use SELECT 1, 1, 'x', now(), 1",
        "UPDATE ledger.limit_use SET used = 1",
        "UPDATE ledger.balance SET limits = 0",
        "SELECT ledger.apply_limits(1, 1, 1, now(), '{1}')",
        *FORBIDDEN,
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await book.conn.execute(statement)  # type: ignore[arg-type]
        await book.conn.rollback()
    async with await psycopg.AsyncConnection.connect(book.database.owner_dsn) as conn:
        for statement in FORBIDDEN:
            with pytest.raises(psycopg.DatabaseError) as refused:
                await conn.execute(statement)  # type: ignore[arg-type]
            assert refused.value.sqlstate == "KH010", statement
            await conn.rollback()


FORBIDDEN = (
    "UPDATE ledger.limit_fact SET maximum = 1000000",
    "DELETE FROM ledger.limit_fact",
    "TRUNCATE ledger.limit_fact",
    "DELETE FROM ledger.limit_use",
    "TRUNCATE ledger.limit_use",
)


async def test_terms_that_are_none_are_refused_by_the_database(book: Book) -> None:
    for values, state in (
        ("'Daily', 'debit', 'sum', 1, 'day', true", "KH022"),
        ("'daily', 'both', 'sum', 1, 'day', true", "KH022"),
        ("'daily', 'debit', 'mean', 1, 'day', true", "KH022"),
        ("'daily', 'debit', 'sum', -1, 'day', true", "KH022"),
        ("'daily', 'debit', 'sum', 1, 'year', true", "KH022"),
        ("'daily', 'debit', 'sum', NULL, 'day', true", "KH019"),
        ("'daily', 'debit', 'sum', 1, 'day', NULL", "KH019"),
    ):
        with pytest.raises(psycopg.DatabaseError) as refused:
            await book.conn.execute(
                f"SELECT ledger.set_limit(1, 1, {values}, 'why', 'who', now())"  # type: ignore[arg-type]
            )
        assert refused.value.sqlstate == state, values
        await book.conn.rollback()


@pytest.mark.parametrize(
    "change", [{"name": "Daily"}, {"maximum": -1}, {"maximum": 2**62 + 1}, {"maximum": True}]
)
def test_terms_that_are_none_cannot_be_built(change: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidEntry):
        terms(**({"maximum": 1} | change))
