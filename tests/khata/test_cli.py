"""The ``khata`` command as a person types it, on a database of its own."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from khata.cli import COMMANDS, cli
from tests.server import Server, drop_database

JOURNAL = {
    "kind": "opening",
    "source": "manual/2026-1/posted",
    "description": "Opening balance",
    "postings": [
        {
            "debit": "Assets:Bank:meridian:Escrow",
            "credit": "Equity:Opening",
            "amount": 500000,
            "currency": "INR",
        }
    ],
}
TAMPER = (
    "SET session_replication_role = replica;"
    " UPDATE ledger.posting SET amount = amount + 1 WHERE journal_seq = 1 AND line = 1"
)

Khata = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def khata(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Khata]:
    """Runs ``khata ARGUMENTS``; ``stdin`` is what is typed into it, ``fails`` says that it must exit with 1."""
    name = f"khata_cli_{secrets.token_hex(4)}"
    environment = {
        **os.environ,
        "KHATA_DATABASE_URL": server.admin_dsn,
        "KHATA_DATABASE_NAME": name,
        "KHATA_HOME": server.home,
    }
    place = tmp_path_factory.mktemp("cli")

    def run(*arguments: str, stdin: str = "", fails: bool = False) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "khata", *arguments]
        done = subprocess.run(
            command, input=stdin, env=environment, cwd=place, capture_output=True, text=True, timeout=60
        )
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode == (1 if fails else 0), done.stdout + done.stderr
        return done

    run("books", "open", "main")
    for path, currency in (("Assets:Bank:meridian:Escrow", "INR"), ("Equity:Opening", "INR")):
        run("books", "open-account", path, currency)
    run("post", "-", stdin=json.dumps(JOURNAL) + "\n")
    yield run
    drop_database(server.admin_dsn, name)


def test_a_second_run_of_the_same_file_changes_nothing(khata: Khata) -> None:
    again = khata("post", "-", "--json", stdin=json.dumps(JOURNAL))
    assert [result["replayed"] for result in json.loads(again.stdout)] == [True]


def test_a_refused_line_is_named_and_the_others_stand(khata: Khata) -> None:
    stranger = JOURNAL | {"source": "manual/2026-2/posted"}
    stranger["postings"] = [JOURNAL["postings"][0] | {"credit": "Equity:Nobody"}]  # type: ignore[index, operator]
    refused = khata("post", "-", stdin=f"{json.dumps(stranger)}\n{json.dumps(JOURNAL)}\n", fails=True)
    assert "0 posted, 1 replayed, 1 refused" in refused.stdout
    assert "account_unknown" in refused.stderr


@pytest.mark.parametrize(
    "line",
    ["{", '{"kind": "x"}', json.dumps(JOURNAL | {"postings": []}), json.dumps(JOURNAL | {"kind": "X"})],
)
def test_a_line_that_is_no_journal_is_one_clear_error(khata: Khata, line: str) -> None:
    assert "invalid_entry" in khata("post", "-", stdin=line, fails=True).stderr


def test_balances_statement_journals_and_trial_balance_agree(khata: Khata) -> None:
    [escrow] = json.loads(khata("books", "balances", "--json", "--prefix", "Assets").stdout)
    assert (escrow["posted"], escrow["available"], escrow["type"]) == (500000, 500000, "asset")
    statement = json.loads(khata("books", "statement", "Equity:Opening", "INR", "--json").stdout)
    assert (statement["opening"], statement["closing"], len(statement["lines"])) == (0, 500000, 1)
    [journal] = json.loads(khata("books", "journals", "--json").stdout)
    assert journal["source"] == "manual/2026-1/posted"
    rows = json.loads(khata("books", "trial-balance", "--json").stdout)
    assert sum(row["debit"] - row["credit"] for row in rows) == 0
    assert "5,000.00" in khata("books", "balances").stdout
    assert "5,000.00" in khata("books", "trial-balance").stdout
    assert "Equity:Opening" in khata("books", "journals").stdout


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (("--kind", "opening", "--account", "Equity:Opening", "--amount", "500000INR"), 1),
        (
            (
                "--source-type",
                "manual",
                "--recorded-from",
                "2026-01-01T00:00:00Z",
                "--effective-to",
                "2999-01-01",
            ),
            1,
        ),
        (("--metadata", "order_id=17"), 0),
        (("--owner", "somebody"), 0),
    ],
)
def test_journals_are_found_by_what_they_say(khata: Khata, asked: tuple[str, ...], found: int) -> None:
    assert len(json.loads(khata("books", "journals", "--json", *asked).stdout)) == found


def test_balances_have_a_past(khata: Khata) -> None:
    past = ("books", "balances", "--json", "--prefix", "Assets")
    for point, posted in (
        (("--known-as-of", "0"), 0),
        (("--known-as-of", "1"), 500000),
        (("--known-as-of", "2999-01-01T00:00:00Z", "--effective-as-of", "2999-01-01"), 500000),
        (("--effective-as-of", "2001-01-01"), 0),
    ):
        [escrow] = json.loads(khata(*past, *point).stdout)
        assert (escrow["posted"], "floor" in escrow) == (posted, False)
    assert "not_recorded" in khata(*past, "--known-as-of", "99", fails=True).stderr
    assert "5,000.00" in khata("books", "balances", "--known-as-of", "1").stdout


def test_an_export_appears_whole_under_its_name(khata: Khata, tmp_path: Path) -> None:
    out = tmp_path / "journal.jsonl"
    khata("export", "--out", str(out))
    assert json.loads(out.read_text())["seq"] == 1
    assert out.read_text() == khata("export").stdout
    assert list(tmp_path.iterdir()) == [out]
    assert "Equity:Opening" in khata("export", "--format", "csv").stdout


def test_the_audit_passes_and_names_the_row_that_a_superuser_changed(khata: Khata) -> None:
    assert "I2.lines" in khata("audit").stdout
    khata("sql", "--role", "admin", TAMPER)
    named = khata("audit", fails=True).stdout
    assert "journal_seq=1, line=1" in named
    khata("sql", "--role", "admin", TAMPER.replace("+", "-"))
    assert all(
        not r["found"] for audit in json.loads(khata("audit", "--json").stdout) for r in audit["results"]
    )


def test_roles_may_do_what_they_are_for_and_nothing_else(khata: Khata) -> None:
    assert "42501" in khata("sql", "--role", "app", "UPDATE ledger.posting SET amount = 1", fails=True).stderr
    assert "42501" in khata("sql", "DELETE FROM ledger.journal", fails=True).stderr
    assert "500000" in khata("sql", "SELECT amount FROM ledger.posting").stdout
    assert "KH010" in khata("sql", "--role", "owner", "DELETE FROM ledger.journal", fails=True).stderr


def test_a_settlement_file_that_is_none_is_refused_with_line_and_field(khata: Khata, tmp_path: Path) -> None:
    file = tmp_path / "file.txt"
    file.write_text("H|1|meridian|rubbish\n")
    refused = khata("import", str(file), fails=True).stderr
    assert "settlement_refused" in refused
    assert "line 1" in refused


def test_a_book_that_is_not_there_is_one_clear_error(khata: Khata) -> None:
    assert "book_missing" in khata("books", "balances", "--book", "nobody", fails=True).stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_teaches_with_its_help(name: str) -> None:
    answer = CliRunner().invoke(cli, [name, "--help"])
    assert answer.exit_code == 0
    assert "usage" in answer.output.lower()
    assert len(answer.output.splitlines()) > 8


def test_the_first_help_names_every_command_and_keeps_paths_as_they_are(khata: Khata) -> None:
    top = khata("--help").stdout
    assert all(name in top for name in COMMANDS)
    assert "Assets:Bank:meridian:Escrow" in khata("statement", "--help").stdout
    assert "magic cards" in khata("simulate", "--help").stdout


def test_the_transition_tables_are_printed_three_ways(khata: Khata) -> None:
    assert "sending -> unknown: unanswered" in khata("states").stdout
    assert "stateDiagram-v2" in khata("states", "--mermaid").stdout
    assert {"operation", "attempt", "payment"} == set(json.loads(khata("states", "--json").stdout))
