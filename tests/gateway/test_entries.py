"""Every journal the gateway makes, on the real ledger, with the figures of accounting.md (₹1,000.00 at 2 %)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from banks.accounts import open_bank_accounts
from banks.references import reference
from gateway import entries, funds
from gateway.entries import Split
from gateway.fees import Charge, FeePlan, charge
from gateway.model import Attempt, CaptureMethod, Fund, Kind, Operation, Payment
from gateway.states import OperationState
from khata.database import Database
from ledger import errors
from ledger.books import create_book, open_accounts
from ledger.ids import uuid7
from ledger.model import Journal, Posted, Posting, Result, Source, Unit
from ledger.post import post
from ledger.read import balances

NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)
LATER = NOW + timedelta(days=8)
CHARGE = Charge(fee=2_000, tax=360)
HOLD = UUID(int=1)
ATTEMPT = Attempt(HOLD, 1, "meridian", "card", "card_x", "visa", "1111", NOW)

_numbers = iter(range(1, 1_000_000))


def op(kind: Kind, amount: int = 100_000, **facts: Any) -> Operation:
    number = next(_numbers)
    made = Operation(
        UUID(int=number), HOLD, kind, reference(number, NOW), amount, OperationState.APPROVED, NOW
    )
    return replace(made, **facts)


def new_id() -> UUID:
    return uuid7(NOW, next(_numbers).to_bytes(10, "big"))


PAYMENT = Payment(
    id=UUID(int=7),
    merchant_id=UUID(int=8),
    book_id=1,
    amount=100_000,
    currency="INR",
    capture_method=CaptureMethod.MANUAL,
    plan=FeePlan(200),
    created_at=NOW,
    expires_at=LATER,
    tolerance_bps=1_000,
    attempts=(ATTEMPT,),
)
OWNER = PAYMENT.owner


@dataclass
class Books:
    conn: psycopg.AsyncConnection[Any]
    book_id: int

    async def book(self, *journals: Journal, at: datetime = NOW) -> Result:
        (result,) = await post(self.conn, self.book_id, [Unit(journals)], now=at)
        return result

    async def authorize(self) -> None:
        placed = entries.authorized(new_id(), PAYMENT, op(Kind.AUTHORIZE), expires_at=NOW + timedelta(days=7))
        assert isinstance(await self.book(placed), Posted)

    async def capture(self, amount: int = 100_000, charged: Charge = CHARGE, **facts: Any) -> None:
        await self.authorize()
        taken = entries.captured(new_id(), PAYMENT, op(Kind.CAPTURE, amount, **facts), charged)
        assert isinstance(await self.book(taken), Posted)

    async def sums(self) -> Mapping[str, int]:
        found = await balances(self.conn, self.book_id)
        return {b.path.replace(f":{OWNER}", ""): b.posted for b in found if b.posted}

    async def pending(self) -> int:
        found = await balances(self.conn, self.book_id, prefix=entries.MEMO_ISSUERS)
        return sum(b.pending_in for b in found)


@pytest.fixture
async def books(database: Database) -> AsyncIterator[Books]:
    async with await psycopg.AsyncConnection.connect(database.app_dsn) as conn:
        book_id = await create_book(conn, name="main", now=NOW)
        await open_bank_accounts(conn, book_id, "meridian", ["INR"], now=NOW)
        accounts = [*entries.platform_accounts("INR"), *entries.merchant_accounts(OWNER, "INR")]
        await open_accounts(conn, book_id, accounts, now=NOW)
        yield Books(conn, book_id)


CAPTURED = {
    "Assets:Receivable:meridian": 100_000,
    "Liabilities:Merchant:Pending": 97_640,
    "Income:Fees:card": 2_000,
    "Liabilities:Tax:GST": 360,
}


async def test_card_authorized(books: Books) -> None:
    await books.authorize()
    assert await books.sums() == {}
    assert await books.pending() == 100_000


async def test_card_captured_with_fee_and_gst(books: Books) -> None:
    await books.capture()
    assert await books.sums() == CAPTURED
    assert await books.pending() == 0


async def test_card_captured_in_part_and_finally(books: Books) -> None:
    await books.capture(40_000, charge(PAYMENT.plan, 40_000), final=True)
    assert (await books.sums())["Assets:Receivable:meridian"] == 40_000
    assert await books.pending() == 0


async def test_card_captured_over_the_authorization_within_the_tolerance_agreed(books: Books) -> None:
    await books.capture(110_000)
    assert (await books.sums())["Assets:Receivable:meridian"] == 110_000
    assert await books.pending() == 0


async def test_card_captured_beyond_the_tolerance_is_refused(books: Books) -> None:
    await books.authorize()
    over = entries.captured(new_id(), PAYMENT, op(Kind.CAPTURE, 110_001), CHARGE)
    assert isinstance(await books.book(over), errors.HoldExceeded)


async def test_card_captured_late_posts_the_same_and_expires_the_hold(books: Books) -> None:
    await books.authorize()
    late = op(Kind.CAPTURE)
    in_time = entries.captured(new_id(), PAYMENT, late, CHARGE)
    assert isinstance(await books.book(in_time, at=LATER), errors.HoldExpired)
    out_of_time = entries.captured_late(new_id(), PAYMENT, late, CHARGE, held=True)
    assert isinstance(await books.book(out_of_time, at=LATER), Posted)
    assert await books.sums() == CAPTURED
    assert await books.pending() == 0


async def test_card_captured_after_the_hold_is_gone(books: Books) -> None:
    late = entries.captured_late(new_id(), PAYMENT, op(Kind.CAPTURE), CHARGE, held=False)
    assert isinstance(await books.book(late), Posted)
    assert await books.sums() == CAPTURED


async def test_card_voided(books: Books) -> None:
    await books.authorize()
    assert isinstance(await books.book(entries.voided(new_id(), PAYMENT, op(Kind.VOID, 30_000))), Posted)
    assert await books.pending() == 70_000
    assert isinstance(await books.book(entries.voided(new_id(), PAYMENT, op(Kind.VOID, 70_000))), Posted)
    assert await books.pending() == 0


async def test_card_voided_after_the_holds_time(books: Books) -> None:
    await books.authorize()
    late = entries.voided_late(new_id(), PAYMENT, op(Kind.VOID, 30_000))
    assert isinstance(await books.book(late, at=LATER), Posted)
    assert await books.pending() == 0


async def test_card_expired(books: Books) -> None:
    await books.authorize()
    gone = entries.expired(new_id(), PAYMENT, ATTEMPT)
    assert isinstance(await books.book(gone), errors.HoldNotExpired)
    assert isinstance(await books.book(gone, at=LATER), Posted)
    assert await books.pending() == 0
    assert await books.sums() == {}


async def test_funds_become_payable(books: Books) -> None:
    await books.capture()
    moved = entries.funds_released(new_id(), new_id(), OWNER, "INR", 97_640, debt_repaid=0)
    assert isinstance(await books.book(moved), Posted)
    sums = await books.sums()
    assert sums["Liabilities:Merchant:Available"] == 97_640
    assert "Liabilities:Merchant:Pending" not in sums


async def test_refund_before_settlement(books: Books) -> None:
    await books.capture()
    back = op(Kind.REFUND, 50_000)
    await books.book(entries.refund_sent(new_id(), PAYMENT, back, Split(50_000, 0, 0)))
    assert await books.sums() == CAPTURED | {
        "Liabilities:Merchant:Pending": 47_640,
        "Liabilities:InTransit:Refunds:meridian": 50_000,
    }
    await books.book(entries.refund_completed(new_id(), PAYMENT, back, Charge(0, 0), debt_repaid=0))
    assert await books.sums() == CAPTURED | {
        "Liabilities:Merchant:Pending": 47_640,
        "Assets:Receivable:meridian": 50_000,
    }


async def test_refund_after_settlement_with_too_little_payable(books: Books) -> None:
    await books.capture()
    await books.book(entries.funds_released(new_id(), new_id(), OWNER, "INR", 97_640, debt_repaid=0))
    back = op(Kind.REFUND)
    too_much = entries.refund_sent(new_id(), PAYMENT, back, Split(0, 100_000, 0))
    assert isinstance(await books.book(too_much), errors.InsufficientFunds)
    await books.book(entries.refund_sent(new_id(), PAYMENT, back, Split(0, 97_640, 2_360)))
    sums = await books.sums()
    assert sums["Assets:Receivable:Merchant"] == 2_360
    assert sums["Liabilities:InTransit:Refunds:meridian"] == 100_000
    assert "Liabilities:Merchant:Available" not in sums


async def test_refund_failed_at_the_bank(books: Books) -> None:
    await books.capture()
    await books.book(entries.funds_released(new_id(), new_id(), OWNER, "INR", 97_640, debt_repaid=0))
    before, back = await books.sums(), op(Kind.REFUND)
    for split in (Split(0, 50_000, 0), Split(0, 97_640, 2_360)):
        back = op(Kind.REFUND, split.total)
        await books.book(entries.refund_sent(new_id(), PAYMENT, back, split))
        await books.book(entries.refund_failed(new_id(), PAYMENT, back, split))
        assert await books.sums() == before


async def test_fee_handed_back_on_refund(books: Books) -> None:
    await books.capture()
    back = op(Kind.REFUND)
    await books.book(entries.refund_sent(new_id(), PAYMENT, back, Split(97_640, 0, 2_360)))
    done = entries.refund_completed(new_id(), PAYMENT, back, CHARGE, debt_repaid=2_360)
    assert isinstance(await books.book(done), Posted)
    assert await books.sums() == {}


async def test_fee_handed_back_to_a_merchant_who_owes_nothing(books: Books) -> None:
    await books.capture()
    back = op(Kind.REFUND, 50_000)
    await books.book(entries.refund_sent(new_id(), PAYMENT, back, Split(50_000, 0, 0)))
    done = entries.refund_completed(new_id(), PAYMENT, back, Charge(1_000, 180), debt_repaid=0)
    await books.book(done)
    sums = await books.sums()
    assert sums["Liabilities:Merchant:Available"] == 1_180
    assert (sums["Income:Fees:card"], sums["Liabilities:Tax:GST"]) == (1_000, 180)


async def test_a_debt_is_repaid_out_of_released_funds_and_never_twice(books: Books) -> None:
    await books.capture()
    owed = Posting(entries.debt(OWNER), entries.GST, 2_360, "INR")
    await books.book(Journal(new_id(), "test", Source("test", "1", "owed"), (owed,)))
    release = new_id()
    twice = entries.funds_released(new_id(), release, OWNER, "INR", 97_640, debt_repaid=2_361)
    assert isinstance(await books.book(twice), errors.InsufficientFunds)
    await books.book(entries.funds_released(new_id(), release, OWNER, "INR", 97_640, debt_repaid=2_360))
    sums = await books.sums()
    assert sums["Liabilities:Merchant:Available"] == 95_280
    assert "Assets:Receivable:Merchant" not in sums


def test_journals_carry_opaque_ids_only() -> None:
    made = entries.captured(new_id(), PAYMENT, op(Kind.CAPTURE), CHARGE)
    assert set(made.metadata) == {"payment_id", "merchant_id", "operation_id", "rrn", "bank"}
    assert made.description == ""


_SUMS = st.lists(st.integers(1, 10**6), min_size=1, max_size=5)


@given(_SUMS, _SUMS)
def test_pairing_keeps_every_accounts_sum(debits: list[int], credits: list[int]) -> None:
    credits = [*credits, max(0, sum(debits) - sum(credits))]
    debits = [*debits, max(0, sum(credits) - sum(debits))]
    left = [(f"Assets:A{n}", amount) for n, amount in enumerate(debits) if amount]
    right = [(f"Liabilities:B{n}", amount) for n, amount in enumerate(credits) if amount]
    postings = entries.pair(left, right, "INR")
    for path, amount in left:
        assert sum(p.amount for p in postings if p.debit == path) == amount
    for path, amount in right:
        assert sum(p.amount for p in postings if p.credit == path) == amount
    assert len(postings) <= len(left) + len(right) - 1


def test_sides_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="differ"):
        entries.pair([("Assets:A", 2)], [("Liabilities:B", 1)], "INR")


@given(st.lists(st.tuples(st.integers(0, 1000), st.booleans()), max_size=6), st.integers(0, 5000))
def test_funds_taken_are_given_back_whole(nets: list[tuple[int, bool]], amount: int) -> None:
    before = tuple(
        Fund(UUID(int=n), net, 0, UUID(int=99) if released else None)
        for n, (net, released) in enumerate(nets)
    )
    taken = funds.take(before, amount)
    assert taken.amount == min(amount, sum(fund.left for fund in before))
    assert sum(f.left for f in before) - sum(f.left for f in taken.after) == taken.amount
    back = funds.give_back(taken.after, taken.amount)
    assert back.amount == taken.amount
    assert back.after == before


def test_every_kind_of_journal_has_its_example_in_the_documentation() -> None:
    root = Path(__file__).parents[2]
    made = re.findall(r'(?:_journal\(id, |kind=)"([a-z_]+)"', (root / "gateway/entries.py").read_text())
    shown = re.findall(r"^\| `([a-z_]+)` \|", (root / "docs/gateway.md").read_text(), re.MULTILINE)
    assert set(made) == set(shown)
