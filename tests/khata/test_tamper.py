"""`khata audit --tamper-test`: the audit names whatever is changed, and the test of it can fail."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner

from khata.cli.audit_command import command, tamper_tables
from khata.config import Settings
from khata.database import Database
from khata.tamper import run, tampering
from khata.tamper.run import TamperTest, tamper_test
from khata.tamper.scratch import PREFIX, ScratchRefused, scratch_database
from khata.tamper.tampering import KINDS, NoSuchRow
from ledger.audit import Finding
from ledger.audit.protection import LOSABLE, PROVABLE_ROWS, UNPROVABLE
from tests.server import Server

MIGRATIONS = Path(__file__).parents[2] / "migrations" / "sql"
TABLES = {
    name
    for path in MIGRATIONS.glob("*.sql")
    for name in re.findall(r"CREATE TABLE ledger\.(\w+)", path.read_text())
}


@pytest.mark.timeout(
    1800
)  # some 500 audits: under a minute of processor time, whatever the machine makes of it
async def test_whatever_is_changed_lost_doubled_or_exchanged_is_found_and_its_row_named(
    database: Database,
) -> None:
    told: list[tuple[int, int]] = []
    test = await tamper_test(database, lambda done, total: told.append((done, total)))
    assert test.missed == ()
    assert test.clean
    assert test.passed
    assert told[-1] == (test.tried, test.tried)
    assert {count.table for count in test.counts} == TABLES
    tried = {(count.table, count.kind): count.tried for count in test.counts}
    assert all(tried[table, kind] for table in TABLES for kind in ("changed", "doubled"))
    assert {table for table in TABLES if not tried[table, "lost"]} == set(LOSABLE)
    assert sum(tried[table, "exchanged"] > 0 for table in TABLES) >= 20
    assert [(u.table, u.column) for u in test.unprotected] == [*UNPROVABLE, *PROVABLE_ROWS]


async def test_an_audit_that_overlooks_a_table_is_found_out(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if nothing ever checked holds: the tamperings with them are missed, and told."""

    async def blind(forger: tampering.Forger) -> list[Finding]:
        return [f for f in await seeing(forger) if f.table != "hold"]

    async def holds_only(conn: psycopg.AsyncConnection) -> list[run.Table]:
        return [table for table in await every(conn) if table.name == "hold"]

    seeing, every = tampering.Forger.findings, run.tables
    monkeypatch.setattr(tampering.Forger, "findings", blind)
    monkeypatch.setattr(run, "tables", holds_only)
    monkeypatch.setattr(tampering, "ROWS_A_FIELD", 1)
    test = await tamper_test(database)
    assert not test.passed
    assert len(test.missed) == test.tried
    assert any(words.startswith("changed hold.captured of ") for words in test.missed)


async def test_a_column_without_a_row_to_change_it_in_fails_the_test(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(*_: object) -> list[tampering.Tampering]:
        raise NoSuchRow("no row to change hold.captured in")

    monkeypatch.setattr(tampering, "changes", nothing)
    test = await tamper_test(database)
    assert not test.passed
    assert "not tried: no row to change hold.captured in" in test.missed


def test_a_test_that_tried_nothing_has_not_passed() -> None:
    assert not TamperTest(True, (), (), ()).passed
    [caught, unproved] = tamper_tables(
        TamperTest(True, (run.Count("hold", KINDS[0], 3, 2),), (), run.unprotected())
    )
    assert caught.row_count == 1
    assert unproved.row_count == len(UNPROVABLE) + len(PROVABLE_ROWS)


# ---------------------------------------------------------------- a database of its own


def scratches(server: Server) -> set[str]:
    """Other tests make and drop databases of their own meanwhile."""
    with psycopg.connect(server.admin_dsn) as admin:
        names = admin.execute("SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [PREFIX])
        return {name for (name,) in names.fetchall()}


def test_the_scratch_database_is_a_new_one_and_is_gone_afterwards(server: Server) -> None:
    before = scratches(server)
    with scratch_database(server.admin_dsn, Path(server.home)) as scratch:
        [made] = scratches(server) - before
        with psycopg.connect(scratch.app_dsn) as conn:
            assert conn.info.dbname == made
    assert scratches(server) == before


def test_without_the_right_to_make_databases_nothing_is_tampered_with(server: Server, tmp_path: Path) -> None:
    with server.fresh_database() as database:
        before = scratches(server)
        with (
            pytest.raises(ScratchRefused, match="real books are never tampered with"),
            scratch_database(database.app_dsn, Path(server.home)),
        ):
            pytest.fail("a database was made")
        assert scratches(server) == before


def test_the_command_fails_when_something_was_missed(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    missed = TamperTest(True, (run.Count("hold", "lost", 1, 0),), ("lost hold of 1, x",), ())
    results = [missed, dataclasses.replace(missed, missed=())]

    async def one(*_: object) -> TamperTest:
        return results.pop(0)

    monkeypatch.setattr("khata.cli.audit_command.tamper_test", one)
    monkeypatch.setenv("KHATA_DATABASE_URL", server.admin_dsn)
    monkeypatch.setenv("KHATA_HOME", server.home)
    assert Settings().database_url == server.admin_dsn
    assert CliRunner().invoke(command, ["--tamper-test"]).exit_code == 1
    assert CliRunner().invoke(command, ["--tamper-test", "--json"]).exit_code == 0
