"""Balancing transfers: as much as is available, at most what is asked."""

from __future__ import annotations

import json

import pytest
from psycopg import AsyncConnection

from ledger import errors
from ledger import model as m
from ledger.audit import audit
from ledger.export import export_journal
from tests.ledger.recompute import assert_sound
from tests.ledger.words import (
    CREDIT_WALLET,
    ESCROW,
    FEES,
    PENDING_A,
    WALLET,
    Book,
    fund,
    journal,
    new_id,
    pay,
)


def up_to(credit: str, debit: str, amount: int) -> m.Posting:
    return m.Posting(debit=debit, credit=credit, amount=amount, currency="INR", up_to=True)


async def canonical(book: Book, seq: int) -> str:
    cursor = await book.conn.execute("SELECT canonical FROM ledger.journal WHERE seq = %s", [seq])
    [line] = await cursor.fetchall()
    await book.conn.rollback()
    return line[0]


async def test_it_books_what_is_available_and_at_most_what_is_asked(book: Book) -> None:
    await book.ok(fund(WALLET, 100))
    await book.ok(journal(up_to(PENDING_A, WALLET, 30)), journal(up_to(PENDING_A, WALLET, 1000)))
    assert await book.balance(WALLET) == (0, 0, 0)
    assert await book.balance(PENDING_A) == (100, 100, 0)
    await assert_sound(book.conn, book.book_id)


async def test_a_credit_line_is_available_and_no_floor_counts_as_zero(book: Book) -> None:
    await book.ok(journal(up_to(PENDING_A, CREDIT_WALLET, 1000)))
    assert await book.balance(CREDIT_WALLET) == (-500, -500, 0)
    await book.ok(journal(pay(FEES, ESCROW, 70)))
    await book.ok(journal(up_to(PENDING_A, FEES, 1000)))
    assert await book.balance(FEES) == (0, 0, 0)
    [refused] = await book.post(journal(up_to(PENDING_A, FEES, 1)))
    assert refused == errors.InsufficientFunds(FEES, "INR", available=0, floor=0, needed=1)


async def test_the_scarcer_of_two_falling_sides_decides(book: Book) -> None:
    """Paid out of the escrow: the wallet falls as a liability, the escrow as an asset."""
    await book.ok(fund(WALLET, 100), journal(pay(ESCROW, FEES, 40)))
    assert await book.balance(ESCROW) == (60, 60, 0)
    await book.ok(journal(m.Posting(WALLET, ESCROW, 1000, "INR", up_to=True)))
    assert await book.balance(ESCROW) == (0, 0, 0)
    assert await book.balance(WALLET) == (40, 40, 0)


async def test_where_nothing_falls_all_that_is_asked_is_booked(book: Book) -> None:
    await book.ok(journal(up_to(WALLET, ESCROW, 25)))
    assert await book.balance(WALLET) == (25, 25, 0)


async def test_each_posting_finds_what_the_one_before_has_left(book: Book) -> None:
    await book.ok(fund(WALLET, 100))
    await book.ok(journal(up_to(PENDING_A, WALLET, 60), up_to(FEES, WALLET, 60)))
    assert (await book.balance(PENDING_A), await book.balance(FEES)) == ((60, 60, 0), (40, 40, 0))


async def test_what_is_held_is_not_available(book: Book) -> None:
    await book.ok(fund(WALLET, 100), journal(hold=m.Place(new_id(), WALLET, PENDING_A, 90, "INR")))
    await book.ok(journal(up_to(FEES, WALLET, 60)))
    assert await book.balance(FEES) == (10, 10, 0)


async def test_the_line_says_what_was_asked_and_a_replay_of_it_is_the_same_journal(book: Book) -> None:
    await book.ok(fund(WALLET, 100))
    [first] = await book.ok(journal(up_to(PENDING_A, WALLET, 500), source="s"))
    [posting] = json.loads(await canonical(book, 2))["postings"]
    assert (posting["amount"], posting["up_to"]) == ("100", "500")
    again, more, exactly, booked = await book.post(
        journal(up_to(PENDING_A, WALLET, 500), source="s"),
        journal(up_to(PENDING_A, WALLET, 501), source="s"),
        journal(pay(PENDING_A, WALLET, 500), source="s"),
        journal(pay(PENDING_A, WALLET, 100), source="s"),
    )
    assert again == m.Posted(first.seqs, first.ids, replayed=True)
    assert {type(r) for r in (more, exactly, booked)} == {errors.SourceConflict}


async def test_it_is_reversed_by_what_it_booked_and_exported_and_audited(book: Book) -> None:
    await book.ok(fund(WALLET, 100), journal(up_to(PENDING_A, WALLET, 500)))
    await book.ok(journal(reverses=2, kind="reversal"))
    assert await book.balance(WALLET) == (100, 100, 0)
    assert '"up_to"' not in await canonical(book, 3)
    async with await AsyncConnection.connect(book.database.audit_dsn) as conn:
        results = await audit(conn, book.book_id)
        assert [r.check.id for r in results if not r.passed] == []
        for format in ("jsonl", "csv", "hledger", "ledger"):
            text = b"".join([chunk async for chunk in export_journal(conn, book.book_id, format)])
            assert b"5.00" not in text


def test_it_is_true_or_false() -> None:
    with pytest.raises(errors.InvalidEntry):
        m.Posting(ESCROW, WALLET, 1, "INR", up_to=1)  # type: ignore[arg-type]
