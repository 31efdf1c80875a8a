"""``khata statement`` and ``khata report`` as a person types them: tables, files that are whole, plain refusals."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from khata.cli import main
from khata.database import Database
from tests.ledger.random_books import RandomBook, random_book
from tests.reports import readers
from tests.server import Server

CASH = "Assets:Bank:Meridian:Escrow"
PERIOD = ("--from", "2026-01-01", "--to", "2199-12-31")
Khata = Callable[..., bytes]


@pytest.fixture(scope="module")
def posted(shared_database: Database) -> int:
    """What the cash account of a random book comes to."""

    async def grow() -> RandomBook:
        async with await psycopg.AsyncConnection.connect(shared_database.app_dsn) as conn:
            return await random_book(conn, 3, batches=1)

    asyncio.run(grow())
    with psycopg.connect(shared_database.audit_dsn) as conn:
        row = conn.execute(
            "SELECT posted_debits - posted_credits FROM ledger.balance JOIN ledger.account USING (book_id, account_id)"
            " WHERE path = %s AND account.currency = 'INR'",
            [CASH],
        ).fetchone()
    assert row is not None
    return row[0]


@pytest.fixture
def khata(
    server: Server,
    shared_database: Database,
    posted: int,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> Khata:
    """``khata ARGUMENTS`` in this process; what it prints. ``fails``: it must exit with 1, saying why."""
    monkeypatch.setenv("KHATA_DATABASE_URL", server.admin_dsn)
    monkeypatch.setenv("KHATA_DATABASE_NAME", str(conninfo_to_dict(shared_database.app_dsn)["dbname"]))
    monkeypatch.setenv("KHATA_HOME", server.home)

    def run(*arguments: str, fails: bool = False) -> bytes:
        monkeypatch.setattr(sys, "argv", ["khata", *arguments])
        with pytest.raises(SystemExit) as exit:
            main()
        said, complaint = capfdbinary.readouterr()
        assert exit.value.code == (1 if fails else 0), complaint
        return complaint if fails else said

    return run


def test_a_statement_is_a_table_or_json_as_of_what_was_known(khata: Khata, posted: int) -> None:
    assert CASH.encode() in khata("statement", CASH, "INR", *PERIOD)
    said = json.loads(khata("statement", CASH, "INR", *PERIOD, "--json"))
    assert said["head"]["closing"] == posted == said["entries"][-1]["balance"]
    before = json.loads(khata("statement", CASH, "INR", *PERIOD, "--known-as-of", "0", "--json"))
    assert (before["head"]["closing"], before["entries"]) == (0, [])


def test_a_statement_is_printed_or_stored_as_a_file_that_is_whole(
    khata: Khata, posted: int, tmp_path: Path
) -> None:
    printed = readers.read_camt(khata("statement", CASH, "INR", *PERIOD, "--format", "camt.053"), "INR")
    assert (printed.opening, printed.closing) == (0, posted)
    for format, read in (("csv", readers.read_csv), ("html", readers.read_html), ("pdf", readers.read_pdf)):
        file = tmp_path / f"statement.{format}"
        khata("statement", CASH, "INR", *PERIOD, "--format", format, "--out", str(file))
        assert read(file.read_bytes(), "INR") == printed
    assert len(list(tmp_path.iterdir())) == 3


def test_a_file_that_is_refused_is_one_line_and_leaves_nothing_behind(
    khata: Khata, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.documents.statement_pdf.MOST_LINES", 1)
    out = str(tmp_path / "[b].pdf")
    told = khata("statement", CASH, "INR", *PERIOD, "--format", "pdf", "--out", out, fails=True)
    assert b"statement_too_long" in told
    assert b"Traceback" not in told
    assert list(tmp_path.iterdir()) == []


def test_each_report_is_a_table_csv_or_json(khata: Khata, posted: int) -> None:
    for report in ("trial-balance", "balance-sheet"):
        assert CASH.encode() in khata("report", report)
        assert f'"{CASH}"'.encode() in khata("report", report, "--csv")
    sheets = json.loads(khata("report", "balance-sheet", "--json"))
    [inr] = [sheet for sheet in sheets if sheet["currency"] == "INR"]
    assert {"path": CASH, "amount": posted} in inr["assets"]["lines"]
    earned = json.loads(khata("report", "income-statement", *PERIOD, "--json"))
    assert [one["income"]["total"] for one in earned if one["currency"] == "INR"] == [inr["result"]]
    aged = json.loads(khata("report", "ageing", "--effective-as-of", "2026-11-30", "--json"))
    assert all(sum(one["buckets"]) == one["open"] != 0 for one in aged)


def test_what_cannot_be_stated_is_refused_and_leaves_no_file(khata: Khata, tmp_path: Path) -> None:
    nowhere = ("statement", "Assets:Nowhere:x", "INR", "--format", "csv", "--out", str(tmp_path / "no"))
    assert b"account_unknown" in khata(*nowhere, fails=True)
    assert b"period_invalid" in khata(
        "statement", CASH, "INR", "--from", "2026-11-02", "--to", "2026-11-01", fails=True
    )
    assert list(tmp_path.iterdir()) == []
