"""Posting in bulk against posting one by one: the same rows and results, whatever gets in the way."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus

from khata.database import Database
from ledger import errors, wire
from ledger import model as m
from ledger.acts import By
from ledger.books import change_account
from ledger.bulk import Batch, Bulk, BulkResult, Paths
from ledger.bulk.post import MOST_LOCKED
from ledger.limits import LimitTerms, Measure, Side, Window, set_limit
from ledger.periods import close
from ledger.post import post_and_know
from tests.bulk.desk import Desk, captures, funding, opened, places, told, transfers
from tests.ledger.words import ESCROW, FEES, NOW, PENDING_A, PENDING_B, WALLET

ROWS = """
SELECT p.*, j.*, b.name FROM ledger.journal j JOIN ledger.posting p ON (p.book_id, p.journal_seq) = (j.book_id, j.seq)
  JOIN ledger.book b ON b.book_id = j.book_id WHERE j.book_id = %s ORDER BY j.seq, p.line"""
HOLDS = "SELECT * FROM ledger.hold WHERE book_id = %s ORDER BY hold_id"
BALANCES = "SELECT * FROM ledger.balance WHERE book_id = %s ORDER BY account_id"

rows = st.tuples(
    st.permutations([WALLET, ESCROW, PENDING_A, PENDING_B, FEES]), st.integers(1, 300) | st.just(10**15)
).map(lambda drawn: (drawn[0][0], drawn[0][1], drawn[1]))
numbered = st.tuples(rows, st.integers(0, 40))


@st.composite
def stories(draw: st.DrawFn) -> list[Batch]:
    """Floors bind, source keys come again with the same and with other content, sums come near their bound; holds are
    captured whole, in part, twice, late and without having been placed."""
    story: list[Batch] = [funding(500, 400), funding(600, account=PENDING_A)]
    placed: list[tuple[bytes, int]] = [(b"nobody placed it", 1)]
    for _ in range(draw(st.integers(1, 5))):
        chosen = draw(st.lists(numbered, min_size=1, max_size=12))
        given, sources = [row for row, _ in chosen], [f"s{n}" for _, n in chosen]
        match draw(st.sampled_from(["transfers", "places", "captures"])):
            case "transfers":
                story.append(transfers(given, sources=sources, metadata={"n": "1"}))
            case "places":
                expires_at = draw(st.none() | st.just(NOW) | st.just(NOW + timedelta(days=1)))
                batch = places(given, sources=sources if draw(st.booleans()) else None, expires_at=expires_at)
                placed += [
                    (id_.tobytes(), int(n)) for id_, n in zip(batch.hold_ids, batch.amount, strict=True)
                ]
                story.append(batch)
            case _:
                of = draw(
                    st.lists(st.sampled_from(placed), min_size=1, max_size=12, unique=draw(st.booleans()))
                )
                less = draw(st.booleans())
                story.append(captures([(id_, max(n - less, 1)) for id_, n in of]))
    return story


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stories(), st.booleans())
def test_rows_results_and_balances_are_those_of_posting_one_by_one(
    shared_database: Database, story: list[Batch], at_once: bool
) -> None:
    asyncio.run(_compare(shared_database, story, at_once=at_once))


async def _compare(database: Database, given: Sequence[Batch], *, at_once: bool) -> None:
    async with opened(database) as here, opened(database) as there:
        here.tick = there.tick = timedelta()  # the two read it more or less often
        async with here.bulk() as bulk:
            if at_once:
                results = await asyncio.gather(*(bulk.post(batch) for batch in given))
            else:
                results = [await bulk.post(batch) for batch in given]
        assert [told(r) for r in results] == [told(await there.one_by_one(batch)) for batch in given]
        assert await _content(here) == await _content(there)


async def _content(desk: Desk) -> list[dict[str, Any]]:
    """All rows, without what tells the books apart; leaf hashes are recomputed by ``Desk.check``."""
    found = await desk.rows(ROWS)
    for row in found:
        row["canonical"] = row["canonical"].replace(row.pop("name"), "book")
        del row["leaf_hash"]
    kept = await desk.rows(BALANCES) + await desk.rows(HOLDS)
    return [{**row, "book_id": 0} for row in (*found, *kept)]


@pytest.fixture
def exactly(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each batch had that was posted one by one."""
    sizes: list[int] = []

    async def spy(conn: AsyncConnection[Any], book_id: int, units: Sequence[m.Unit], *, now: datetime) -> Any:
        sizes.append(len(units))
        return await post_and_know(conn, book_id, units, now=now)

    monkeypatch.setattr("ledger.bulk.post.post_and_know", spy)
    return sizes


