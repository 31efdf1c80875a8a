"""Transfers between two books: two journals, one end, whatever dies in between."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import psycopg
import pytest

from khata.database import Database
from ledger import model as m
from ledger.errors import (
    BookUnknown,
    InsufficientFunds,
    InvalidEntry,
    LedgerUnavailable,
    SourceConflict,
    StatementRefused,
    TransferUnknown,
)
from ledger.transfers import (
    LONGEST_PATH,
    Side,
    TransferState,
    clearing,
    in_flight,
    returning,
    suspense,
)
from tests.ledger.two_books import HERE, THERE, TwoBooks, two_books
from tests.ledger.words import ESCROW, WALLET, fund, new_id, unit

OTHER = "Liabilities:Customer:d:Wallet"
_NUMBERS = itertools.count(1)


@pytest.fixture
async def books(shared_database: Database) -> AsyncIterator[TwoBooks]:
    """Two fresh books in the database of this module; every test leaves nothing in flight."""
    number = next(_NUMBERS)
    async with two_books(shared_database, names=(f"{HERE}-{number}", f"{THERE}-{number}")) as made:
        yield made


async def cleared(books: TwoBooks) -> tuple[int, int]:
    """What each book has on its clearing account for the other."""
    return await books.posted(books.here, clearing(books.names[1])), await books.posted(
        books.there, clearing(books.names[0])
    )


# ---------------------------------------------------------------- what it does


async def test_a_claim_moves_from_book_to_book_and_the_books_owe_each_other_as_much(books: TwoBooks) -> None:
    t = books.transfer(300)
    found = await books.send(t)
    assert found.transfer == t
    assert found.state is TransferState.COMPLETED
    assert (await books.posted(books.here), await books.posted(books.there)) == (700, 1300)
    assert await cleared(books) == (-300, 300)
    assert await books.events(t.id) == [(books.here, "sent"), (books.there, "received")]


async def test_money_at_the_bank_moves_too_and_settles_what_the_books_owe_each_other(books: TwoBooks) -> None:
    await books.send(books.transfer(300))
    await books.send(books.transfer(300, account=ESCROW, to_account=ESCROW, side=Side.CREDIT))
    assert (await books.posted(books.here, ESCROW), await books.posted(books.there, ESCROW)) == (700, 1300)
    assert await cleared(books) == (0, 0)


async def test_the_same_transfer_again_changes_nothing_and_another_under_its_id_is_refused(
    books: TwoBooks,
) -> None:
    t = books.transfer(300)
    first = await books.send(t)
    assert await books.send(t) == first
    other = await books.transfers.send(books.transfer(301, id=t.id))
    assert isinstance(other, SourceConflict)
    assert await books.posted(books.there) == 1300


async def test_one_id_sent_by_two_books_is_two_transfers(books: TwoBooks) -> None:
    t = books.transfer(300)
    back = books.transfer(100, id=t.id, book_id=books.there, to_book=books.here)
    assert [(await books.send(x)).state for x in (t, back)] == [TransferState.COMPLETED] * 2
    assert await cleared(books) == (-200, 200)


async def test_what_the_sending_book_refuses_was_never_sent(books: TwoBooks) -> None:
    refused = await books.transfers.send(books.transfer(1001))
    assert isinstance(refused, InsufficientFunds)
    assert await books.rows("SELECT * FROM ledger.transfer WHERE book_id = %s", books.here) == []
    with pytest.raises(BookUnknown):
        await books.transfers.send(books.transfer(1, to_book=99))
    with pytest.raises(TransferUnknown):
        await books.transfers.carry(books.here, new_id())


@pytest.mark.parametrize(
    "wrong",
    [
        {"amount": 0}, {"to_account": "nowhere"}, {"currency": "rupee"}, {"account": clearing(THERE)},
        {"to_account": f"{WALLET}{'x' * 180}"},
    ],
)  # fmt: skip
def test_a_transfer_that_cannot_be_is_not_built(wrong: dict[str, object]) -> None:
    books = TwoBooks(None, 1, 2)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InvalidEntry):
        books.transfer(**({"amount": 5} | wrong))  # pyright: ignore[reportArgumentType]
    with pytest.raises(InvalidEntry):
        books.transfer(5, to_book=1)


# ---------------------------------------------------------------- refused by the receiving book


@pytest.mark.parametrize("why", ["account_unknown", "account_frozen", "account_closed"])
async def test_what_the_receiving_book_refuses_comes_back_with_the_reason(books: TwoBooks, why: str) -> None:
    path = "Liabilities:Customer:nobody:Wallet" if why == "account_unknown" else OTHER
    if why != "account_unknown":
        await books.change(books.there, OTHER, status=m.AccountStatus(why.removeprefix("account_")))
    t = books.transfer(300, to_account=path)
    found = await books.send(t)
    assert (found.state, found.reason) == (TransferState.RETURNED, why)
    assert await books.posted(books.here) == 1000
    assert await cleared(books) == (0, 0)
    assert await books.events(t.id) == [(books.here, "sent"), (books.here, "returned")]


async def test_a_refusal_stands_even_if_the_account_is_opened_before_the_return(books: TwoBooks) -> None:
    t = books.transfer(300, to_account=OTHER)
    await books.change(books.there, OTHER, status=m.AccountStatus.FROZEN)
    await books.only_send(t)
    transfers = books.transfers
    await transfers._refuse(t, "account_frozen")  # pyright: ignore[reportPrivateUsage]
    await books.change(books.there, OTHER, status=m.AccountStatus.OPEN)
    # A carrier that had seen nothing of it tries to receive: the recorded answer is in its way.
    answer = await transfers._receive(t, books.names[0])  # pyright: ignore[reportPrivateUsage]
    assert answer.reason == "account_frozen"
    assert await transfers.recover() == 1
    assert await books.events(t.id) == [(books.here, "sent"), (books.here, "returned")]


async def test_what_was_received_cannot_be_refused_afterwards(books: TwoBooks) -> None:
    t = books.transfer(300)
    await books.send(t)
    await books.transfers._refuse(t, "account_frozen")  # pyright: ignore[reportPrivateUsage]
    assert (await books.send(t)).state is TransferState.COMPLETED


@pytest.mark.parametrize("side", Side)
async def test_what_cannot_go_back_to_its_account_waits_in_suspense(books: TwoBooks, side: Side) -> None:
    account = WALLET if side is Side.DEBIT else ESCROW
    t = books.transfer(300, account=account, to_account=OTHER.replace("d", "gone"), side=side)
    await books.only_send(t)
    await books.change(books.here, account, status=m.AccountStatus.FROZEN)
    assert await books.transfers.recover() == 1
    assert (await books.posted(books.here, account)) == 700
    assert await books.posted(books.here, suspense(side)) == 300
    assert await cleared(books) == (0, 0)


async def test_what_the_sending_book_cannot_take_back_now_stays_in_flight_and_is_named(
    books: TwoBooks,
) -> None:
    t = books.transfer(300, to_account=OTHER.replace("d", "gone"))
    await books.only_send(t)
    await books.change(books.here, clearing(books.names[1]), status=m.AccountStatus.FROZEN)
    assert await books.transfers.recover() == 0
    async with books.connect() as conn:
        assert [found.transfer for found in await in_flight(conn, books.here)] == [t]
    await books.change(books.here, clearing(books.names[1]), status=m.AccountStatus.OPEN)
    assert await books.transfers.recover() == 1
    assert await books.posted(books.here) == 1000


# ---------------------------------------------------------------- carried by many, or by nobody for a while


async def test_many_that_carry_one_transfer_at_once_end_it_once(books: TwoBooks) -> None:
    good, bad = books.transfer(300), books.transfer(200, to_account=OTHER.replace("d", "gone"))
    for t in (good, bad):
        await books.only_send(t)
    async with TwoHands(books) as hands:
        ends = await asyncio.gather(
            *(h.transfers.carry(t.book_id, t.id) for h in hands for t in (good, bad) for _ in range(4))
        )
    assert {end.state for end in ends} == {TransferState.COMPLETED, TransferState.RETURNED}
    assert (await books.posted(books.here), await books.posted(books.there)) == (700, 1300)
    assert await books.events(good.id) == [(books.here, "sent"), (books.there, "received")]
    assert await books.events(bad.id) == [(books.here, "sent"), (books.here, "returned")]


class TwoHands:
    """Two processes' worth of writers on the same books."""

    def __init__(self, books: TwoBooks) -> None:
        self.hands = [TwoBooks(books.database, books.here, books.there, books.names) for _ in range(2)]

    async def __aenter__(self) -> list[TwoBooks]:
        return self.hands

    async def __aexit__(self, *_: object) -> None:
        for hand in self.hands:
            for writer in hand.writers.values():
                await writer.close()


