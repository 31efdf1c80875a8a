"""Reads of the past in a short book and in a long one, turn by turn on one server: ``python -m bench.reads``.

A balance as known at a past journal or instant, or as effective on a past day too, must take the same time however
long the book is: the ratio of the medians, long to short, is at most 1.5, else the exit code is 1 (docs/bench.md).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import psycopg
import uvloop
from psycopg import AsyncConnection
from rich.console import Console
from rich.table import Column, Table

from bench.server import bench_server
from khata.database import Database
from khata.memory import collect_rarely
from ledger import as_of
from ledger import model as m
from ledger.books import create_book, open_accounts
from ledger.ids import uuid7
from ledger.post import post
from ledger.rollups import roll_up

OUT = Path(__file__).parent / "out" / "reads.json"
SHORT, LONG, QUICK_LONG = 10_000, 1_000_000, 100_000
LIMIT = 1.5
# Both books fit: what is compared is the work, not how much of either is on disk.
BUFFERS = {"shared_buffers": "2GB"}
CURRENCY = "INR"
HOT = "Assets:Bank:Meridian:Escrow"
WALLETS = [f"Liabilities:Customer:c{number}:Wallet" for number in range(1000)]
BEGIN, DAYS = datetime(2026, 1, 1, tzinfo=UTC), 60  # of recording, whatever the number of journals
BATCH = 2000
# Effective this many days before they are recorded; below 0: after.
LATE = (*[0] * 17, 1, 7, 40, -3)


@dataclass
class Book:
    """``posted_per_s`` and ``rolled_up_per_s``: journals a second of the bulk path and of ``ledger.roll_up``."""

    size: int
    book_id: int = 0
    posted_per_s: float = 0.0
    rolled_up_per_s: float = 0.0


@dataclass(frozen=True)
class Figure:
    """Microseconds an answer: the median of the rounds' medians, the least and the greatest of those. ``ratio``: to
    the short book, the median of the rounds' ratios."""

    case: str
    journals: int
    median_us: float
    least_us: float
    greatest_us: float
    ratio: float

    @classmethod
    def of(cls, case: Case, journals: int, medians: Sequence[float], ratio: float) -> Self:
        return cls(
            case=case.name,
            journals=journals,
            median_us=round(statistics.median(medians), 1),
            least_us=round(min(medians), 1),
            greatest_us=round(max(medians), 1),
            ratio=round(ratio, 2),
        )


@dataclass
class Asker:
    """Random questions about one book, in one session."""

    conn: AsyncConnection[Any]
    book: Book
    random: random.Random = field(default_factory=lambda: random.Random(1))

    def known(self) -> int:
        return self.random.randrange(1, self.book.size + 1)

    def instant(self) -> datetime:
        return BEGIN + timedelta(days=self.random.random() * DAYS)

    def day(self) -> date:
        return (BEGIN + timedelta(days=self.random.randrange(-30, DAYS + 3))).date()

    async def balance(self, path: str, at: as_of.AsOf) -> None:
        assert await as_of.balance(self.conn, self.book.book_id, path, CURRENCY, at) is not None

    async def trial_balance(self) -> None:
        await as_of.trial_balance(self.conn, self.book.book_id, as_of.AsOf(self.day(), self.known()))

    async def statement(self) -> None:
        await as_of.statement(
            *(self.conn, self.book.book_id, HOT, CURRENCY),
            first=self.day(),
            last=date(2027, 1, 1),
            known=self.known(),
        )


@dataclass(frozen=True)
class Case:
    """``worth``: how many answers one question gives. ``bound``: whether its ratio must stay below the limit."""

    name: str
    ask: Callable[[Asker], Awaitable[None]]
    questions: int = 200
    worth: int = 1
    bound: bool = True


def cases() -> list[Case]:
    found: list[Case] = []
    wallet = random.Random(2)
    for load, path in (("even", lambda: wallet.choice(WALLETS)), ("hot", lambda: HOT)):

        def case(name: str, at: Callable[[Asker], as_of.AsOf], load: str = load, path: Any = path) -> Case:
            return Case(f"{name}/{load}", lambda asker: asker.balance(path(), at(asker)))

        found += [
            case("at a past journal", lambda asker: as_of.AsOf(known=asker.known())),
            case("at a past instant", lambda asker: as_of.AsOf(known=asker.instant())),
            case("on a past day", lambda asker: as_of.AsOf(effective=asker.day())),
            case("on a past day, at a past journal", lambda asker: as_of.AsOf(asker.day(), asker.known())),
        ]
    return [
        *found,
        Case("trial balance, an account", Asker.trial_balance, 3, worth=len(WALLETS) + 1, bound=False),
        Case("statement by day, 100 lines/hot", Asker.statement, 30, bound=False),
    ]


async def fill(conn: AsyncConnection[Any], book: Book) -> None:
    """Each journal between the hot account and a wallet; some effective on other days than they are recorded."""
    chance = random.Random(3)
    book.book_id = await create_book(conn, name=f"of-{book.size}", now=BEGIN)
    await open_accounts(
        conn, book.book_id, [m.NewAccount(path, CURRENCY) for path in (HOT, *WALLETS)], now=BEGIN
    )
    await conn.commit()
    started = time.perf_counter()
    for first in range(0, book.size, BATCH):
        now = BEGIN + timedelta(days=DAYS * first / book.size)
        units = [_unit(chance, now) for _ in range(min(BATCH, book.size - first))]
        await post(conn, book.book_id, units, now=now)
        await conn.commit()
    book.posted_per_s = book.size / (time.perf_counter() - started)
    started = time.perf_counter()
    while await roll_up(conn, book.book_id):
        await conn.commit()
    book.rolled_up_per_s = book.size / (time.perf_counter() - started)