async def test_batches_stand_whole_in_the_order_they_came(desk: Desk, exactly: list[int]) -> None:
    async with desk.bulk() as bulk:
        results = await asyncio.gather(*(bulk.post(funding(*[n + 1] * 50)) for n in range(20)))
    assert [r.seqs.tolist() for r in results] == [list(range(50 * n + 1, 50 * n + 51)) for n in range(20)]
    assert len(desk.pids) == 2
    transactions = await desk.rows("SELECT DISTINCT xmin::text FROM ledger.journal WHERE book_id = %s")
    assert len(transactions) == 20
    assert exactly == []


async def test_money_that_a_batch_under_way_brings_can_be_spent_by_the_next(desk: Desk) -> None:
    async with desk.bulk() as bulk:
        _, spent, more = await asyncio.gather(
            bulk.post(funding(100)),
            bulk.post(transfers([(PENDING_A, WALLET, 60), (PENDING_B, WALLET, 40)])),
            bulk.post(transfers([(PENDING_A, WALLET, 1), (WALLET, ESCROW, 1)])),
        )
    assert told(spent) == ([2, 3], {}, set())
    assert told(more) == ([0, 4], {0: errors.InsufficientFunds(WALLET, "INR", 0, 0, 1)}, set())


async def test_two_currencies_are_two_accounts(desk: Desk) -> None:
    async with desk.bulk() as bulk:
        await bulk.post(funding(100))
        yen = await bulk.post(transfers([(WALLET, ESCROW, 7), (ESCROW, WALLET, 7)], currency="JPY"))
        none = await bulk.post(transfers([(PENDING_A, ESCROW, 7)], currency="JPY"))
    assert told(yen) == ([2, 3], {}, set())
    assert told(none) == ([0], {0: errors.AccountUnknown(PENDING_A, "JPY")}, set())


async def test_an_unknown_account_is_one_rows_refusal_and_known_once_it_is_open(desk: Desk) -> None:
    new = "Liabilities:Customer:new:Wallet"
    paths = Paths([ESCROW, WALLET, new])
    async with desk.bulk() as bulk:
        await bulk.post(funding(5))
        result = await bulk.post(transfers([(WALLET, ESCROW, 1), (new, ESCROW, 1)], paths))
        assert told(result) == ([2, 0], {1: errors.AccountUnknown(new, "INR")}, set())
        await desk.conn.execute(
            "SELECT ledger.open_accounts(%s, %s, '{INR}', '{0}', '{x}', %s)",
            [desk.book_id, [new], desk.clock()],
        )
        await desk.conn.commit()
        result = await bulk.post(transfers([(WALLET, ESCROW, 1), (new, ESCROW, 1)], paths))
    assert told(result) == ([3, 4], {}, set())


# ---------------------------------------------------------------- holds


async def test_holds_are_placed_and_captured_while_they_are_under_way(desk: Desk, exactly: list[int]) -> None:
    placed = places([(PENDING_A, WALLET, 60), (PENDING_B, WALLET, 40)])
    async with desk.bulk() as bulk:
        _, holds, taken, spent = await asyncio.gather(
            bulk.post(funding(100)),
            bulk.post(placed),
            bulk.post(captures(placed)),
            bulk.post(transfers([(WALLET, PENDING_A, 60)])),
        )
    assert [told(r) for r in (holds, taken, spent)] == [
        ([2, 3], {}, set()),
        ([4, 5], {}, set()),
        ([6], {}, set()),
    ]
    assert exactly == []


async def test_what_is_held_cannot_be_spent(desk: Desk) -> None:
    async with desk.bulk() as bulk:
        await bulk.post(funding(100))
        await bulk.post(places([(PENDING_A, WALLET, 60)]))
        result = await bulk.post(transfers([(PENDING_A, WALLET, 41), (PENDING_A, WALLET, 40)]))
        none_left = await bulk.post(places([(PENDING_A, WALLET, 1)]))
    assert told(result) == ([0, 3], {0: errors.InsufficientFunds(WALLET, "INR", 40, 0, 41)}, set())
    assert told(none_left) == ([0], {0: errors.InsufficientFunds(WALLET, "INR", 0, 0, 1)}, set())


