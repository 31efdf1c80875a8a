"""Reads: every figure is explained by its lines, pages join without gaps, owners see only their own."""

from __future__ import annotations

from uuid import UUID

import pytest

from ledger import model as m
from ledger import read
from ledger.errors import InvalidEntry
from tests.ledger.words import ESCROW, PENDING_A, PENDING_B, WALLET, Book, fund, journal, new_id, pay


async def test_statement_lines_run_from_opening_to_closing_across_pages(book: Book) -> None:
    await book.ok(fund(WALLET, 1000), *(journal(pay(PENDING_A, WALLET, n)) for n in range(1, 10)))
    seen, after = list[read.StatementLine](), None
    closing = 0
    while True:
        page = await read.statement(book.conn, book.book_id, WALLET, "INR", after=after, limit=3)
        assert page is not None
        assert page.opening == closing
        seen += page.lines
        closing = page.closing
        if page.next is None:
            break
        after = page.next
    assert [line.seq for line in seen] == list(range(1, 11))
    assert seen[0].counter_account == ESCROW
    assert closing == 1000 - 45 == sum(line.amount for line in seen)


async def test_pending_lines_show_in_the_statement_and_in_the_balance(book: Book) -> None:
    hold = m.Place(new_id(), WALLET, PENDING_A, 70, "INR")
    await book.ok(fund(WALLET, 100), journal(hold=hold, metadata={"payment_id": "p1"}))
    balance = await read.balance(book.conn, book.book_id, WALLET, "INR")
    assert balance is not None
    assert (balance.posted, balance.pending_out, balance.available) == (100, 70, 30)
    statement = await read.statement(book.conn, book.book_id, WALLET, "INR")
    assert statement is not None
    assert [(line.layer, line.amount, line.available) for line in statement.lines] == [
        ("posted", 100, 100),
        ("pending", -70, 30),
    ]
    assert statement.lines[1].metadata == {"payment_id": "p1"}
    assert statement.closing == 100
    found = await read.hold(book.conn, book.book_id, hold.hold_id)
    assert found is not None
    assert (found.remaining, found.ended) == (70, False)


async def test_a_journal_is_found_by_its_id_by_whom_it_concerns(book: Book) -> None:
    await book.ok(fund(WALLET, 1))
    [posted] = await book.ok(fund(PENDING_B, 9))
    found = await read.journal_by_id(book.conn, book.book_id, posted.ids[0], owner="b")
    assert found is not None
    assert (found.seq, [p.amount for p in found.postings]) == (2, [9])
    assert await read.journal_by_id(book.conn, book.book_id, posted.ids[0], owner="a") is None
    assert await read.journal_by_id(book.conn, book.book_id, UUID(int=1)) is None


async def test_balances_below_a_prefix_do_not_include_its_namesakes(book: Book) -> None:
    paths = [b.path for b in await read.balances(book.conn, book.book_id, prefix="Liabilities:Merchant")]
    assert paths == [PENDING_A, PENDING_B]
    assert [b.path for b in await read.balances(book.conn, book.book_id, prefix="Liab")] == []


async def test_the_trial_balance_balances_per_currency(book: Book) -> None:
    await book.ok(fund(WALLET, 100), fund(WALLET, 7, "JPY"), journal(pay(PENDING_A, WALLET, 30)))
    rows = await read.trial_balance(book.conn, book.book_id)
    for currency in ("INR", "JPY"):
        assert sum(r.debit - r.credit for r in rows if r.currency == currency) == 0
    assert sum(r.debit for r in rows) == 107


async def test_a_statement_pages_back_from_its_newest_line(book: Book) -> None:
    await book.ok(fund(WALLET, 1000), *(journal(pay(PENDING_A, WALLET, n)) for n in range(1, 8)))
    seen, before = list[int](), read.END
    while before:
        page = await read.statement(book.conn, book.book_id, WALLET, "INR", before=before, limit=3)
        assert page is not None
        assert page.opening + sum(line.amount for line in page.lines) == page.closing
        assert (page.next is None) == (not seen)
        if page.next:
            following = await read.statement(book.conn, book.book_id, WALLET, "INR", after=page.next, limit=1)
            assert following is not None
            assert (following.opening, following.lines[0].seq) == (page.closing, seen[0])
        seen = [*(line.seq for line in page.lines), *seen]
        before = page.previous
    assert seen == list(range(1, 9))


@pytest.mark.parametrize("cursor", ["x", "1", "0.1", "1.0", "01.1", "1.99999", "9" * 20 + ".1", "²3.1"])
async def test_a_cursor_that_no_page_gave_is_refused(book: Book, cursor: str) -> None:
    with pytest.raises(InvalidEntry):
        await read.statement(book.conn, book.book_id, WALLET, "INR", after=cursor)
    with pytest.raises(InvalidEntry):
        await read.statement(book.conn, book.book_id, WALLET, "INR", before=cursor)