def _unit(chance: random.Random, now: datetime) -> m.Unit:
    id_ = uuid7(now, chance.randbytes(10))
    late = chance.choice(LATE)
    debit, credit = HOT, chance.choice(WALLETS)
    if chance.random() < 0.4:
        debit, credit = credit, debit
    return m.Unit(
        (
            m.Journal(
                id_,
                "transfer",
                m.Source("bench", id_.hex, "done"),
                (m.Posting(debit, credit, chance.randrange(1, 100_000), CURRENCY),),
                effective_at=now - timedelta(days=late) if late else None,
            ),
        )
    )


async def measure(askers: Sequence[Asker], asked: Sequence[Case], rounds: int) -> list[Figure]:
    """Question by question in turn, so that a noisy moment hits both books; one round is thrown away."""
    figures: list[Figure] = []
    for case in asked:
        medians = [await _round(askers, case) for _ in range(rounds + 1)][1:]
        for place, asker in enumerate(askers):
            own = [found[place] for found in medians]
            ratio = statistics.median(found[place] / found[0] for found in medians)
            figures.append(Figure.of(case, asker.book.size, own, ratio))
    return figures


async def _round(askers: Sequence[Asker], case: Case) -> list[float]:
    """The median of each asker's waits, in microseconds an answer."""
    waits: list[list[float]] = [[] for _ in askers]
    for _ in range(case.questions):
        for asker, own in zip(askers, waits, strict=True):
            started = time.perf_counter()
            await case.ask(asker)
            own.append((time.perf_counter() - started) * 1e6 / case.worth)
    for asker in askers:
        await asker.conn.rollback()
    return [statistics.median(own) for own in waits]


async def run(database: Database, sizes: Sequence[int], rounds: int) -> tuple[list[Book], list[Figure], int]:
    """The books, the figures and the bytes of the long book's rollups beside its journals."""
    books = [Book(size) for size in sizes]
    collect_rarely()
    async with (
        await AsyncConnection.connect(database.app_dsn) as one,
        await AsyncConnection.connect(database.app_dsn) as other,
    ):
        for book in books:
            await fill(one, book)
        share = _analyze(database)
        askers = [Asker(conn, book) for conn, book in zip((one, other), books, strict=True)]
        return books, await measure(askers, cases(), rounds), share


def _analyze(database: Database) -> int:
    """As autovacuum would in time; returns the size of rollups in percent of that of journals and postings."""
    with psycopg.connect(database.owner_dsn, autocommit=True) as owner:
        for table in ("account", "balance", "journal", "posting", "rollup", "rollup_span"):
            owner.execute(f"VACUUM ANALYZE ledger.{table}".encode())
        row = owner.execute(
            "SELECT 100 * pg_total_relation_size('ledger.rollup')"
            " / (pg_total_relation_size('ledger.journal') + pg_total_relation_size('ledger.posting'))"
        ).fetchone()
        return int(row[0]) if row else 0


def table(figures: Sequence[Figure], sizes: Sequence[int]) -> Table:
    made = Table("a balance, µs", *(Column(f"{size:,} journals", justify="right") for size in sizes), "ratio")
    for case in dict.fromkeys(f.case for f in figures):
        own = {f.journals: f for f in figures if f.case == case}
        spread = [
            f"{own[s].median_us:,.0f} ({own[s].least_us:,.0f} to {own[s].greatest_us:,.0f})" for s in sizes
        ]
        made.add_row(case, *spread, f"{own[sizes[-1]].ratio:.2f}")
    return made


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.reads", description=__doc__)
    quick = os.environ.get("QUICK") == "1"
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--long", type=int, default=QUICK_LONG if quick else LONG, help="journals of the long book"
    )
    options = parser.parse_args(given)
    sizes = (SHORT, options.long)
    with bench_server(BUFFERS) as server:
        books, figures, share = uvloop.run(run(server.database, sizes, options.rounds))
    console = Console(width=None if sys.stdout.isatty() else 130)
    console.print(table(figures, sizes))
    for book in books:
        console.print(
            f"{book.size:,} journals: posted {book.posted_per_s:,.0f}/s, rolled up {book.rolled_up_per_s:,.0f}/s"
        )
    console.print(f"rollups take {share} % of the space of journals and postings")
    OUT.parent.mkdir(exist_ok=True)
    said = {"figures": [asdict(f) for f in figures], "books": [asdict(b) for b in books]}
    OUT.write_text(json.dumps(said, indent=1) + "\n")
    bound = {case.name for case in cases() if case.bound}
    slow = {f.case for f in figures if f.case in bound and f.ratio > LIMIT}
    console.print(
        f"[red]above {LIMIT}: {', '.join(sorted(slow))}[/]" if slow else f"every ratio is at most {LIMIT}"
    )
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