async def test_holds_that_somebody_else_placed_are_read(desk: Desk, exactly: list[int]) -> None:
    placed = places([(PENDING_A, ESCROW, n) for n in (1, 2, 3)])
    await desk.one_by_one(placed)
    async with desk.bulk() as bulk:
        await bulk.post(funding(1))
        assert told(await bulk.post(captures(placed))) == ([5, 6, 7], {}, set())
    assert exactly == []


async def test_a_capture_of_less_gives_back_the_rest(desk: Desk) -> None:
    placed = places([(PENDING_A, WALLET, 60), (PENDING_A, WALLET, 30)])
    (first, _), (second, _) = [(id_.tobytes(), 0) for id_ in placed.hold_ids]
    async with desk.bulk() as bulk:
        await bulk.post(funding(100))
        await bulk.post(placed)
        result = await bulk.post(captures([(first, 50), (second, 30), (first, 10), (second, 31)]))
        spent = await bulk.post(transfers([(PENDING_A, WALLET, 20)]))
    ended = {row: errors.HoldEnded(placed.unit(n).journals[0].hold.hold_id) for row, n in ((2, 0), (3, 1))}
    assert told(result) == ([4, 5, 0, 0], ended, set())
    assert told(spent) == ([6], {}, set())


async def test_a_hold_is_captured_once_whoever_captures_it(desk: Desk) -> None:
    placed = places([(PENDING_A, ESCROW, 5)])
    id_ = placed.unit(0).journals[0].hold.hold_id
    async with desk.bulk() as bulk:
        await bulk.post(placed)
        results = await asyncio.gather(*(bulk.post(captures(placed)) for _ in range(3)))
        assert [told(r) for r in results[1:]] == [([0], {0: errors.HoldEnded(id_)}, set())] * 2
        assert told(await desk.one_by_one(captures(placed))) == ([0], {0: errors.HoldEnded(id_)}, set())
    assert results[0].seqs.tolist() == [2]


async def test_an_expired_hold_is_not_captured(desk: Desk) -> None:
    placed = places([(PENDING_A, ESCROW, 5)], expires_at=NOW + timedelta(minutes=1))
    id_ = placed.unit(0).journals[0].hold.hold_id
    async with desk.bulk() as bulk:
        await bulk.post(placed)
        desk.now += timedelta(minutes=1)
        result = await bulk.post(captures(placed))
    assert told(result) == ([0], {0: errors.HoldExpired(id_, NOW + timedelta(minutes=1))}, set())


async def test_a_hold_id_used_twice_is_one_rows_refusal(desk: Desk) -> None:
    placed = places([(PENDING_A, ESCROW, 5)])
    other = places([(PENDING_A, ESCROW, 6), (PENDING_A, ESCROW, 7)])
    id_ = placed.unit(0).journals[0].hold.hold_id
    twice = places(
        [(PENDING_A, ESCROW, 6), (PENDING_A, ESCROW, 7)], hold_ids=[placed.hold_ids[0], other.hold_ids[0]]
    )
    async with desk.bulk() as bulk:
        await bulk.post(placed)
        result = await bulk.post(twice)
        async with desk.bulk() as another:  # that has not seen the first
            again = await another.post(places([(PENDING_A, ESCROW, 8)], hold_ids=placed.hold_ids))
    assert told(result) == ([0, 2], {0: errors.HoldExists(id_)}, set())
    assert told(again) == ([0], {0: errors.HoldExists(id_)}, set())


# ---------------------------------------------------------------- replays


async def test_a_batch_that_comes_again_changes_nothing(desk: Desk) -> None:
    batch = funding(1, 2, 3)
    async with desk.bulk() as bulk:
        first = await bulk.post(batch)
        again = await bulk.post(batch)
        after = await bulk.post(funding(4))
    assert told(again) == (first.seqs.tolist(), {}, {0, 1, 2})
    assert told(after) == ([4], {}, set())


