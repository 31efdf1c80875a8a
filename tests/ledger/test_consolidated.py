"""The books together: what they owe each other cancels, but for what is on the way, which is named."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import product

import pytest

from khata.database import Database
from ledger import as_of
from ledger.as_of import AsOf
from ledger.consolidated import Consolidated, OnTheWay, consolidated
from ledger.errors import BookUnknown, NotRecorded
from ledger.transfers import CLEARING, Side
from tests.ledger.two_books import TwoBooks, two_books
from tests.ledger.words import ESCROW, WALLET

NOBODY = "Liabilities:Customer:nobody:Wallet"


@pytest.fixture
async def books(database: Database) -> AsyncIterator[TwoBooks]:
    async with two_books(database) as made:
        yield made


async def together(books: TwoBooks, seqs: dict[int, int] | None = None) -> Consolidated:
    async with await books.open() as conn:
        return await consolidated(conn, seqs)


def sides(found: Consolidated) -> dict[str, int]:
    """Debits less credits by path, where not zero."""
    return {row.path: row.debit - row.credit for row in found.rows if row.debit or row.credit}


async def test_the_books_sum_and_their_clearing_accounts_cancel(books: TwoBooks) -> None:
    await books.send(books.transfer(300))
    await books.send(books.transfer(50, book_id=books.there, to_book=books.here))
    found = await together(books)
    assert sides(found) == {ESCROW: 2000, WALLET: -2000}
    assert sorted(line.net for line in found.eliminated) == [-250, 250]
    assert found.on_the_way == ()
    assert found.unexplained == {}
    assert found.seqs == {books.here: 3, books.there: 3}


async def test_what_is_on_the_way_is_named_and_makes_the_sides_equal(books: TwoBooks) -> None:
    sent, owned = books.transfer(300), books.transfer(20, account=ESCROW, to_account=ESCROW, side=Side.CREDIT)
    for t in (sent, owned):
        await books.only_send(t)
    found = await together(books)
    assert sides(found) == {ESCROW: 1980, WALLET: -1700}
    assert [(way.transfer_id, way.net, way.early) for way in found.on_the_way] == [
        (sent.id, -300, False),
        (owned.id, 20, False),
    ]
    assert found.unexplained == {}
    assert sum(sides(found).values()) + sum(way.net for way in found.on_the_way) == 0


async def test_at_any_numbers_of_the_books_everything_is_explained(books: TwoBooks) -> None:
    """Completed, returned, in flight, received but not ended: also at numbers no instant ever saw together."""
    await books.send(books.transfer(300))
    await books.send(books.transfer(70, to_account=NOBODY))
    await books.send(books.transfer(11, book_id=books.there, to_book=books.here, side=Side.CREDIT, account=ESCROW,
                                    to_account=ESCROW))  # fmt: skip
    received = books.transfer(5)
    await books.only_send(received)
    await books.transfers._receive(received, "here")  # pyright: ignore[reportPrivateUsage]
    await books.only_send(books.transfer(3, book_id=books.there, to_book=books.here))
    heads = (await together(books)).seqs
    ranges = [range(heads[book] + 1) for book in (books.here, books.there)]
    ways = set[bool]()
    for here, there in product(*ranges):
        found = await together(books, {books.here: here, books.there: there})
        assert found.unexplained == {}, (here, there)
        assert sum(sides(found).values()) + sum(way.net for way in found.on_the_way) == 0
        assert not any(row.path.startswith(CLEARING) for row in found.rows)
        ways |= {way.early for way in found.on_the_way}
    assert ways == {True, False}


async def test_one_book_alone_keeps_what_it_owes_the_others(books: TwoBooks) -> None:
    await books.send(books.transfer(300))
    found = await together(books, {books.here: 2})
    async with books.connect() as conn:
        alone = await as_of.trial_balance(conn, books.here, AsOf(known=2))
    assert list(found.rows) == alone
    assert (found.eliminated, found.on_the_way) == ((), ())


async def test_books_and_numbers_that_are_not_there_are_refused(books: TwoBooks) -> None:
    with pytest.raises(BookUnknown):
        await together(books, {99: 1})
    with pytest.raises(NotRecorded):
        await together(books, {books.here: 2})


async def test_a_line_that_no_transfer_explains_is_not_called_on_the_way(books: TwoBooks) -> None:
    """A superuser takes a transfer's record away: its amount stays unexplained."""
    await books.only_send(books.transfer(300))
    async with await books.open_as_superuser() as conn:
        await conn.execute("SET session_replication_role = replica")
        await conn.execute("DELETE FROM ledger.transfer")
    found = await together(books)
    assert found.on_the_way == tuple[OnTheWay, ...]()
    assert found.unexplained == {"INR": -300}
