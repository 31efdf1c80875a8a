"""What an export says: the hashed lines themselves, cells that are safe, and books that other programs agree with."""

from __future__ import annotations

import asyncio
import csv
import io
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
import pytest
from psycopg import AsyncConnection

from khata import judges
from khata.database import Database
from ledger import model as m
from ledger.errors import BookUnknown, InvalidEntry
from ledger.export import FORMATS, decimal_text, export_journal, minor_units
from ledger.export.plaintext import PENDING, tag_value
from ledger.export.tables import text_cell
from ledger.read import balances
from tests.ledger.random_books import CURRENCIES, RandomBook, random_book

JUDGES = [
    pytest.param(
        judge, marks=pytest.mark.skipif(shutil.which(name) is None, reason=f"{name} is not installed")
    )
    for judge, name in ((judges.hledger, "hledger"), (judges.ledger, "ledger"))
]
Judge = Callable[[Path], judges.Figures]


@pytest.fixture(scope="module")
def book_id(shared_database: Database) -> int:
    async def build() -> int:
        async with await AsyncConnection.connect(shared_database.app_dsn) as conn:
            book = await random_book(conn, 21, batches=20)
            return book.book_id

    return asyncio.run(build())


async def exported(dsn: str, book_id: int, format: str, **bounds: int) -> bytes:
    async with await AsyncConnection.connect(dsn) as conn:
        return b"".join([chunk async for chunk in export_journal(conn, book_id, format, **bounds)])


async def fetch(dsn: str, statement: str, *values: object) -> list[Any]:
    async with await AsyncConnection.connect(dsn) as conn:
        return await (await conn.execute(statement.encode(), values)).fetchall()


# ---------------------------------------------------------------- jsonl


async def test_the_lines_of_an_export_are_the_preimages_of_the_leaf_hashes(
    shared_database: Database, book_id: int
) -> None:
    data = await exported(shared_database.audit_dsn, book_id, "jsonl")
    hashes = await fetch(
        shared_database.audit_dsn,
        "SELECT leaf_hash FROM ledger.journal WHERE book_id = %s ORDER BY seq",
        book_id,
    )
    assert data.endswith(b"\n")
    assert [sha256(b"\x00" + line).digest() for line in data[:-1].split(b"\n")] == [h for (h,) in hashes]
    assert len(hashes) > 300


async def test_an_export_can_begin_and_end_anywhere(shared_database: Database, book_id: int) -> None:
    whole = (await exported(shared_database.audit_dsn, book_id, "jsonl")).splitlines()
    part = await exported(shared_database.audit_dsn, book_id, "jsonl", after_seq=7, through_seq=9)
    assert part.splitlines() == whole[7:9]
    beyond = await exported(shared_database.audit_dsn, book_id, "jsonl", after_seq=5, through_seq=10**9)
    assert beyond.splitlines() == whole[5:]
    assert await exported(shared_database.audit_dsn, book_id, "jsonl", after_seq=len(whole)) == b""


async def test_an_unknown_book_or_format_is_refused_before_the_first_byte(shared_database: Database) -> None:
    with pytest.raises(BookUnknown):
        await exported(shared_database.audit_dsn, 99, "jsonl")
    with pytest.raises(InvalidEntry):
        await exported(shared_database.audit_dsn, 1, "xlsx")