async def test_a_part_that_comes_again_is_told_apart_row_by_row(desk: Desk) -> None:
    async with desk.bulk() as bulk:
        await bulk.post(transfers([(WALLET, ESCROW, 5), (WALLET, ESCROW, 6)], sources=["a", "b"]))
        again = transfers([(WALLET, ESCROW, n) for n in (7, 5, 7, 8)], sources=["c", "a", "b", "c"])
        result = await bulk.post(again)
    conflicts = {2: errors.SourceConflict("test/b/done", 2), 3: errors.SourceConflict("test/c/done", 3)}
    assert told(result) == ([3, 1, 0, 0], conflicts, {1})


async def test_what_stands_already_is_a_replay_even_where_it_could_not_be_booked_again(desk: Desk) -> None:
    spend = transfers([(PENDING_A, WALLET, 100)])
    async with desk.bulk() as bulk:
        await bulk.post(funding(100))
        await bulk.post(spend)
        assert told(await bulk.post(spend)) == ([2], {}, {0})


async def test_a_journal_id_used_twice_refuses_its_batch_and_no_other(desk: Desk) -> None:
    first = funding(1)
    async with desk.bulk() as bulk:
        results = await asyncio.gather(
            *(bulk.post(b) for b in (first, transfers([(WALLET, ESCROW, 2)] * 1, ids=first.ids), funding(3))),
            return_exceptions=True,
        )
    assert [type(r) for r in results] == [BulkResult, errors.DatabaseRefused, BulkResult]
    assert await desk.head() == 2


# ---------------------------------------------------------------- others write the book, and its facts change


async def test_what_somebody_else_writes_is_seen(desk: Desk, exactly: list[int]) -> None:
    async with desk.bulk() as bulk:
        await bulk.post(funding(100))
        for n in range(3):
            await desk.one_by_one(transfers([(PENDING_A, WALLET, 30)]))
            result = await bulk.post(transfers([(PENDING_B, WALLET, 1), (WALLET, ESCROW, 1)]))
            assert result.seqs.tolist() == [3 * n + 3, 3 * n + 4]
        assert exactly == []
        result = await bulk.post(transfers([(PENDING_A, WALLET, 11)]))
    assert told(result) == ([0], {0: errors.InsufficientFunds(WALLET, "INR", 10, 0, 11)}, set())


