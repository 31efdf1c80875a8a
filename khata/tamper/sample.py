"""A small book with one of everything the ledger can hold, the same each time."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection

from khata.tamper.sealed import rotate_sample, seal_sample
from ledger import adjustments, periods, proposals
from ledger import model as m
from ledger.acts import By
from ledger.books import change_account, create_book, open_accounts
from ledger.errors import Refusal
from ledger.ids import uuid7
from ledger.limits import LimitTerms, Measure, Side, Window, set_limit
from ledger.post import post
from ledger.rollups import roll_up
from ledger.search import index_journals
from ledger.transfers import Transfer, Transfers
from ledger.writer import Writer

START = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
ESCROW, FEES = "Assets:Bank:Meridian:Escrow", "Income:Fees:card"
MEMO = ("Equity:Memo:Authorizations", "Equity:Memo:Issuers")
SHOP, OTHER_SHOP = "Liabilities:Merchant:shop:Pending", "Liabilities:Merchant:other:Pending"
WALLETS = tuple(f"Liabilities:Customer:c{n}:Wallet" for n in range(3))
FROZEN, CLOSED, UNUSED = (f"Liabilities:Customer:{word}:Wallet" for word in ("frozen", "closed", "unused"))
CURRENCIES = ("INR", "JPY")
PERSON, OTHER_PERSON = "ada", "bob"
TILE_LEAVES = 256


@dataclass
class Sample:
    """Each ``post`` is one transaction, half an hour after the one before."""

    conn: AsyncConnection[Any]
    book_id: int = 0
    now: datetime = START
    ids: int = 0
    journals: dict[str, int] = field(default_factory=dict[str, int])  # seq by name

    def id(self) -> UUID:
        self.ids += 1
        return uuid7(self.now, self.ids.to_bytes(10, "big"))

    def journal(self, name: str, *postings: m.Posting, kind: str = "transfer", **more: Any) -> m.Journal:
        source = m.Source("sample", name.replace(" ", "-"), "done")
        return m.Journal(
            self.id(), kind, source, postings, description=f"the {name}", metadata={"of": name}, **more
        )

    async def post(self, *journals: m.Journal) -> None:
        """All of them stand: a refusal is an error of this file."""
        self.now += timedelta(minutes=30)
        units = [m.Unit((journal,)) for journal in journals]
        for journal, result in zip(
            journals, await post(self.conn, self.book_id, units, now=self.now), strict=True
        ):
            if isinstance(result, Refusal):
                raise result
            self.journals[journal.metadata["of"]] = result.seqs[0]
        await self.conn.commit()

    async def change(self, path: str, **what: Any) -> None:
        self.now += timedelta(minutes=30)
        await change_account(
            self.conn, self.book_id, path, "INR", now=self.now, reason="sample", person=PERSON, **what
        )
        await self.conn.commit()


def pay(debit: str, credit: str, amount: int, currency: str = "INR") -> m.Posting:
    return m.Posting(debit, credit, amount, currency)


async def sample_book(dsn: str) -> int:
    """Its id, made as the application of an empty database. A second book stands beside it."""
    async with await AsyncConnection.connect(dsn) as conn:
        beside = Sample(conn)
        beside.book_id = await create_book(conn, name="beside", now=START)
        await _accounts(beside)
        await beside.post(beside.journal("funding", pay(ESCROW, WALLETS[0], 500)))
        sample = Sample(conn)
        sample.book_id = await create_book(conn, name="sample", now=START)
        await _accounts(sample)
        await _transfers(sample)
        await seal_sample(conn, sample.book_id, sample.now)
        await _holds(sample)
        await _facts(sample)
        await _limits(sample)
        await seal_sample(conn, sample.book_id, sample.now)
        await _people(sample)
        await _between(sample, beside, dsn)
        await rotate_sample(conn, sample.book_id, sample.now)
        await seal_sample(conn, sample.book_id, sample.now)
        await _derived(sample)
        return sample.book_id


async def _accounts(sample: Sample) -> None:
    accounts: list[m.NewAccount] = []
    for currency in CURRENCIES:
        accounts += [m.NewAccount(path, currency) for path in (ESCROW, FEES, *MEMO)]
        accounts += [m.NewAccount(path, currency, floor=-5000, owner="shop") for path in (SHOP, OTHER_SHOP)]
        accounts += [m.NewAccount(path, currency, floor=0, owner=path.split(":")[2]) for path in WALLETS]
    accounts += [m.NewAccount(path, "INR", floor=0) for path in (FROZEN, CLOSED, UNUSED)]
    await open_accounts(sample.conn, sample.book_id, accounts, now=sample.now)
    await sample.conn.commit()


async def _transfers(sample: Sample) -> None:
    for number, wallet in enumerate((*WALLETS, FROZEN, CLOSED)):
        await sample.post(sample.journal(f"funding-{number}", pay(ESCROW, wallet, 50_000 + number)))
    for number, wallet in enumerate(WALLETS):
        await sample.post(sample.journal(f"yen-{number}", pay(ESCROW, wallet, 7_000 + number, "JPY")))
    await sample.post(
        sample.journal("sale", pay(WALLETS[0], SHOP, 1250), pay(SHOP, FEES, 25)),
        sample.journal("resale", pay(WALLETS[1], OTHER_SHOP, 990), pay(OTHER_SHOP, FEES, 19)),
        sample.journal("both", pay(WALLETS[2], SHOP, 77), pay(WALLETS[2], SHOP, 800, "JPY")),
    )
    await sample.post(sample.journal("mistake", pay(WALLETS[0], SHOP, 300), pay(SHOP, FEES, 6)))
    await sample.post(sample.journal("second mistake", pay(WALLETS[1], SHOP, 40)))
    for name in ("mistake", "second mistake"):
        undo = sample.journal(f"{name} undone", kind="reversal", reverses=sample.journals[name])
        await sample.post(undo)
    for days in (1, 40):
        late = sample.now - timedelta(days=days)
        await sample.post(
            sample.journal(f"late-{days}", pay(ESCROW, WALLETS[2], 60 + days), effective_at=late)
        )


async def _holds(sample: Sample) -> None:
    soon, later = sample.now + timedelta(hours=3), sample.now + timedelta(days=9)
    memo = m.Place(sample.id(), *MEMO, 4_000, "INR", later, tolerance_bps=1500)
    wallet = m.Place(sample.id(), WALLETS[0], SHOP, 1_000, "INR", tolerance_bps=1000)
    timed = m.Place(sample.id(), WALLETS[1], SHOP, 600, "INR", soon)
    open_ = m.Place(sample.id(), WALLETS[2], SHOP, 350, "JPY")
    frozen = m.Place(sample.id(), FROZEN, SHOP, 700, "INR", later)
    named = {"memo": memo, "wallet": wallet, "timed": timed, "open": open_, "frozen": frozen}
    await sample.post(*(sample.journal(f"hold {name}", hold=hold) for name, hold in named.items()))
    steps: list[tuple[str, m.HoldAction]] = [
        ("increase", m.Increase(memo.hold_id, 500)),
        ("part capture", m.Capture(memo.hold_id, 2_000, debit=ESCROW, credit=SHOP)),
        ("part release", m.Release(memo.hold_id, 1_000)),
        ("capture over the hold", m.Capture(wallet.hold_id, 1_100)),
        ("final capture", m.Capture(memo.hold_id, 100, True, debit=ESCROW, credit=SHOP)),
        ("part of the frozen", m.Release(frozen.hold_id, 300)),
    ]
    for name, action in steps:
        await sample.post(sample.journal(name, kind="hold", hold=action))
    sample.now = max(sample.now, soon)
    await sample.post(sample.journal("expiry", kind="hold", hold=m.Expire(timed.hold_id)))


async def _facts(sample: Sample) -> None:
    await sample.change(WALLETS[0], floor=-2_000)
    await sample.change(WALLETS[1], floor=None)
    await sample.change(WALLETS[1], floor=10)
    await sample.post(sample.journal("emptied", pay(CLOSED, ESCROW, 50_004)))
    await sample.change(FROZEN, status=m.AccountStatus.FROZEN)
    await sample.change(CLOSED, status=m.AccountStatus.CLOSED)
    await sample.post(sample.journal("overdraft", pay(WALLETS[0], SHOP, 48_000)))


async def _limits(sample: Sample) -> None:
    debits = LimitTerms("daily", Side.DEBIT, Measure.SUM, 60_000, Window.DAY)
    payments = LimitTerms("often", Side.CREDIT, Measure.COUNT, 9, Window.HOUR)
    for terms in (debits, payments, LimitTerms("daily", Side.DEBIT, Measure.SUM, 50_000, Window.DAY)):
        sample.now += timedelta(minutes=30)
        await set_limit(
            sample.conn,
            sample.book_id,
            WALLETS[2],
            "INR",
            terms,
            now=sample.now,
            reason="sample",
            person=PERSON,
        )
        await sample.conn.commit()
    await _many_acts(sample)
    await sample.post(
        sample.journal("within both", pay(WALLETS[2], SHOP, 120)),
        sample.journal("credit", pay(ESCROW, WALLETS[2], 30)),
    )
    sample.now += timedelta(days=1)
    await sample.post(sample.journal("the next day", pay(WALLETS[2], SHOP, 130)))


async def _many_acts(sample: Sample) -> None:
    """So many that they fill a tile of the log, of a kind that no other check is the poorer for."""
    for number in range(TILE_LEAVES):
        sample.now += timedelta(seconds=1)
        terms = LimitTerms("unused", Side.DEBIT, Measure.SUM, 1_000 + number, Window.DAY)
        by: dict[str, Any] = {"now": sample.now, "reason": "sample", "person": PERSON}
        await set_limit(sample.conn, sample.book_id, UNUSED, "INR", terms, **by)
    await sample.conn.commit()


async def _people(sample: Sample) -> None:
    conn, book_id = sample.conn, sample.book_id

    def by(person: str, reason: str) -> By:
        sample.now += timedelta(minutes=30)
        return By(person, reason, sample.now)

    adjustment = adjustments.Adjustment((pay(FEES, WALLETS[0], 12),), description="a fee too many")
    approved, rejected, reopening = sample.id(), sample.id(), sample.id()
    for proposal in (approved, rejected):
        await adjustments.propose(conn, book_id, proposal, adjustment, by(PERSON, "asked for"))
    await adjustments.approve(conn, book_id, approved, by(OTHER_PERSON, "right"), journal_id=sample.id())
    await proposals.reject(conn, book_id, proposals.Kind.ADJUSTMENT, rejected, by(OTHER_PERSON, "twice"))
    await conn.commit()
    sample.now += timedelta(days=3)
    through = sample.now.date() - timedelta(days=1)
    await periods.close(conn, book_id, by(PERSON, "month end"), through=through)
    await periods.propose_reopening(
        conn, book_id, reopening, by(PERSON, "late invoice"), through=through - timedelta(days=1)
    )
    await periods.approve_reopening(conn, book_id, reopening, by(OTHER_PERSON, "agreed"))
    await conn.commit()


async def _between(sample: Sample, beside: Sample, dsn: str) -> None:
    """Transfers with the book beside: there and back completed, both refused and returned, and one still in flight."""
    beside.now = sample.now
    books = {sample.book_id: sample, beside.book_id: beside}

    @asynccontextmanager
    async def connect() -> AsyncGenerator[AsyncConnection[Any]]:
        async with await AsyncConnection.connect(dsn) as conn:
            yield conn

    def clock() -> datetime:
        sample.now += timedelta(seconds=1)
        return sample.now

    async with AsyncExitStack() as stack:
        writers = {
            book_id: await stack.enter_async_context(
                Writer(lambda: AsyncConnection.connect(dsn), book_id, clock=clock)
            )
            for book_id in books
        }
        transfers = Transfers(writers.__getitem__, connect, sample.id, clock)
        for here, there in ((sample, beside), (beside, sample)):
            for to_account, amount in ((WALLETS[0], 40), ("Liabilities:Nobody:Wallet", 50)):
                terms = Transfer(
                    sample.id(), here.book_id, there.book_id, WALLETS[0], to_account, amount, "INR"
                )
                await transfers.send(terms)
        last = Transfer(sample.id(), sample.book_id, beside.book_id, WALLETS[0], WALLETS[0], 60, "INR")
        await writers[sample.book_id].submit(await transfers.prepare(last))


async def _derived(sample: Sample) -> None:
    """Rollups and search terms are made after the fact: those of the last journals are still to come."""
    await roll_up(sample.conn, sample.book_id)
    await index_journals(sample.conn, sample.book_id)
    await sample.conn.commit()
    await sample.post(*(sample.journal(f"last-{n}", pay(ESCROW, SHOP, n + 1)) for n in range(3)))