@pytest.mark.parametrize("format", FORMATS)
async def test_pages_make_no_difference(
    shared_database: Database, book_id: int, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = await exported(shared_database.audit_dsn, book_id, format)
    monkeypatch.setattr("ledger.export.selection.PAGE", 7)
    assert await exported(shared_database.audit_dsn, book_id, format) == whole


# ---------------------------------------------------------------- csv


async def test_every_line_is_a_row_with_its_amount_in_major_and_minor_units(
    shared_database: Database, book_id: int
) -> None:
    rows = list(
        csv.DictReader(io.StringIO((await exported(shared_database.audit_dsn, book_id, "csv")).decode()))
    )
    lines = [
        orjson.loads(x) for x in (await exported(shared_database.audit_dsn, book_id, "jsonl")).splitlines()
    ]
    assert len(rows) == 2 * sum(len(line["postings"]) for line in lines)
    for row in rows:
        posting = lines[int(row["seq"]) - 1]["postings"][int(row["line"]) - 1]
        assert (row["account"], row["layer"]) == (posting[row["side"]], posting["layer"])
        assert row["amount_minor"] == posting["amount"]
        assert minor_units(row["amount"], row["currency"]) == int(posting["amount"])
    assert {row["currency"] for row in rows} == set(CURRENCIES)


async def test_no_cell_of_a_csv_export_starts_a_formula(shared_database: Database, book_id: int) -> None:
    data = (await exported(shared_database.audit_dsn, book_id, "csv")).decode()
    cells = [
        cell
        for row in csv.DictReader(io.StringIO(data))
        for name, cell in row.items()
        if "amount" not in name
    ]
    assert not [cell for cell in cells if cell.strip().startswith(("=", "+", "-", "@"))]
    assert any("HYPERLINK" in cell for cell in cells)


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(1)", "  =1", "＝1", "\t=1"])
def test_a_text_that_looks_like_a_formula_is_disarmed(text: str) -> None:
    assert text_cell(text) == "'" + text


# ---------------------------------------------------------------- plain-text accounting


@pytest.mark.parametrize("judge", JUDGES)
async def test_another_program_finds_every_balance_of_the_book(
    shared_database: Database, book_id: int, judge: Judge, tmp_path: Path
) -> None:
    path = tmp_path / f"book.{judge.__name__}"
    path.write_bytes(await exported(shared_database.audit_dsn, book_id, judge.__name__))
    figures = judge(path)
    async with await AsyncConnection.connect(shared_database.audit_dsn) as conn:
        ours = await balances(conn, book_id)
    for b in ours:
        sign = 1 if b.type.debit_normal else -1
        assert figures.pop((b.path, b.currency), 0) == sign * b.posted, b
        assert figures.pop((PENDING + b.path, b.currency), 0) == sign * (b.pending_in - b.pending_out), b
    assert not figures
    assert {b.currency for b in ours if b.posted} == set(CURRENCIES)
    assert any(b.posted < 0 for b in ours)
    assert any(b.pending_out for b in ours)


@pytest.mark.parametrize(
    ("right", "spoiled"),
    [
        ("  500.00 INR", "  500.01 INR"),
        ("account Liabilities:Customer:c0:Wallet\n", ""),
        ("[Pending:", "[Pending:Nowhere:"),
    ],
)
@pytest.mark.parametrize("judge", JUDGES)
async def test_a_judge_refuses_a_book_that_does_not_add_up_or_names_unknown_accounts(
    shared_database: Database, book_id: int, judge: Judge, right: str, spoiled: str, tmp_path: Path
) -> None:
    text = (await exported(shared_database.audit_dsn, book_id, judge.__name__)).decode()
    assert right in text
    path = tmp_path / "book.journal"
    path.write_text(text.replace(right, spoiled, 1))
    with pytest.raises(judges.JudgeRefused):
        judge(path)


@pytest.mark.parametrize("judge", JUDGES)
async def test_amounts_of_any_size_and_sign_survive(database: Database, judge: Judge, tmp_path: Path) -> None:
    async with await AsyncConnection.connect(database.app_dsn) as conn:
        book = await random_book(conn, 1, batches=0)
        await book.post([largest(book, currency) for currency in CURRENCIES])
    path = tmp_path / "book.journal"
    path.write_bytes(await exported(database.audit_dsn, book.book_id, judge.__name__))
    figures = judge(path)
    for currency in CURRENCIES:
        assert figures["Income:Fees:card", currency] == -m.MAX_AMOUNT
        assert figures["Equity:Memo:Issuers", currency] == m.MAX_AMOUNT


def largest(book: RandomBook, currency: str) -> m.Journal:
    return book.journal(book.pay("Equity:Memo:Issuers", "Income:Fees:card", m.MAX_AMOUNT, currency))


async def test_a_transaction_carries_what_an_auditor_looks_for(
    shared_database: Database, book_id: int
) -> None:
    text = (await exported(shared_database.audit_dsn, book_id, "hledger", through_seq=1)).decode()
    [line] = (await exported(shared_database.audit_dsn, book_id, "jsonl", through_seq=1)).splitlines()
    journal = orjson.loads(line)
    head, transaction, _ = text.strip().split("\n\n")
    assert {"commodity 1000.00 INR", "commodity 1000. JPY", "commodity 1000.000 KWD"} <= set(
        head.splitlines()
    )
    shown = transaction.splitlines()
    assert shown[0] == f"{journal['recorded_at'][:10]} (1) transfer"
    assert f"    ; id: {journal['id']}" in shown
    assert f"    ; recorded_at: {journal['recorded_at']}" in shown
    assert shown[-2:] == [
        "    Assets:Bank:Meridian:Escrow  500.00 INR",
        "    Liabilities:Customer:c0:Wallet  -500.00 INR",
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a, b", "a%2C b"),
        ("[2026]", "%5B2026%5D"),
        ("100 %", "100 %25"),
        ("  x ", "%20%20x%20"),
        (" ", "%20"),
    ],
)
def test_a_tag_value_holds_nothing_the_programs_would_read_as_more_than_text(text: str, shown: str) -> None:
    assert tag_value(text) == shown


def test_a_missing_judge_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(judges.JudgeMissing, match="hledger is not installed"):
        judges.hledger(tmp_path / "none")


# ---------------------------------------------------------------- amounts


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [(123450, "INR", "1234.50"), (-5, "INR", "-0.05"), (7, "JPY", "7"), (-1, "KWD", "-0.001"), (0, "KWD", "0.000"),
     (10**15, "INR", "10000000000000.00"), (3, "XAU", "3"), (3, "QQQ", "3")],
)  # fmt: skip
def test_minor_units_and_decimals_are_each_others_inverse(amount: int, currency: str, text: str) -> None:
    assert decimal_text(amount, currency) == text
    assert minor_units(text, currency) == amount


@pytest.mark.parametrize("text", ["1.001", "x", "", "NaN", "Infinity"])
def test_what_is_no_amount_of_the_currency_is_refused(text: str) -> None:
    with pytest.raises(InvalidEntry):
        minor_units(text, "INR")