async def test_recovery_goes_through_every_page_and_one_that_fails_stops_no_other(books: TwoBooks) -> None:
    sent = [books.transfer(n) for n in range(1, 8)]
    for t in sent:
        await books.only_send(t)
    transfers, carry, bad = books.transfers, books.transfers.carry, sent[2].id

    async def failing(book_id: int, transfer_id: UUID) -> object:
        if transfer_id == bad:
            raise LedgerUnavailable
        return await carry(book_id, transfer_id)

    object.__setattr__(transfers, "carry", failing)
    with pytest.raises(LedgerUnavailable):
        await transfers.recover(page=3)
    async with books.connect() as conn:
        assert [found.transfer.id for found in await in_flight(conn, books.here)] == [bad]
    assert await books.transfers.recover(page=3) == 1
    assert await books.transfers.recover() == 0


async def test_what_stays_in_flight_waits_ever_longer_and_leaves_its_turn_to_the_others(
    books: TwoBooks,
) -> None:
    stuck, younger = books.transfer(1), books.transfer(2)
    for t in (stuck, younger):
        await books.only_send(t)
    transfers, tried = books.transfers, list[UUID]()
    carry = transfers.carry

    async def failing(book_id: int, transfer_id: UUID) -> object:
        tried.append(transfer_id)
        if transfer_id == stuck.id:
            raise LedgerUnavailable
        return await carry(book_id, transfer_id)

    object.__setattr__(transfers, "carry", failing)
    with pytest.raises(LedgerUnavailable):
        await transfers.recover(limit=1)
    assert await transfers.recover(limit=1) == 1
    assert tried == [stuck.id, younger.id]
    for wait in (1, 2, 4, 8):
        books.clock_at += timedelta(seconds=wait - 0.5)
        assert await transfers.recover() == 0
        books.clock_at += timedelta(seconds=0.5)
        with pytest.raises(LedgerUnavailable):
            await transfers.recover()
    assert tried == [stuck.id, younger.id] + [stuck.id] * 4
    assert await books.transfers.recover() == 1  # another process has its own waits


