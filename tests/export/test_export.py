"""What an export says: the hashed lines themselves, cells that are safe, and books that other programs agree with."""

from __future__ import annotations

import asyncio
import csv
import io
from datetime import UTC, timedelta
from hashlib import sha256

import orjson
import pytest
from psycopg import AsyncConnection

from khata.database import Database
from ledger.errors import AccountUnknown, BookUnknown, InvalidEntry
from ledger.export import (
    FILES,
    FORMATS,
    Selection,
    decimal_text,
    export_file,
    export_journal,
    minor_units,
    recorded_days,
)
from ledger.export.plaintext import tag_value
from ledger.export.tables import text_cell
from tests.export.books import exported, fetch, journals
from tests.ledger.random_books import CURRENCIES, WALLETS, random_book
from tests.ledger.words import FEES


@pytest.fixture(scope="module")
def book_id(shared_database: Database) -> int:
    async def build() -> int:
        async with await AsyncConnection.connect(shared_database.app_dsn) as conn:
            book = await random_book(conn, 21, batches=20)
            return book.book_id

    return asyncio.run(build())


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
    part = await exported(
        shared_database.audit_dsn, book_id, "jsonl", selection=Selection(after_seq=7, through_seq=9)
    )
    assert part.splitlines() == whole[7:9]
    beyond = await exported(
        shared_database.audit_dsn, book_id, "jsonl", selection=Selection(after_seq=5, through_seq=10**9)
    )
    assert beyond.splitlines() == whole[5:]
    assert (
        await exported(shared_database.audit_dsn, book_id, "jsonl", selection=Selection(after_seq=len(whole)))
        == b""
    )


async def test_an_unknown_book_or_format_is_refused_before_the_first_byte(
    shared_database: Database, book_id: int
) -> None:
    dsn = shared_database.audit_dsn
    with pytest.raises(BookUnknown):
        await exported(dsn, 99, "jsonl")
    async with await AsyncConnection.connect(dsn) as conn:
        for format, name in (("xlsx", "book.xlsx"), ("jsonl", "journal.csv")):
            with pytest.raises(InvalidEntry):
                await anext(export_file(conn, book_id, format, name))
        with pytest.raises(InvalidEntry):
            await anext(export_journal(conn, book_id, "ads"))


@pytest.mark.parametrize("format", [format for format in FORMATS if format != "parquet"])
async def test_pages_make_no_difference(
    shared_database: Database, book_id: int, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = [Selection(), Selection(after_seq=50, through_seq=300), Selection(owner="c1", after_seq=9)]
    whole = [
        await exported(shared_database.audit_dsn, book_id, format, name, s)
        for name in FILES[format]
        for s in chosen
    ]
    monkeypatch.setattr("ledger.export.selection.PAGE", 7)
    monkeypatch.setattr("ledger.export.standing.PAGE", 7)
    paged = [
        await exported(shared_database.audit_dsn, book_id, format, name, s)
        for name in FILES[format]
        for s in chosen
    ]
    if format in ("hledger", "ledger"):  # their assertions are a transaction a page
        whole, paged = ([without_heads(text) for text in texts] for texts in (whole, paged))
    assert paged == whole


def without_heads(text: bytes) -> list[bytes]:
    return [line for line in text.splitlines() if line and not line.endswith(b"Closing balances")]


# ---------------------------------------------------------------- what is chosen


async def test_the_journals_of_an_owner_or_an_account_are_those_that_touch_an_account_of_theirs(
    shared_database: Database, book_id: int
) -> None:
    dsn = shared_database.audit_dsn
    everything = await journals(dsn, book_id, Selection())
    mine = {f"{WALLETS[1]}"}
    for selection, touches in (
        (Selection(owner="c1"), lambda p: {p["debit"], p["credit"]} & mine),
        (Selection(account=FEES), lambda p: FEES in (p["debit"], p["credit"])),
        (Selection(account=FEES, currency="JPY"), lambda p: p["currency"] == "JPY" and FEES in p.values()),
        (Selection(account=FEES, after_seq=100, through_seq=200), lambda p: FEES in p.values()),
    ):
        through = selection.through_seq or len(everything)
        wanted = [
            j
            for j in everything
            if selection.after_seq < j["seq"] <= through and any(map(touches, j["postings"]))
        ]
        assert await journals(dsn, book_id, selection) == wanted
        assert 0 < len(wanted) < len(everything)


async def test_whoever_has_no_account_is_refused(shared_database: Database, book_id: int) -> None:
    dsn = shared_database.audit_dsn
    for selection, error in (
        (Selection(owner="nobody"), InvalidEntry),
        (Selection(account="Assets:Nowhere"), AccountUnknown),
        (Selection(account=FEES, currency="XXX"), AccountUnknown),
        (Selection(currency="INR"), InvalidEntry),
    ):
        with pytest.raises(error):
            await journals(dsn, book_id, selection)


async def test_days_are_those_of_recording_the_last_one_excluded(
    shared_database: Database, book_id: int
) -> None:
    rows = await fetch(
        shared_database.audit_dsn,
        "SELECT seq, recorded_at FROM ledger.journal WHERE book_id = %s ORDER BY seq",
        book_id,
    )
    days = {seq: at.astimezone(UTC).date() for seq, at in rows}
    first, last = min(days.values()), max(days.values())
    async with await AsyncConnection.connect(shared_database.audit_dsn) as conn:
        assert await recorded_days(conn, book_id, None, None) == (0, len(days))
        assert await recorded_days(conn, book_id, None, first) == (0, 0)
        assert await recorded_days(conn, book_id, last + timedelta(days=1), None) == (len(days), len(days))
        for day in sorted(set(days.values())):
            after, through = await recorded_days(conn, book_id, day, day + timedelta(days=1))
            assert {seq for seq, at in days.items() if at == day} == set(range(after + 1, through + 1))
        with pytest.raises(InvalidEntry):
            await recorded_days(conn, book_id, last, last)


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


async def test_a_transaction_carries_what_an_auditor_looks_for(
    shared_database: Database, book_id: int
) -> None:
    text = (
        await exported(shared_database.audit_dsn, book_id, "hledger", selection=Selection(through_seq=1))
    ).decode()
    [line] = (
        await exported(shared_database.audit_dsn, book_id, "jsonl", selection=Selection(through_seq=1))
    ).splitlines()
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
