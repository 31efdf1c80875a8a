"""The auditor's commands as he types them: clients, the access log, following a book."""

from __future__ import annotations

import getpass
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from api.policy import AUDITOR_SCOPES
from tests.khata.test_cli import JOURNAL
from tests.server import Server, drop_database

Khata = Callable[..., str]


@pytest.fixture(scope="module")
def khata(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Khata]:
    """Runs ``khata ARGUMENTS`` and returns what it printed."""
    name = f"khata_cli_{secrets.token_hex(4)}"
    own = {"KHATA_DATABASE_URL": server.admin_dsn, "KHATA_DATABASE_NAME": name, "KHATA_HOME": server.home}
    place: Path = tmp_path_factory.mktemp("access")

    def run(*arguments: str, stdin: str = "") -> str:
        done = subprocess.run(
            [sys.executable, "-m", "khata", *arguments],
            input=stdin,
            env={**os.environ, **own},
            cwd=place,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("books", "open", "main")
    for path in ("Assets:Bank:meridian:Escrow", "Equity:Opening"):
        run("books", "open-account", path, "INR")
    run("post", "-", stdin=json.dumps(JOURNAL) + "\n")
    yield run
    drop_database(server.admin_dsn, name)


def test_an_auditors_client_is_made_shown_and_disabled(khata: Khata) -> None:
    made = json.loads(khata("clients", "create", "Rao & Co", "--role", "auditor", "--json"))
    assert set(made["scopes"].split()) == AUDITOR_SCOPES
    (listed,) = json.loads(khata("clients", "list", "--json"))
    assert (listed["client_id"], listed["name"], listed["status"]) == (
        made["client_id"],
        "Rao & Co",
        "active",
    )
    assert "disabled" in khata("clients", "disable", made["client_id"])
    assert "disabled" in khata("clients", "list")
    assert made["client_secret"] not in khata("access", "--json")


def test_who_reads_a_book_with_a_command_stands_in_the_access_log(khata: Khata) -> None:
    khata("books", "balances", "--prefix", "Assets", "--json")
    khata("sql", "SELECT 'sesame'")
    log = json.loads(khata("access", "--limit", "3", "--json"))
    assert [(entry["route"], entry["method"], entry["outcome"]) for entry in log] == [
        ("khata access", "CLI", "admitted"),
        ("khata sql", "CLI", "admitted"),
        ("khata books balances", "CLI", "admitted"),
    ]
    assert {entry["person"] for entry in log} == {getpass.getuser()}
    assert (log[2]["book"], log[2]["asked"], log[1]["subject"]) == ("main", ["as_json", "prefix"], "audit")
    assert "sesame" not in json.dumps(log)
    assert "khata books balances" in khata("access")
    assert "khata" not in khata("access", "--denied")


def test_tail_prints_one_object_a_line_from_a_number_on(khata: Khata) -> None:
    (line,) = khata("books", "tail", "--from", "1", "--limit", "1", "--json").splitlines()
    journal = json.loads(line)
    assert (journal["seq"], journal["kind"], len(journal["leaf_hash"])) == (1, "opening", 64)
    assert journal["postings"][0]["amount"] == 500000
    assert "Assets:Bank:meridian:Escrow ← Equity:Opening" in khata(
        "books", "tail", "--from", "0", "--limit", "1"
    )
