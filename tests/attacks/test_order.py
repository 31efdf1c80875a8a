"""Order and history: numbers, heads, clocks, sources, per-account sequences, closed days, orphans and races."""

from __future__ import annotations

import asyncio
from datetime import date, timedelta
from typing import Any

import pytest
from psycopg import AsyncConnection

from ledger import errors
from ledger import model as m
from tests.attacks.conftest import Scene
from tests.attacks.raw import (
    OTHER_VERSION,
    UNIQUE,
    VALUE,
    Forged,
    Leg,
    insert_rows,
    is_refused,
    refused,
)
from tests.ledger.words import (
    CREDIT_WALLET,
    ESCROW,
    FEES,
    NOW,
    PENDING_A,
    PENDING_B,
    WALLET,
    fund,
    journal,
    pay,
)

LEG = Leg(WALLET, PENDING_B, 5)


async def head(scene: Scene) -> int:
    cursor = await scene.audit.execute("SELECT head FROM ledger.book WHERE book_id = %s", [scene.book_id])
    row = await cursor.fetchone()
    await scene.audit.rollback()
    assert row is not None
    return row[0]


async def orphans(scene: Scene) -> int:
    """Postings above the head: committed without a journal, in no book."""
    cursor = await scene.audit.execute(
        "SELECT count(*) FROM ledger.posting JOIN ledger.book USING (book_id)"
        " WHERE book_id = %s AND journal_seq > head",
        [scene.book_id],
    )
    row = await cursor.fetchone()
    await scene.audit.rollback()
    assert row is not None
    return row[0]


async def until_blocked(scene: Scene, conn: AsyncConnection[Any]) -> None:
    """Returns once the session of ``conn`` waits for another one's lock."""
    while True:
        cursor = await scene.audit.execute(
            "SELECT cardinality(pg_blocking_pids(%s))", [conn.info.backend_pid]
        )
        row = await cursor.fetchone()
        await scene.audit.rollback()
        if row is not None and row[0]:
            return


# ---------------------------------------------------------------- numbers


@pytest.mark.parametrize("offset", [1, 100, -1, -3])
async def test_a_gap_or_a_reuse_of_seq_is_refused(scene: Scene, offset: int) -> None:
    forged = await scene.forge([LEG])
    forged.journals[0]["seq"] += offset
    for posting in forged.postings:
        posting["journal_seq"] += offset
    if offset > 0:
        await is_refused(scene.app, forged, "KH001", appended=OTHER_VERSION)
    else:
        await is_refused(scene.app, Forged(forged.journals, version=forged.version), UNIQUE)


async def test_a_batch_with_a_hole_or_a_number_twice_is_refused(scene: Scene) -> None:
    forged = await scene.forge([LEG], [LEG], [LEG])
    del forged.journals[1]
    with refused("KH001"):
        await forged.insert(scene.app)
    await scene.app.rollback()
    forged = await scene.forge([LEG], [LEG])
    forged.journals[1]["seq"] -= 1
    with refused(UNIQUE):  # ledger.append has no argument for either
        await forged.insert(scene.app)


@pytest.mark.parametrize("seq", [0, -1])
async def test_a_number_that_is_not_positive_is_refused(scene: Scene, seq: int) -> None:
    forged = await scene.forge([LEG])
    forged.journals[0]["seq"] = seq
    forged.postings.clear()
    await is_refused(scene.app, forged, VALUE)


async def test_a_second_journal_for_one_source_key_is_refused(scene: Scene) -> None:
    await scene.ok(journal(pay(PENDING_B, ESCROW, 1), source="once"))
    forged = await scene.forge([LEG])
    forged.journals[0] |= {"source_type": "test", "source_id": "once", "source_event": "done"}
    await is_refused(scene.app, forged, UNIQUE, "journal_source")


async def test_a_second_journal_of_one_id_is_refused_in_sql_and_typed_in_the_api(scene: Scene) -> None:
    first = journal(pay(PENDING_B, ESCROW, 1))
    await scene.ok(first)
    forged = await scene.forge([LEG])
    forged.journals[0]["id"] = first.id
    await is_refused(scene.app, forged, UNIQUE, "journal_book_id_id_key")
    with pytest.raises(errors.DatabaseRefused):
        await scene.post(
            m.Journal(first.id, "transfer", m.Source("test", "other", "done"), (pay(PENDING_B, ESCROW, 1),))
        )
    await scene.conn.rollback()


async def test_a_journal_cannot_reverse_itself_the_future_or_one_journal_twice(scene: Scene) -> None:
    for reverses in (0, -1, 4, 99):  # 4 is its own number
        forged = await scene.forge([LEG])
        forged.journals[0]["reverses"] = reverses
        await is_refused(scene.app, forged, VALUE)
    forged = await scene.forge([Leg(WALLET, ESCROW, 1)], [Leg(WALLET, ESCROW, 1)])
    for row in forged.journals:
        row["reverses"] = 1
    await is_refused(scene.app, forged, UNIQUE, "journal_reverses")