# ---------------------------------------------------------------- the database's own rules


CALLS = (
    ("record_transfer(%(here)s, %(new)s, %(there)s, 'debit', 'Assets:A', 'Assets:B', 1, 'INR')", "KH032"),
    ("record_arrival(%(there)s, %(here)s, %(new)s, NULL)", "KH033"),
    ("record_arrival(%(there)s, %(here)s, %(done)s, 'refused')", "KH033"),
    ("record_arrival(%(there)s, %(there)s, %(new)s, 'refused')", "KH033"),
    ("end_transfer(%(here)s, %(done)s, NULL, 'refused')", "KH034"),
    ("end_transfer(%(here)s, %(flying)s, NULL, NULL)", "KH034"),
    ("end_transfer(%(here)s, %(flying)s, 999999, NULL)", "KH034"),
    ("end_transfer(%(here)s, %(new)s, 1, NULL)", "KH034"),
    ("end_transfer(%(here)s, %(arrived)s, 999999, NULL)", "KH034"),
)


async def test_a_transfer_is_what_its_journals_say_and_nothing_else(books: TwoBooks) -> None:
    done, flying, arrived = books.transfer(300), books.transfer(10), books.transfer(20)
    await books.send(done)
    for t in (flying, arrived):
        await books.only_send(t)
    await books.transfers._receive(arrived, books.names[0])  # pyright: ignore[reportPrivateUsage]
    ids = {"new": new_id(), "done": done.id, "flying": flying.id, "arrived": arrived.id}
    given = {"here": books.here, "there": books.there} | ids
    for call, sqlstate in CALLS:
        with pytest.raises(psycopg.DatabaseError) as refused:
            async with books.connect() as conn:
                await conn.execute(f"SELECT ledger.{call}".encode(), given)
        assert refused.value.sqlstate == sqlstate, call
    assert await books.transfers.recover() == 2


async def test_nothing_goes_back_for_another_reason_than_the_receiving_book_gave(books: TwoBooks) -> None:
    t = books.transfer(300, to_account=OTHER.replace("d", "gone"))
    await books.only_send(t)
    lying = returning(t, books.names[1], "account_frozen", WALLET, new_id())
    for _ in ("not answered yet", "answered otherwise"):
        refused = await books.writer(books.here).submit(lying)
        assert isinstance(refused, StatementRefused)
        assert refused.reason == "KH034"
        await books.transfers._refuse(t, "account_unknown")  # pyright: ignore[reportPrivateUsage]
    assert (await books.send(t)).reason == "account_unknown"
    assert await books.posted(books.here) == 1000


