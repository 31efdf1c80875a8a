"""``khata export --format``: owners, accounts, days, and a directory of statements, as people type them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import orjson
import psycopg
import pytest
from click.testing import CliRunner, Result
from psycopg.conninfo import conninfo_to_dict

from khata.cli import cli
from khata.database import Database
from ledger.export import FILES
from tests.ledger.random_books import random_book
from tests.reports.readers import read_camt
from tests.server import Server

Khata = Callable[..., Result]
OWNED = "Liabilities:Customer:c1:Wallet"


@pytest.fixture(scope="module")
def khata(server: Server, shared_database: Database) -> Khata:
    async def grow() -> None:
        async with await psycopg.AsyncConnection.connect(shared_database.app_dsn) as conn:
            await random_book(conn, 3, batches=2)

    asyncio.run(grow())
    given = {"KHATA_DATABASE_URL": server.admin_dsn, "KHATA_HOME": server.home, "KHATA_BOOK": "main"}
    given["KHATA_DATABASE_NAME"] = str(conninfo_to_dict(shared_database.app_dsn)["dbname"])
    return lambda *arguments: CliRunner(env=given).invoke(cli, ("export", *arguments))


def test_an_owners_journals_go_to_a_file_in_any_form(khata: Khata, tmp_path: Path) -> None:
    for format, files in FILES.items():
        folder = len(files) > 1
        out = tmp_path / f"{format}.out"
        done = khata("--format", format, "--owner", "c1", "--out", f"{out}/" if folder else str(out))
        assert done.exit_code == 0, done.output + repr(done.exception)
        assert sorted(path.name for path in out.iterdir()) == sorted(files) if folder else out.stat().st_size
    said = [orjson.loads(line) for line in (tmp_path / "jsonl.out").read_bytes().splitlines()]
    assert said
    assert all(OWNED in {p[side] for p in j["postings"] for side in ("debit", "credit")} for j in said)


def test_statements_of_an_owners_accounts_fill_a_directory(khata: Khata, tmp_path: Path) -> None:
    given = ("--format", "camt.053", "--from", "2026-01-01", "--to", "2100-01-01", "--owner", "c1")
    done = khata(*given, "--out", f"{tmp_path}/statements/")
    assert done.exit_code == 0, done.output + repr(done.exception)
    names = {path.name for path in (tmp_path / "statements").iterdir()}
    assert names == {f"Liabilities.Customer.c1.Wallet.{currency}.xml" for currency in ("INR", "JPY", "KWD")}
    for name in names:
        read = read_camt((tmp_path / "statements" / name).read_bytes(), name.split(".")[-2])
        assert read.amounts
        assert read.opening + sum(read.amounts) == read.closing


def test_statements_begin_with_the_first_day_that_has_something(khata: Khata, tmp_path: Path) -> None:
    done = khata("--format", "camt.053", "--to", "2100-01-01", "--out", f"{tmp_path}/statements/")
    assert done.exit_code == 0, done.output + repr(done.exception)
    read = [
        read_camt(path.read_bytes(), path.name.split(".")[-2]) for path in (tmp_path / "statements").iterdir()
    ]
    assert {statement.opening for statement in read} == {0}
    assert all(sum(statement.amounts) == statement.closing for statement in read)
    assert len(read) > 3


@pytest.mark.parametrize(
    "given", [(), ("--from", "2026-01-01"), ("--from", "2026-01-01", "--out", "one.xml")]
)
def test_statements_need_a_directory(khata: Khata, given: tuple[str, ...]) -> None:
    assert khata("--format", "camt.053", *given).exit_code == 2


def test_who_owns_nothing_is_refused_and_nothing_is_left_behind(khata: Khata, tmp_path: Path) -> None:
    for format, name in (("hledger", "book"), ("ads", "files/"), ("camt.053", "statements/")):
        given = ("--format", format, "--owner", "nobody", "--from", "2026-01-01")
        done = khata(*given, "--out", f"{tmp_path}/{name}")
        assert getattr(done.exception, "code", None) == "invalid_entry"
    assert not list(tmp_path.iterdir())
