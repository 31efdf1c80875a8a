"""Random books, the same for one seed: every kind of row the ledger can hold, in three currencies, batch by batch."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection

from ledger import model as m
from ledger.acts import By
from ledger.adjustments import Adjustment, approve, propose
from ledger.books import change_account, create_book, open_accounts
from ledger.errors import FactRefused
from ledger.ids import uuid7
from ledger.limits import LimitTerms, Measure, Side, Window, set_limit
from ledger.periods import approve_reopening, close, propose_reopening
from ledger.post import post
from ledger.proposals import Kind, reject
from ledger.rollups import roll_up
from ledger.search import index_journals
from tests.ledger.random_transfers import exchange
from tests.ledger.words import AUTHORIZATIONS, ESCROW, FEES, ISSUERS, NOW, PENDING_A, PENDING_B

LIMITS = [
    ("a_day", Side.DEBIT, Measure.SUM, Window.DAY),
    ("an_hour", Side.CREDIT, Measure.COUNT, Window.HOUR),
    ("a_minute", Side.DEBIT, Measure.COUNT, Window.MINUTE),
    ("a_week", Side.CREDIT, Measure.SUM, Window.WEEK),
    ("a_month", Side.DEBIT, Measure.SUM, Window.MONTH),
]
CURRENCIES = ("INR", "JPY", "KWD")
WALLETS = tuple(f"Liabilities:Customer:c{n}:Wallet" for n in range(4))
FROZEN, CLOSED = "Liabilities:Customer:frozen:Wallet", "Liabilities:Customer:closed:Wallet"
DESCRIPTIONS = (
    *(
        "",
        "order 17",
        '=HYPERLINK("http://x")',
        "-1+1",
        "@SUM(1)",
        "[2026-01-01] [=9999]",
        ":a:b: c:: d, e; f | g",
    ),
    *(
        '100 % (net) "quoted"',
        "दिवाली ₹ 1,000",
        "* ! (17) ; tag: value",
        "  two  spaces  ",
        "\\ ' ` ~ {} \U0001f600",
    ),
)


@dataclass
class RandomBook:
    """Grows by ``batch``. Units that the ledger refuses are part of the story: they leave no trace."""

    conn: AsyncConnection[Any]
    random: Random
    book_id: int = 0
    now: datetime = NOW
    holds: list[UUID] = field(default_factory=list)
    plain: list[int] = field(default_factory=list)  # seqs of journals without a hold: they can be reversed
    posted: int = 0

    async def open(self, name: str) -> None:
        self.book_id = await create_book(self.conn, name=name, now=self.now)
        accounts = [m.NewAccount(p, c) for c in CURRENCIES for p in (ESCROW, FEES, AUTHORIZATIONS, ISSUERS)]
        for currency in CURRENCIES:
            accounts += [m.NewAccount(w, currency, floor=0, owner=w.split(":")[2]) for w in WALLETS]
            accounts += [m.NewAccount(p, currency, floor=-5000) for p in (PENDING_A, PENDING_B)]
        accounts += [m.NewAccount(FROZEN, "INR", floor=0), m.NewAccount(CLOSED, "INR", floor=0)]
        await open_accounts(self.conn, self.book_id, accounts, now=self.now)
        money = [
            self.pay(ESCROW, w, 50_000, c) for c in CURRENCIES for w in (*WALLETS, *([FROZEN] * (c == "INR")))
        ]
        await self.post([self.journal(p) for p in money])
        frozen_hold = m.Place(self.id(), FROZEN, PENDING_A, 700, "INR")
        await self.post([self.journal(hold=frozen_hold), self.journal(self.pay(ESCROW, CLOSED, 9, "INR"))])
        await self.post([self.journal(self.pay(CLOSED, ESCROW, 9, "INR"))])
        for path, status in ((FROZEN, m.AccountStatus.FROZEN), (CLOSED, m.AccountStatus.CLOSED)):
            await change_account(
                self.conn,
                self.book_id,
                path,
                "INR",
                now=self.now,
                reason="test",
                person="tester",
                status=status,
            )
        over = m.Place(self.id(), WALLETS[0], PENDING_A, 1000, "INR", tolerance_bps=1500)
        await self.post([self.journal(hold=over), self.journal(hold=m.Capture(over.hold_id, 1100))])
        await self.post([self.journal(hold=m.Release(frozen_hold.hold_id, 300))])

    async def batch(self, size: int) -> None:
        """One transaction of ``size`` units, and at times a new floor."""
        self.now += timedelta(microseconds=self.random.randrange(10**9))
        if self.random.random() < 0.2:
            wallet, currency = self.random.choice(WALLETS), self.random.choice(CURRENCIES)
            floor = self.random.choice([0, -100, -2000, None])
            with suppress(FactRefused):  # what is overdrawn gets no higher floor
                async with self.conn.transaction():
                    await change_account(
                        self.conn,
                        self.book_id,
                        wallet,
                        currency,
                        now=self.now,
                        reason="test",
                        person="tester",
                        floor=floor,
                    )
        if self.random.random() < 0.4:
            await self.set_limit()
        await self.post([self.random_journal() for _ in range(size)])
        await index_journals(self.conn, self.book_id, size - 5)  # leaves a tail without terms
        await self.conn.commit()

    async def people(self) -> None:
        """What takes two: adjustments approved, rejected and open; days closed, reopened and closed again."""
        adjustment = Adjustment((m.Posting(ESCROW, PENDING_A, 70, "INR"),), "adjusted", {"order": "17"})
        made = [self.id() for _ in range(3)]
        for id_ in made:
            await propose(self.conn, self.book_id, id_, adjustment, By("asha", "ticket 4711", self.now))
        ben = By("ben", "checked", self.now)
        await approve(self.conn, self.book_id, made[0], ben, journal_id=self.id())
        await reject(self.conn, self.book_id, Kind.ADJUSTMENT, made[1], ben)
        day = self.now.date()
        for days in (50, 30):
            await close(
                self.conn, self.book_id, By("asha", "month end", self.now), through=day - timedelta(days=days)
            )
        await self.post([self.late(60), self.late(35)])
        again = self.id()
        asked = By("asha", "an invoice came late", self.now)
        await propose_reopening(self.conn, self.book_id, again, asked, through=day - timedelta(days=45))
        await approve_reopening(self.conn, self.book_id, again, ben)
        await self.post([self.late(35)])
        await close(self.conn, self.book_id, ben, through=day - timedelta(days=41))
        await self.conn.commit()
        self.posted += 1  # the approved adjustment

    def late(self, days: int) -> m.Journal:
        at = self.now - timedelta(days=days)
        posting = self.pay(ESCROW, PENDING_A, 5, "INR")
        return self.journal(posting, effective_at=at, on_closed=m.OnClosed.FIRST_OPEN_DAY)

    async def set_limit(self) -> None:
        """A new velocity limit, or another maximum of one, or one switched off or on."""
        name, side, measure, window = self.random.choice(LIMITS)
        maximum = (
            self.random.choice([2, 60]) if measure is Measure.COUNT else self.random.choice([20_000, 10**7])
        )
        terms = LimitTerms(name, side, measure, maximum, window, active=self.random.random() < 0.8)
        await set_limit(
            *(self.conn, self.book_id, self.random.choice([WALLETS[0], PENDING_A]), "INR", terms),
            now=self.now,
            reason="test",
            person="tester",
        )

    async def post(self, journals: list[m.Journal]) -> None:
        results = await post(self.conn, self.book_id, [m.Unit((j,)) for j in journals], now=self.now)
        await self.conn.commit()
        for journal, result in zip(journals, results, strict=True):
            if isinstance(result, m.Posted):
                self.posted += 1
                if journal.hold is None:
                    self.plain.append(result.seqs[0])
                elif isinstance(journal.hold, m.Place):
                    self.holds.append(journal.hold.hold_id)

    def random_journal(self) -> m.Journal:
        choice = self.random.random()
        if choice < 0.35 or not self.holds:
            return self.transfer()
        if choice < 0.45:
            return self.journal(reverses=self.random.choice(self.plain), kind="reversal")
        if choice < 0.65:
            return self.journal(hold=self.place(), kind="authorization")
        return self.on_hold(self.random.choice(self.holds[-8:]))

    def transfer(self) -> m.Journal:
        postings: list[m.Posting] = []
        for currency in self.random.sample(CURRENCIES, self.random.choice([1, 1, 2])):
            debit, credit = self.random.sample([*WALLETS, PENDING_A, PENDING_B, ESCROW], 2)
            postings += [
                self.pay(debit, credit, self.amount(), currency),
                self.pay(credit, FEES, 7, currency),
            ]
        days = self.random.choice([None, 0, 1, 40])
        effective_at = None if days is None else self.now - timedelta(days=days)
        return self.journal(*postings[: self.random.randrange(1, 5)], effective_at=effective_at)

    def place(self) -> m.Place:
        debit = self.random.choice([*WALLETS, AUTHORIZATIONS])
        credit = ISSUERS if debit == AUTHORIZATIONS else PENDING_A
        expires_at = self.random.choice([None, self.now + timedelta(hours=1), self.now + timedelta(days=9)])
        return m.Place(
            self.id(), debit, credit, self.amount(), self.random.choice(CURRENCIES), expires_at,
            tolerance_bps=self.random.choice([0, 1500]),
        )  # fmt: skip

    def on_hold(self, hold_id: UUID) -> m.Journal:
        amount = self.random.choice([1, 40, 3000])
        choice = self.random.randrange(6)
        if choice == 0:
            return self.journal(hold=m.Increase(hold_id, amount), kind="increase")
        if choice == 1:
            return self.journal(hold=m.Release(hold_id, self.random.choice([None, amount])), kind="void")
        if choice == 2:
            return self.journal(hold=m.Expire(hold_id), kind="expiry")
        pair = self.random.choice([(None, None), (ESCROW, PENDING_B)])
        capture = m.Capture(hold_id, amount, self.random.random() < 0.3, debit=pair[0], credit=pair[1])
        return self.journal(hold=capture, kind="capture")

    def journal(self, *postings: m.Posting, kind: str = "transfer", **more: Any) -> m.Journal:
        id_ = self.id()
        source = m.Source("test", self.random.choice(["", "=1,[2]:;", "a::b%"]) + str(id_), "done")
        description = self.random.choice(DESCRIPTIONS)
        metadata = {"order": 'a "b" \\ é'} if self.random.random() < 0.3 else {}
        return m.Journal(
            id=id_,
            kind=kind,
            source=source,
            postings=postings,
            description=description,
            metadata=metadata,
            **more,
        )

    def pay(self, debit: str, credit: str, amount: int, currency: str) -> m.Posting:
        return m.Posting(debit, credit, amount, currency, up_to=self.random.random() < 0.1)

    def amount(self) -> int:
        return self.random.choice([1, 99, 1234, self.random.randrange(1, 20_000)])

    def id(self) -> UUID:
        return uuid7(self.now, self.random.randbytes(10))


async def random_book(
    conn: AsyncConnection[Any], seed: int, *, name: str = "main", batches: int = 12, size: int = 25
) -> RandomBook:
    """A book of about ``batches`` times ``size`` journals, committed."""
    book = RandomBook(conn, Random(seed))
    await book.open(name)
    await book.people()
    book.posted += await exchange(conn, name, f"{name}-mate", now=book.now, ids=book.id, random=book.random)
    for _ in range(batches):
        await book.batch(size)
        await roll_up(conn, book.book_id, most_spans=size // 2)  # may leave some for the next time
        await conn.commit()
    return book