_LONGEST = f"Assets:{'x' * 64}:{'x' * 64}:{'x' * 63}"
ROWS: tuple[tuple[dict[str, object], bool], ...] = (
    ({"amount": 10**15, "account": _LONGEST, "to_account": _LONGEST}, True),
    ({"amount": 10**15 + 1}, False),
    ({"amount": 0}, False),
    ({"currency": "rupee"}, False),
    *(
        ({name: path}, False)
        for name in ("account", "to_account")
        for path in ("nowhere at all", "Assets", f"Assets:{'x' * 65}", f"{_LONGEST}x", clearing(THERE))
    ),
)
_INSERT = (
    "INSERT INTO ledger.transfer (book_id, transfer_id, to_book, side, account, to_account, amount, currency, sent_seq)"
    " VALUES (%(book)s, %(id)s, %(to_book)s, 'debit', %(account)s, %(to_account)s, %(amount)s, %(currency)s, 1)"
)


async def test_the_database_takes_the_rows_that_a_transfer_can_be_built_of(books: TwoBooks) -> None:
    assert len(_LONGEST) == LONGEST_PATH
    ends = {"book": books.here, "to_book": books.there, "id": new_id()}
    async with await psycopg.AsyncConnection.connect(books.database.owner_dsn) as conn:
        for terms, possible in ROWS:
            row = {"account": WALLET, "to_account": WALLET, "amount": 5, "currency": "INR"} | terms
            if possible:
                books.transfer(**row)  # pyright: ignore[reportArgumentType]
                await conn.execute(_INSERT, row | ends)
            else:
                with pytest.raises(InvalidEntry):
                    books.transfer(**row)  # pyright: ignore[reportArgumentType]
                with pytest.raises(psycopg.DatabaseError) as refused:
                    await conn.execute(_INSERT, row | ends)
                assert refused.value.sqlstate == "KH032", terms
            await conn.rollback()


async def test_a_row_that_cannot_be_read_stops_no_other_transfer(database: Database) -> None:
    """Not even one that the rules would have kept out: here they are gone."""
    async with two_books(database) as books:
        async with await psycopg.AsyncConnection.connect(database.owner_dsn) as conn:
            await conn.execute("ALTER TABLE ledger.transfer DROP CONSTRAINT transfer_accounts")
        bad, good = books.transfer(5), books.transfer(7, book_id=books.there, to_book=books.here)
        honest = await books.transfers.prepare(bad)
        [record] = honest.statements
        lying = m.Statement(record.sql, dict(record.params) | {"to_account": "nowhere at all"})
        assert isinstance(await books.writer(books.here).submit(m.Unit(honest.journals, (lying,))), m.Posted)
        for t in (books.transfer(6), good):
            await books.only_send(t)
        with pytest.raises(InvalidEntry):
            await books.transfers.recover()
        left = await books.rows("SELECT transfer_id FROM ledger.transfer WHERE state = 'in_flight'")
        assert left == [(bad.id,)]


CHANGES = (
    ("UPDATE ledger.transfer SET amount = 1", "KH035"),
    ("UPDATE ledger.transfer SET state = 'in_flight', end_seq = NULL", "KH035"),
    ("DELETE FROM ledger.transfer", "KH010"),
    ("TRUNCATE ledger.transfer", "KH010"),
    ("UPDATE ledger.arrival SET received_seq = 7", "KH010"),
    ("DELETE FROM ledger.arrival", "KH010"),
    ("TRUNCATE ledger.arrival", "KH010"),
)


async def test_not_even_the_owner_of_the_tables_changes_what_was_said(books: TwoBooks) -> None:
    await books.send(books.transfer(300))
    for statement, sqlstate in CHANGES:
        async with await psycopg.AsyncConnection.connect(books.database.owner_dsn) as conn:
            with pytest.raises(psycopg.DatabaseError) as refused:
                await conn.execute(statement.encode())
            await conn.rollback()
        assert refused.value.sqlstate == sqlstate, statement
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await books.rows(statement)


async def test_a_journal_of_a_transfer_that_is_recorded_otherwise_does_not_stand(books: TwoBooks) -> None:
    """The record is a statement of the sending unit: what it refuses is not booked."""
    t = books.transfer(300)
    honest = await books.transfers.prepare(t)
    [record] = honest.statements
    lying = m.Unit(honest.journals, (m.Statement(record.sql, dict(record.params) | {"amount": 299}),))
    refused = await books.writer(books.here).submit(lying)
    assert isinstance(refused, StatementRefused)
    assert refused.reason == "KH032"
    assert await books.posted(books.here) == 1000
    assert isinstance(await books.writer(books.here).submit(unit(fund(WALLET, 1))), m.Posted)
