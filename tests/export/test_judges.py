"""Other programs judge the plain-text forms as strictly as they can, and have our balances, account by account."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest
from psycopg import AsyncConnection

from khata import judges
from khata.database import Database
from khata.judges import Figures
from ledger import model as m
from ledger.export import FILES, Selection, export_file, recorded_days
from ledger.export.plaintext import ELSEWHERE, PENDING
from ledger.read import balances
from tests.export.books import AWKWARD, JOURNALS, SEED, exported, fetch, installed, large_book, sums
from tests.ledger.random_books import CURRENCIES, RandomBook, random_book

JUDGES = [
    pytest.param(name, marks=pytest.mark.skipif(not installed(name), reason=f"{name} is not installed"))
    for name in judges.JUDGES
]
OWNED = "Liabilities:Customer:c1:Wallet"  # the only account of its owner


@dataclass(frozen=True)
class Large:
    """A random book of 20,000 journals. ``part``: its middle days."""

    dsn: str
    book_id: int
    head: int
    part: tuple[int, int]


@pytest.fixture(scope="module")
def large(shared_database: Database) -> Large:
    async def build() -> Large:
        async with await AsyncConnection.connect(shared_database.app_dsn) as conn:
            book = await large_book(conn)
            first, until = date(2026, 11, 30), date(2026, 12, 9)
            part = await recorded_days(conn, book.book_id, first, until)
            return Large(shared_database.audit_dsn, book.book_id, book.posted, part)

    return asyncio.run(build())


async def judged(large: Large, judge: str, path: Path, selection: Selection) -> Figures:
    path.write_bytes(await exported(large.dsn, large.book_id, judge, None, selection))
    return {at: amount for at, amount in judges.JUDGES[judge](path).items() if amount}


@pytest.mark.parametrize("judge", JUDGES)
async def test_another_program_finds_every_balance_of_a_book_of_20_000_journals(
    large: Large, judge: str, tmp_path: Path
) -> None:
    figures = await judged(large, judge, tmp_path / "book", Selection())
    assert figures == await sums(large.dsn, large.book_id, large.head), SEED
    assert large.head >= JOURNALS
    async with await AsyncConnection.connect(large.dsn) as conn:
        ours = await balances(conn, large.book_id)
    for b in ours:
        sign = 1 if b.type.debit_normal else -1
        assert figures.pop((b.path, b.currency), 0) == sign * b.posted, b
        assert figures.pop((PENDING + b.path, b.currency), 0) == sign * (b.pending_in - b.pending_out), b
    assert not figures
    assert {b.path for b in ours} > set(AWKWARD)


@pytest.mark.parametrize("judge", JUDGES)
async def test_a_period_opens_with_what_was_before_it_and_ends_with_what_was_then(
    large: Large, judge: str, tmp_path: Path
) -> None:
    after, through = large.part
    assert 0 < after < through < large.head
    figures = await judged(large, judge, tmp_path / "book", Selection(after_seq=after, through_seq=through))
    assert figures == await sums(large.dsn, large.book_id, through)


@pytest.mark.parametrize("judge", JUDGES)
@pytest.mark.parametrize(
    ("selection", "path", "whole"),
    [
        ({"owner": "c1"}, OWNED, True),
        ({"owner": "c1"}, OWNED, False),
        ({"account": AWKWARD[0]}, AWKWARD[0], False),
        ({"account": AWKWARD[3]}, AWKWARD[3], False),  # above another
    ],
)
async def test_what_is_asked_about_has_its_balance_in_an_export_of_it_alone(
    large: Large, judge: str, selection: dict[str, str], path: str, whole: bool, tmp_path: Path
) -> None:
    after, through = (0, large.head) if whole else large.part
    chosen = Selection(after_seq=after, through_seq=through, **selection)
    figures = await judged(large, judge, tmp_path / "book", chosen)
    ours = await sums(large.dsn, large.book_id, through)
    mine = {(layer + path, currency) for layer in ("", PENDING) for currency in CURRENCIES}
    assert {at: figures[at] for at in mine if at in figures} == {at: ours[at] for at in mine if at in ours}
    assert mine & set(ours)
    assert sum(figures.values()) == 0
    assert any(ELSEWHERE in account for account, _ in figures) == (not whole)


@pytest.mark.parametrize("format", FILES)
async def test_no_form_is_ever_held_as_a_whole(large: Large, format: str) -> None:
    async with await AsyncConnection.connect(large.dsn) as conn:
        for name in FILES[format]:
            chunks = [len(c) async for c in export_file(conn, large.book_id, format, name)]
            assert max(chunks) < 1_500_000
            assert sum(chunks) < 1_500_000 or len(chunks) > 2


@pytest.mark.parametrize("judge", JUDGES)
async def test_a_closing_balance_that_is_off_by_the_least_is_refused(
    large: Large, judge: str, tmp_path: Path
) -> None:
    """So the balances at the end are checked by the program, in each layer and without a tolerance."""
    text = (await exported(large.dsn, large.book_id, judge, None, Selection(through_seq=3000))).decode()
    mark = " balance " if judge == "beancount" else " = "
    lines = text.splitlines(keepends=True)
    for pending in (False, True):
        chosen = [
            n
            for n, line in enumerate(lines)
            if mark in line and ("Pending" in line) == pending and "KWD" in line
        ]
        at = chosen[len(chosen) // 2]
        head, _, amount = lines[at].rpartition(mark)
        spoiled = [*lines[:at], head + mark + _off_by_one(amount), *lines[at + 1 :]]
        path = tmp_path / "book"
        path.write_text("".join(spoiled))
        with pytest.raises(judges.JudgeRefused):
            judges.JUDGES[judge](path)


def _off_by_one(said: str) -> str:
    """The least unit of KWD more."""
    words = said.split(" ")
    place = next(n for n, word in enumerate(words) if "." in word)
    whole, _, part = words[place].partition(".")
    digits = f"{abs(int(whole + part)) + 1:04}"
    words[place] = f"{'-' if said.startswith('-') else ''}{digits[:-3]}.{digits[-3:]}"
    return " ".join(words)


@pytest.mark.parametrize(
    ("right", "spoiled"),
    [
        ("  500.00 INR", "  500.01 INR"),
        ("  500.00 INR", "  500.00 INR\n    Assets:Bank:Nowhere  0.00 INR"),
        ("{pending}", "{pending}:Nowhere"),
    ],
)
@pytest.mark.parametrize("judge", JUDGES)
async def test_a_judge_refuses_a_book_that_does_not_add_up_or_names_unknown_accounts(
    shared_database: Database, large: Large, judge: str, right: str, spoiled: str, tmp_path: Path
) -> None:
    text = (await exported(large.dsn, large.book_id, judge, None, Selection(through_seq=40))).decode()
    name = "  Equity:X-Pending:Liabilities" if judge == "beancount" else "    [Pending:Liabilities"
    right, spoiled = right.replace("{pending}", name), spoiled.replace("{pending}", name)
    assert right in text
    path = tmp_path / "book"
    path.write_text(text.replace(right, spoiled, 1))
    with pytest.raises(judges.JudgeRefused):
        judges.JUDGES[judge](path)


@pytest.mark.parametrize("judge", JUDGES)
async def test_amounts_of_any_size_and_sign_survive(database: Database, judge: str, tmp_path: Path) -> None:
    async with await AsyncConnection.connect(database.app_dsn) as conn:
        book = await random_book(conn, 1, batches=0)
        await book.post([largest(book, currency) for currency in CURRENCIES])
    path = tmp_path / "book"
    path.write_bytes(await exported(database.audit_dsn, book.book_id, judge))
    figures = judges.JUDGES[judge](path)
    for currency in CURRENCIES:
        assert figures["Income:Fees:card", currency] == -m.MAX_AMOUNT
        assert figures["Equity:Memo:Issuers", currency] == m.MAX_AMOUNT


def largest(book: RandomBook, currency: str) -> m.Journal:
    return book.journal(book.pay("Equity:Memo:Issuers", "Income:Fees:card", m.MAX_AMOUNT, currency))


@pytest.mark.parametrize("judge", JUDGES)
async def test_an_empty_book_is_accepted(database: Database, judge: str, tmp_path: Path) -> None:
    async with await AsyncConnection.connect(database.app_dsn) as conn:
        book = await random_book(conn, 1, name="other", batches=0)
    path = tmp_path / "book"
    [(mate,)] = await fetch(
        database.audit_dsn, "SELECT max(book_id) FROM ledger.book WHERE book_id <> %s", book.book_id
    )
    path.write_bytes(await exported(database.audit_dsn, mate, judge, None, Selection(through_seq=0)))
    assert not {at: amount for at, amount in judges.JUDGES[judge](path).items() if amount}


def test_a_missing_judge_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    for judge in judges.JUDGES:
        with pytest.raises(judges.JudgeMissing, match=f"{judge} is not installed"):
            judges.JUDGES[judge](tmp_path / "none")