async def test_once_somebody_else_writes_batches_go_by_turns_for_a_while(
    desk: Desk, exactly: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each that goes ahead and is refused costs what it would have cost to post it."""
    ahead: list[int] = []
    send = wire.send

    async def spy(conn: AsyncConnection[Any], *given: Any) -> None:
        if conn.info.transaction_status is TransactionStatus.IDLE:  # without the lock
            ahead.append(1)
        await send(conn, *given)

    monkeypatch.setattr(wire, "send", spy)
    async with desk.bulk() as bulk:
        await bulk.post(funding(1))
        await bulk.post(funding(1))
        await desk.one_by_one(funding(1))
        ahead.clear()
        await bulk.post(funding(1))
        assert len(ahead) == 1
        for _ in range(MOST_LOCKED):
            await bulk.post(funding(1))
        assert len(ahead) == 1
        await bulk.post(funding(1))
        await bulk.post(funding(1))
    assert len(ahead) == 3
    assert exactly == []
    assert await desk.head() == MOST_LOCKED + 6


async def test_two_of_them_take_turns(desk: Desk, exactly: list[int]) -> None:
    async with desk.bulk() as one, desk.bulk() as other:
        posting = [bulk.post(funding(*[1] * 30)) for _ in range(10) for bulk in (one, other)]
        results = await asyncio.gather(*posting)
    assert sorted(seq for r in results for seq in r.seqs.tolist()) == list(range(1, 601))
    assert [r.refused or r.replayed for r in results] == [frozenset()] * 20
    assert exactly == []


async def test_a_frozen_account_refuses_its_rows(desk: Desk) -> None:
    async with desk.bulk() as bulk:
        await bulk.post(funding(100))
        await _change(desk, WALLET, status=m.AccountStatus.FROZEN)
        result = await bulk.post(transfers([(PENDING_A, WALLET, 1), (PENDING_A, ESCROW, 1)]))
    assert told(result) == ([0, 2], {0: errors.AccountFrozen(WALLET)}, set())


async def test_a_new_floor_binds_at_once(desk: Desk) -> None:
    async with desk.bulk() as bulk:
        await bulk.post(funding(100))
        await _change(desk, WALLET, floor=50)
        result = await bulk.post(transfers([(PENDING_A, WALLET, 50), (PENDING_A, WALLET, 1)]))
    assert told(result) == ([2, 0], {1: errors.InsufficientFunds(WALLET, "INR", 50, 50, 1)}, set())


async def _change(desk: Desk, path: str, **change: Any) -> None:
    by = {"now": desk.clock(), "reason": "test", "person": "tester"}
    await change_account(desk.conn, desk.book_id, path, "INR", **by, **change)
    await desk.conn.commit()


async def test_a_velocity_limit_refuses_the_rows_beyond_it(desk: Desk) -> None:
    terms = LimitTerms("a_day", Side.DEBIT, Measure.SUM, 50, Window.DAY)
    async with desk.bulk() as bulk:
        await bulk.post(funding(100))
        by = {"now": desk.clock(), "reason": "test", "person": "tester"}
        await set_limit(desk.conn, desk.book_id, WALLET, "INR", terms, **by)
        await desk.conn.commit()
        result = await bulk.post(
            transfers([(PENDING_A, WALLET, 30), (PENDING_A, WALLET, 30), (PENDING_B, WALLET, 20)])
        )
    assert result.seqs.tolist() == [2, 0, 3]
    assert isinstance(result.refused[1], errors.VelocityExceeded)


async def test_a_closed_period_refuses_what_is_effective_in_it(desk: Desk) -> None:
    day = NOW.date() - timedelta(days=3)
    async with desk.bulk() as bulk:
        await bulk.post(funding(100))
        await close(desk.conn, desk.book_id, By("tester", "test", desk.clock()), through=day)
        await desk.conn.commit()
        late = transfers([(WALLET, ESCROW, 1)], effective_at=NOW - timedelta(days=3))
        result = await bulk.post(late)
        assert told(result) == ([0], {0: errors.PeriodClosed(day, day)}, set())
        open_day = transfers([(WALLET, ESCROW, 1)], effective_at=NOW - timedelta(days=2))
        assert told(await bulk.post(open_day)) == ([2], {}, set())


async def test_a_clock_that_goes_back_does_not_take_the_books_time_with_it(desk: Desk) -> None:
    async with desk.bulk() as bulk:
        await bulk.post(funding(1))
        desk.now -= timedelta(hours=1)
        await bulk.post(funding(2))
    times = [
        row["recorded_at"]
        for row in await desk.rows("SELECT recorded_at FROM ledger.journal WHERE book_id = %s")
    ]
    assert times[0] == times[1]


# ---------------------------------------------------------------- what fails under way


async def test_a_batch_that_fails_takes_nobody_behind_it_down(desk: Desk, exactly: list[int]) -> None:
    """The first is refused by the database while those behind it are on their way: those need no look row by row."""
    batch = funding(*[1] * 300)
    async with desk.bulk() as bulk:
        await bulk.post(batch)
        results = await asyncio.gather(bulk.post(batch), *(bulk.post(funding(*[1] * 300)) for _ in range(4)))
    assert results[0].replayed == set(range(300))
    assert [r.seqs[0] for r in results[1:]] == [301, 601, 901, 1201]
    assert [r.replayed for r in results[1:]] == [frozenset()] * 4
    assert exactly == [300]


async def test_a_connection_killed_while_its_batch_waits_is_settled(desk: Desk) -> None:
    async with desk.bulk() as bulk:
        await bulk.post(funding(1))
        await _take_book(desk)
        posting = [asyncio.create_task(bulk.post(funding(*[n] * 20))) for n in range(1, 4)]
        [pid] = await _until_blocked(desk)
        await _kill(desk, pid)
        await desk.conn.rollback()
        results = await asyncio.gather(*posting)
    assert [r.seqs.tolist() for r in results] == [list(range(20 * n + 2, 20 * n + 22)) for n in range(3)]
    assert await desk.head() == 61


async def test_both_connections_lost_between_batches_are_made_anew(desk: Desk) -> None:
    async with desk.bulk() as bulk:
        await asyncio.gather(*(bulk.post(funding(1)) for _ in range(3)))
        for pid in desk.pids:
            await _kill(desk, pid)
        results = await asyncio.gather(*(bulk.post(funding(1)) for _ in range(3)))
    assert [r.seqs.tolist() for r in results] == [[4], [5], [6]]
    assert await desk.head() == 6


@pytest.mark.parametrize("failing", [0, 2, 5])
async def test_no_batch_overtakes_one_that_is_posted_again(desk: Desk, failing: int) -> None:
    """Whatever is sent while a batch is settled comes after it, and after those between."""
    given = [funding(*[1] * 20) for _ in range(25)]
    given[failing] = transfers(
        [(WALLET, ESCROW, 1), (WALLET, ESCROW, 2)] * 10,
        sources=["same"] + [f"s{n}" for n in range(18)] + ["same"],
    )
    async with desk.bulk() as bulk:
        await bulk.post(funding(1))
        posting: list[asyncio.Task[BulkResult]] = []
        for n, batch in enumerate(given):
            posting.append(asyncio.create_task(bulk.post(batch)))
            await asyncio.sleep(0.004 * (n % 5))
        results = await asyncio.gather(*posting)
    seqs = [seq for r in results for seq in r.seqs.tolist() if seq]
    assert seqs == list(range(2, 501))
    assert set(results[failing].refused) == {19}


@pytest.mark.parametrize("seed", range(6))
async def test_connections_killed_at_any_time_lose_and_double_nothing(desk: Desk, seed: int) -> None:
    given = [funding(*[1 + n] * 200) for n in range(30)]
    async with desk.bulk() as bulk:
        posting = asyncio.gather(*(bulk.post(batch) for batch in given))
        for n in range(6):
            await asyncio.sleep(0.01 + 0.013 * seed + 0.007 * n)
            for pid in desk.pids[-1:] if n % 2 else desk.pids:
                await _kill(desk, pid)
        results = await posting
    assert [r.seqs.tolist() for r in results] == [list(range(200 * n + 1, 200 * n + 201)) for n in range(30)]


async def test_a_database_that_is_away_too_long_is_unavailable_and_the_batch_can_come_again(
    desk: Desk,
) -> None:
    away = False

    async def connect() -> AsyncConnection[Any]:
        if away:
            raise psycopg.OperationalError("no")
        return await desk.connect()

    batch = funding(1)
    async with desk.bulk(connect, settle_s=0.1) as bulk:
        away = True
        with pytest.raises(errors.LedgerUnavailable):
            await bulk.post(batch)
        away = False
        assert told(await bulk.post(batch)) == ([1], {}, set())


async def test_a_caller_that_stops_waiting_does_not_stop_its_batch(desk: Desk) -> None:
    async with desk.bulk() as bulk:
        await bulk.post(funding(1))
        await _take_book(desk)
        first, second = (asyncio.create_task(bulk.post(funding(1))) for _ in range(2))
        await _until_blocked(desk)
        first.cancel()
        await desk.conn.rollback()
        assert (await second).seqs.tolist() == [3]
    assert await desk.head() == 3


async def test_closing_waits_for_what_is_under_way_and_takes_nothing_more(desk: Desk) -> None:
    bulk = desk.bulk()
    posting = [asyncio.create_task(bulk.post(funding(*[1] * 100))) for _ in range(5)]
    await asyncio.sleep(0)
    await bulk.close()
    assert all(task.done() for task in posting)
    with pytest.raises(errors.WriterClosed):
        await bulk.post(funding(1))
    assert await desk.head() == 500


async def test_a_book_that_is_not_there_is_said_so(desk: Desk) -> None:
    async with Bulk(desk.connect, 10**6, clock=desk.clock) as bulk:
        for _ in range(2):
            with pytest.raises(errors.BookUnknown):
                await bulk.post(funding(1))


async def _take_book(desk: Desk) -> None:
    await desk.conn.execute("SELECT FROM ledger.book WHERE book_id = %s FOR UPDATE", [desk.book_id])


async def _until_blocked(desk: Desk) -> list[int]:
    """The sessions that wait for the desk's own."""
    query = "SELECT pid FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid))"
    async with await AsyncConnection.connect(desk.database.app_dsn, autocommit=True) as look:
        while True:
            found = await (await look.execute(query, [desk.conn.info.backend_pid])).fetchall()
            if found:
                return [pid for (pid,) in found]


async def _kill(desk: Desk, pid: int) -> None:
    async with await AsyncConnection.connect(desk.database.admin_dsn, autocommit=True) as admin:
        await admin.execute("SELECT pg_terminate_backend(%s, 1000)", [pid])