# ---------------------------------------------------------------- per-account sequences


@pytest.mark.parametrize("side", ["debit", "credit"])
@pytest.mark.parametrize("offset", [1, -1, 7])
async def test_a_wrong_number_in_an_account_is_refused(scene: Scene, side: str, offset: int) -> None:
    await scene.ok(fund(PENDING_B, 100), fund(PENDING_B, 100))
    forged = await scene.forge([Leg(WALLET, PENDING_B, 5)])
    forged.postings[0][f"{side}_seq"] += offset
    await is_refused(scene.app, forged, "KH005", "does not follow")


async def test_one_number_cannot_serve_as_debit_and_as_credit_of_one_account(scene: Scene) -> None:
    """1, 1, 3 has the right count, the right first and the right last number."""
    forged = await scene.forge([Leg(FEES, ESCROW, 5), Leg(ESCROW, FEES, 5), Leg(FEES, ESCROW, 5)])
    forged.postings[1]["credit_seq"] = forged.postings[0]["debit_seq"]
    await is_refused(scene.app, forged, "KH005", "does not follow")


async def test_an_accounts_numbers_cannot_run_against_the_order_of_the_book(scene: Scene) -> None:
    """Else the last line up to a journal would not state the balance as of that journal."""
    forged = await scene.forge([Leg(FEES, ESCROW, 5)], [Leg(FEES, ESCROW, 7)])
    first, second = (posting["journal_seq"] for posting in forged.postings)
    forged.postings[0]["journal_seq"], forged.postings[1]["journal_seq"] = second, first
    await is_refused(scene.app, forged, "KH013")


# ---------------------------------------------------------------- time


async def test_a_journal_effective_inside_a_closed_period_is_refused(scene: Scene) -> None:
    through = (NOW - timedelta(days=1)).date()
    await scene.close_by_hand(through)
    for late in (NOW - timedelta(days=1), NOW - timedelta(days=400)):
        forged = await scene.forge([LEG])
        forged.journals[0]["effective_at"] = late
        await is_refused(scene.app, forged, "KH002")
        [refusal] = await scene.post(journal(pay(PENDING_B, ESCROW, 1), effective_at=late))
        assert refusal == errors.PeriodClosed(late.date(), through)
    [first_open] = await scene.post(
        journal(pay(PENDING_B, ESCROW, 1), effective_at=NOW.replace(hour=0))  # the first instant after it
    )
    assert isinstance(first_open, m.Posted)


async def test_the_day_of_a_closed_period_is_utc_whatever_the_zone_of_the_session(scene: Scene) -> None:
    """23:00 UTC is the next day in Kolkata; the book's day decides."""
    late = NOW.replace(hour=23)
    await scene.ok(fund(WALLET, 1), now=late)
    await scene.close_by_hand(late.date())
    await scene.conn.execute("SET timezone = 'Asia/Kolkata'")
    [refusal] = await scene.post(journal(pay(PENDING_B, ESCROW, 1)), now=late)
    assert refusal == errors.PeriodClosed(date(2026, 11, 22), date(2026, 11, 22))


@pytest.mark.parametrize("offset", [timedelta(seconds=1), timedelta(microseconds=-1), timedelta(days=-365)])
async def test_recorded_at_is_the_books_clock_and_no_other(scene: Scene, offset: timedelta) -> None:
    forged = await scene.forge([LEG])
    forged.journals[0]["recorded_at"] += offset
    if offset < timedelta(0):
        await is_refused(scene.app, forged, "KH011", appended=OTHER_VERSION)
    else:
        with refused("KH011"):
            await forged.insert(scene.app)
        await scene.app.rollback()
        await forged.append(scene.app)  # which moves the book's clock with it


async def test_the_books_clock_never_goes_back_and_never_leaves_the_calendar(scene: Scene) -> None:
    update = "UPDATE ledger.book SET recorded_at = %s WHERE book_id = %s"
    for role in ("khata_app", "khata_owner"):
        conn = scene.roles()[role]
        with refused("KH011"):
            await conn.execute(update, [NOW - timedelta(days=1), scene.book_id])
        await conn.rollback()
        for never in ("infinity", "294276-12-31", "9000-01-02"):
            with refused(VALUE, "book_clock"):
                await conn.execute(update, [never, scene.book_id])
            await conn.rollback()
        with refused("KH011"):
            await conn.execute(update, ["-infinity", scene.book_id])
        await conn.rollback()
    with refused("KH011"):
        await scene.app.execute(update, [None, scene.book_id])


