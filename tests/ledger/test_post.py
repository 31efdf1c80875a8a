"""Posting: what stands, what is refused, what a replay does, against a real PostgreSQL."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ledger import errors
from ledger import model as m
from ledger.books import change_account
from tests.ledger.words import (
    AUTHORIZATIONS,
    CREDIT_WALLET,
    ESCROW,
    FEES,
    ISSUERS,
    NOW,
    PENDING_A,
    PENDING_B,
    WALLET,
    Book,
    fund,
    journal,
    new_id,
    pay,
    unit,
)


async def test_a_journal_moves_both_accounts_and_numbers_are_gap_free(book: Book) -> None:
    first, second = await book.ok(
        fund(WALLET, 1000), journal(pay(PENDING_A, WALLET, 400), pay(FEES, PENDING_A, 8))
    )
    assert (first.seqs, second.seqs) == ((1,), (2,))
    assert await book.balance(WALLET) == (600, 600, 0)
    assert await book.balance(PENDING_A) == (392, 392, 0)
    assert await book.balance(ESCROW) == (1000, 1000, 0)


async def test_a_refused_unit_leaves_no_trace_and_does_not_fail_its_batch(book: Book) -> None:
    results = await book.post(
        fund(WALLET, 100),
        unit(journal(pay(PENDING_A, WALLET, 60)), journal(pay(PENDING_B, WALLET, 60))),
        journal(pay(PENDING_B, WALLET, 100)),
    )
    assert isinstance(results[0], m.Posted)
    assert results[1] == errors.InsufficientFunds(WALLET, "INR", available=40, floor=0, needed=60)
    assert isinstance(results[2], m.Posted)
    assert results[2].seqs == (2,)
    assert await book.balance(PENDING_A) == (0, 0, 0)


async def test_a_negative_floor_is_a_credit_line(book: Book) -> None:
    await book.ok(journal(pay(PENDING_A, CREDIT_WALLET, 500)))
    [refused] = await book.post(journal(pay(PENDING_A, CREDIT_WALLET, 1)))
    assert isinstance(refused, errors.InsufficientFunds)


async def test_a_replay_is_the_journal_that_exists_and_other_content_conflicts(book: Book) -> None:
    [first] = await book.ok(journal(pay(WALLET, ESCROW, 5), source="s"))
    [again, other] = await book.post(
        journal(pay(WALLET, ESCROW, 5), source="s"), journal(pay(WALLET, ESCROW, 6), source="s")
    )
    assert again == m.Posted(first.seqs, first.ids, replayed=True)
    assert isinstance(other, errors.SourceConflict)
    assert await book.balance(WALLET) == (5, 5, 0)


async def test_a_replay_within_one_batch_is_one_journal(book: Book) -> None:
    first, again = await book.ok(
        journal(pay(WALLET, ESCROW, 5), source="s"), journal(pay(WALLET, ESCROW, 5), source="s")
    )
    assert (first.replayed, again.replayed) == (False, True)
    assert again.seqs == first.seqs


async def test_a_stated_time_is_content_and_an_unstated_one_is_not(book: Book) -> None:
    stated = journal(pay(WALLET, ESCROW, 5), source="s", effective_at=NOW)
    other = journal(pay(WALLET, ESCROW, 5), source="s", effective_at=NOW - timedelta(days=1))
    unstated = journal(pay(WALLET, ESCROW, 5), source="s")
    results = await book.post(stated, other, unstated)
    assert [type(r) for r in results] == [m.Posted, errors.SourceConflict, m.Posted]


async def test_accounts_unknown_frozen_and_closed_refuse(book: Book) -> None:
    [unknown] = await book.post(journal(pay("Liabilities:Customer:nobody:Wallet", ESCROW, 1)))
    assert unknown == errors.AccountUnknown("Liabilities:Customer:nobody:Wallet", "INR")
    [currency] = await book.post(journal(pay(PENDING_A, ESCROW, 1, "JPY")))
    assert currency == errors.AccountUnknown(PENDING_A, "JPY")
    for status, refusal in (
        (m.AccountStatus.FROZEN, errors.AccountFrozen),
        (m.AccountStatus.CLOSED, errors.AccountClosed),
    ):
        await change_account(
            book.conn, book.book_id, PENDING_B, "INR", now=NOW, reason="test", person="tester", status=status
        )
        await book.conn.commit()
        assert await book.post(journal(pay(PENDING_B, ESCROW, 1))) == [refusal(PENDING_B)]


async def test_a_floor_above_what_is_available_and_closing_what_is_not_empty_are_refused(book: Book) -> None:
    await book.ok(fund(WALLET, 10))
    for change in ({"floor": 11}, {"status": m.AccountStatus.CLOSED}):
        with pytest.raises(errors.FactRefused):
            await change_account(
                book.conn, book.book_id, WALLET, "INR", now=NOW, reason="test", person="tester", **change
            )
        await book.conn.rollback()
    await change_account(
        book.conn, book.book_id, WALLET, "INR", now=NOW, reason="test", person="tester", floor=10
    )
    await book.conn.commit()
    [refused] = await book.post(journal(pay(PENDING_A, WALLET, 1)))
    assert isinstance(refused, errors.InsufficientFunds)


def place(amount: int, **more: object) -> m.Place:
    return m.Place(new_id(), PENDING_A and WALLET, PENDING_A, amount, "INR", **more)  # type: ignore[arg-type]


async def test_a_wallet_hold_reserves_and_its_capture_books(book: Book) -> None:
    hold = place(1000)
    await book.ok(fund(WALLET, 1000), journal(hold=hold))
    assert await book.balance(WALLET) == (1000, 0, 0)
    assert await book.balance(PENDING_A) == (0, 0, 1000)
    [refused] = await book.post(journal(pay(PENDING_B, WALLET, 1)))
    assert isinstance(refused, errors.InsufficientFunds)
    await book.ok(
        journal(hold=m.Capture(hold.hold_id, 300)), journal(hold=m.Capture(hold.hold_id, 500, final=True))
    )
    assert await book.balance(WALLET) == (200, 200, 0)
    assert await book.balance(PENDING_A) == (800, 800, 0)
    [ended] = await book.post(journal(hold=m.Capture(hold.hold_id, 1)))
    assert ended == errors.HoldEnded(hold.hold_id)


async def test_a_card_hold_is_off_balance_and_its_capture_books_elsewhere_with_its_fee(book: Book) -> None:
    hold = m.Place(new_id(), AUTHORIZATIONS, ISSUERS, 100_000, "INR")
    await book.ok(journal(hold=hold))
    capture = m.Capture(hold.hold_id, 100_000, debit=ESCROW, credit=PENDING_A)
    await book.ok(journal(pay(FEES, PENDING_A, 2000), hold=capture))
    assert await book.balance(AUTHORIZATIONS) == (0, 0, 0)
    assert await book.balance(ISSUERS) == (0, 0, 0)
    assert await book.balance(PENDING_A) == (98_000, 98_000, 0)


async def test_captures_may_exceed_a_hold_within_its_tolerance_only(book: Book) -> None:
    hold = place(1000, tolerance_bps=1000)
    await book.ok(fund(WALLET, 2000), journal(hold=hold))
    [over] = await book.post(journal(hold=m.Capture(hold.hold_id, 1101)))
    assert over == errors.HoldExceeded(hold.hold_id, 1101, 1100)
    await book.ok(journal(hold=m.Capture(hold.hold_id, 1100)))
    assert await book.balance(WALLET) == (900, 900, 0)


async def test_a_hold_can_be_increased_released_in_part_and_released(book: Book) -> None:
    hold = place(100)
    await book.ok(fund(WALLET, 150), journal(hold=hold), journal(hold=m.Increase(hold.hold_id, 50)))
    assert await book.balance(WALLET) == (150, 0, 0)
    [refused] = await book.post(journal(hold=m.Increase(hold.hold_id, 1)))
    assert isinstance(refused, errors.InsufficientFunds)
    await book.ok(journal(hold=m.Release(hold.hold_id, 30)), journal(hold=m.Release(hold.hold_id)))
    assert await book.balance(WALLET) == (150, 150, 0)
    assert await book.post(journal(hold=m.Release(hold.hold_id))) == [errors.HoldEnded(hold.hold_id)]


async def test_a_hold_expires_by_its_own_time_also_when_no_job_has_run(book: Book) -> None:
    expires_at = NOW + timedelta(minutes=5)
    hold = place(100, expires_at=expires_at)
    await book.ok(fund(WALLET, 100), journal(hold=hold))
    early = await book.post(journal(hold=m.Expire(hold.hold_id)))
    assert early == [errors.HoldNotExpired(hold.hold_id, expires_at)]
    late = await book.post(journal(hold=m.Capture(hold.hold_id, 100)), now=expires_at)
    assert late == [errors.HoldExpired(hold.hold_id, expires_at)]
    await book.ok(journal(hold=m.Expire(hold.hold_id)), now=expires_at)
    assert await book.balance(WALLET) == (100, 100, 0)


async def test_a_reversal_books_the_mirror_image_once(book: Book) -> None:
    await book.ok(fund(WALLET, 100), journal(pay(PENDING_A, WALLET, 100), pay(FEES, PENDING_A, 2)))
    await book.ok(journal(reverses=2, kind="reversal"))
    assert await book.balance(WALLET) == (100, 100, 0)
    assert await book.balance(FEES) == (0, 0, 0)
    again, unknown = await book.post(journal(reverses=2), journal(reverses=99))
    assert (again, unknown) == (errors.AlreadyReversed(2), errors.JournalUnknown(99))


async def test_time_recorded_never_goes_back(book: Book) -> None:
    await book.ok(fund(WALLET, 1), now=NOW + timedelta(hours=1))
    await book.ok(fund(WALLET, 1), now=NOW)
    cursor = await book.conn.execute("SELECT recorded_at FROM ledger.journal ORDER BY seq")
    assert [row[0] for row in await cursor.fetchall()] == [NOW + timedelta(hours=1)] * 2


async def test_a_callers_statements_stand_or_fall_with_the_unit(book: Book) -> None:
    note = m.Statement(
        "UPDATE ledger.book SET recorded_at = recorded_at WHERE name = %(name)s", {"name": "other"}
    )
    with pytest.raises(errors.StatementRefused):
        await book.post(unit(fund(WALLET, 1), statements=(note,)))
    await book.conn.rollback()
    assert await book.balance(WALLET) == (0, 0, 0)


@pytest.mark.parametrize("amount", [0, -1, 1.0, True, 10**15 + 1, "1"])
def test_an_amount_that_is_no_amount_cannot_be_built(amount: object) -> None:
    with pytest.raises(errors.InvalidEntry):
        m.Posting(ESCROW, WALLET, amount, "INR")  # type: ignore[arg-type]
