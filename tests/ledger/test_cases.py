"""Inputs that once broke the ledger, each as a case."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from ledger import errors
from ledger import model as m
from ledger.post import post
from tests.ledger.recompute import assert_sound
from tests.ledger.words import (
    AUTHORIZATIONS,
    ESCROW,
    FEES,
    ISSUERS,
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

KOLKATA = timezone(timedelta(hours=5, minutes=30))


async def test_a_journal_is_reversed_by_a_later_one_of_the_same_unit_or_batch(book: Book) -> None:
    await book.ok(unit(fund(WALLET, 5), journal(reverses=1, kind="reversal")))
    await book.ok(fund(WALLET, 7), journal(reverses=3, kind="reversal"))
    assert await book.balance(WALLET) == (0, 0, 0)


async def test_a_refused_units_journals_cannot_be_reversed_by_the_next(book: Book) -> None:
    refused, unknown = await book.post(
        unit(fund(FEES, 5), journal(pay(PENDING_A, WALLET, 1))), unit(fund(FEES, 1), journal(reverses=2))
    )
    assert isinstance(refused, errors.InsufficientFunds)
    assert unknown == errors.JournalUnknown(2)


async def test_the_zone_of_the_session_does_not_reach_the_canonical_line(book: Book) -> None:
    await book.conn.execute("SET timezone = 'Asia/Kolkata'")
    await book.conn.commit()
    hold = m.Place(new_id(), AUTHORIZATIONS, ISSUERS, 10, "INR", expires_at=NOW + timedelta(hours=1))
    await book.ok(fund(WALLET, 5), journal(hold=hold))
    cursor = await book.conn.execute("SELECT canonical FROM ledger.journal ORDER BY seq")
    lines = [row[0] for row in await cursor.fetchall()]
    assert all('"recorded_at":"2026-11-22T09:00:00.001000Z"' in line for line in lines)
    await assert_sound(book.conn, book.book_id)


async def test_one_instant_in_two_zones_is_one_content(book: Book) -> None:
    at = NOW + timedelta(hours=1)
    hold_id = new_id()
    said = [
        journal(
            hold=m.Place(hold_id, AUTHORIZATIONS, ISSUERS, 10, "INR", expires_at=at.astimezone(zone)),
            effective_at=NOW.astimezone(zone),
            source="same",
        )
        for zone in (UTC, KOLKATA)
    ]
    first, again = await book.ok(*said)
    assert (first.replayed, again.replayed) == (False, True)


@pytest.mark.parametrize("year", [1, 1900, 9000, 9999])
def test_a_time_outside_the_calendar_cannot_be_built(year: int) -> None:
    for zone in (UTC, KOLKATA, timezone(-timedelta(hours=12))):
        at = datetime(year, 12 if year > 9000 else 1, 31, 23, tzinfo=zone)
        with pytest.raises(errors.InvalidEntry):
            journal(pay(WALLET, ESCROW, 1), effective_at=at)
        with pytest.raises(errors.InvalidEntry):
            m.Place(new_id(), WALLET, ESCROW, 1, "INR", expires_at=at)


def test_metadata_changed_after_a_journal_was_built_does_not_reach_it() -> None:
    given: dict[str, Any] = {"payment_id": "p1"}
    built = journal(pay(WALLET, ESCROW, 1), metadata=given)
    given["payment_id"] = 5
    assert built.metadata == {"payment_id": "p1"}


async def test_a_pending_sum_that_leaves_its_range_is_refused(book: Book) -> None:
    hold = m.Place(new_id(), AUTHORIZATIONS, ISSUERS, m.MAX_AMOUNT, "INR")
    await book.ok(journal(hold=hold))
    units = [
        unit(*(journal(hold=m.Increase(hold.hold_id, m.MAX_AMOUNT)) for _ in range(500))) for _ in range(10)
    ]
    results = await book.post(*units)
    assert [r for r in results if isinstance(r, errors.Refusal)] == [errors.AmountTooLarge(AUTHORIZATIONS)]
    await assert_sound(book.conn, book.book_id)


async def test_a_connection_that_commits_by_itself_is_refused_unless_a_transaction_is_open(
    book: Book,
) -> None:
    await book.conn.rollback()
    await book.conn.set_autocommit(True)
    with pytest.raises(errors.NotInTransaction):
        await post(book.conn, book.book_id, [unit(fund(WALLET, 5))], now=NOW)
    async with book.conn.transaction():
        await post(book.conn, book.book_id, [unit(fund(WALLET, 5))], now=NOW)
    await book.conn.set_autocommit(False)
    assert await book.balance(WALLET) == (5, 5, 0)