@pytest.mark.parametrize("never", ["infinity", "-infinity", "0044-03-15 BC", "9999-12-31"])
async def test_a_journal_effective_outside_the_calendar_is_refused(scene: Scene, never: str) -> None:
    forged = await scene.forge([LEG])
    forged.journals[0]["effective_at"] = never
    await is_refused(scene.app, forged, VALUE, "journal_effective")


# ---------------------------------------------------------------- orphans and races


async def test_a_posting_cannot_be_added_to_a_journal_that_stands(scene: Scene) -> None:
    top = await head(scene)
    for seq in range(1, top + 1):
        forged = await scene.forge([LEG])
        forged.postings[0] |= {"journal_seq": seq, "line": 2}
        with refused("KH004"):
            await insert_rows(scene.app, "posting", forged.postings)
        await scene.app.rollback()


async def test_a_posting_of_a_book_that_does_not_exist_is_refused(scene: Scene) -> None:
    forged = await scene.forge([LEG])
    forged.postings[0]["book_id"] = 10**6
    with refused("KH004"):
        await insert_rows(scene.app, "posting", forged.postings)


@pytest.mark.parametrize(("ahead", "line"), [(1, 1), (1, 2), (1, 30_000), (2, 1), (1000, 1)])
async def test_postings_committed_without_their_journal_do_not_stop_the_book(
    scene: Scene, ahead: int, line: int
) -> None:
    """The head of a book is cleared by whoever takes its lock."""
    forged = await scene.forge([LEG])
    forged.postings[0] |= {"journal_seq": await head(scene) + ahead, "line": line}
    await insert_rows(scene.app, "posting", forged.postings)
    await scene.app.commit()
    assert await orphans(scene) == 1
    await scene.ok(fund(WALLET, 10))
    assert await orphans(scene) == 0
    assert await scene.balance(PENDING_B) == (0, 0, 0)


async def test_clearing_the_head_touches_no_journal_that_stands_and_no_other_book(scene: Scene) -> None:
    count = (
        "SELECT count(*) FROM ledger.posting p JOIN ledger.book b USING (book_id) WHERE journal_seq <= head"
    )
    before = await (await scene.audit.execute(count)).fetchone()
    await scene.audit.rollback()
    await scene.app.execute("UPDATE ledger.book SET recorded_at = recorded_at")
    await scene.app.commit()
    assert await (await scene.audit.execute(count)).fetchone() == before


async def test_a_line_for_the_next_journal_waits_for_the_writer_and_is_then_history(scene: Scene) -> None:
    """The race: the writer has posted, its COMMIT is not there yet; the attacker adds a line to the same journal."""
    from ledger.post import post

    forged = await scene.forge([Leg(FEES, CREDIT_WALLET, 5)])
    forged.postings[0]["line"] = 2
    await post(scene.conn, scene.book_id, [m.Unit((fund(PENDING_A, 10),))], now=NOW)
    attack = asyncio.create_task(insert_rows(scene.app, "posting", forged.postings))
    await until_blocked(scene, scene.app)
    await scene.conn.commit()
    with refused("KH004"):
        await attack


async def test_a_line_for_the_next_journal_that_came_first_is_cleared_by_the_writer(scene: Scene) -> None:
    """The race the other way round: the writer waits for the attacker, who then commits."""
    forged = await scene.forge([Leg(FEES, CREDIT_WALLET, 5)])
    await insert_rows(scene.app, "posting", forged.postings)
    writer = asyncio.create_task(scene.ok(fund(PENDING_A, 10)))
    await until_blocked(scene, scene.conn)
    await scene.app.commit()
    await writer
    assert await orphans(scene) == 0
    assert await scene.balance(FEES) == (0, 0, 0)


async def test_a_whole_journal_that_lost_the_race_for_its_number_is_refused(scene: Scene) -> None:
    forged = await scene.forge([LEG])
    await scene.ok(fund(PENDING_A, 10))
    await is_refused(scene.app, forged, UNIQUE)
    forged.postings[0]["line"] = 2
    await is_refused(scene.app, forged, "KH004", appended=UNIQUE)
    forged.postings.clear()
    await is_refused(scene.app, forged, UNIQUE)


async def test_a_snapshot_from_before_cannot_write_into_the_present(scene: Scene) -> None:
    """REPEATABLE READ does not see the head that has moved: it must fail, not believe the old one."""
    forged = await scene.forge([LEG])
    forged.postings[0]["line"] = 2
    await scene.app.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    await scene.app.execute("SELECT head FROM ledger.book")
    await scene.ok(fund(PENDING_A, 10))
    for way in (forged.insert, forged.append):
        with refused("40001" if way == forged.insert else "KH037"):
            async with scene.app.transaction():
                await way(scene.app)
