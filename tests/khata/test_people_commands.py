"""``khata adjust``, ``khata period`` and ``khata acts`` as people type them."""

from __future__ import annotations

import getpass
import json
import secrets
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from click.testing import CliRunner

from khata.cli import cli
from ledger.errors import LedgerError
from tests.server import Server, drop_database

Khata = Callable[..., str]
FEES, WALLET = "Income:Fees:card", "Liabilities:Customer:c1:Wallet"
YESTERDAY = datetime.now(UTC).date() - timedelta(days=1)


@pytest.fixture(scope="module")
def environment(server: Server) -> Iterator[dict[str, str]]:
    name = f"khata_cli_{secrets.token_hex(4)}"
    yield {
        "KHATA_DATABASE_URL": server.admin_dsn,
        "KHATA_DATABASE_NAME": name,
        "KHATA_HOME": server.home,
    }
    drop_database(server.admin_dsn, name)


@pytest.fixture
def khata(environment: dict[str, str]) -> Khata:
    """Runs ``khata ARGUMENTS`` in this process on a book of its own; ``refused``: the code of the error to come."""
    book = f"book-{secrets.token_hex(4)}"

    def run(*arguments: str, refused: str | None = None, typed: str = "", exit_code: int = 0) -> str:
        done = CliRunner(env={**environment, "KHATA_BOOK": book}).invoke(cli, arguments, input=typed)
        if refused is None:
            assert done.exit_code == exit_code, done.output + repr(done.exception)
        else:
            assert isinstance(done.exception, LedgerError), done.output + repr(done.exception)
            assert done.exception.code == refused
        return done.output

    for path in (FEES, WALLET):
        run("books", "open-account", path, "INR")
    return run


def ask(khata: Khata, *arguments: str) -> Any:
    return json.loads(khata(*arguments, "--json"))


def test_an_adjustment_from_proposal_to_journal(khata: Khata) -> None:
    posting = ("--posting", FEES, WALLET, "2500INR")
    said = ("--reason", "fee [twice]", "--metadata", "order=7", "--description", "fee back")
    proposed = ask(khata, "adjust", "propose", *posting, *said)
    assert (proposed["status"], proposed["proposer"]) == ("open", getpass.getuser())
    id_ = proposed["id"]
    listed = khata("adjust", "list")
    assert id_ in listed
    assert "fee [twice]" in listed
    assert "25.00 INR" in listed
    khata("adjust", "approve", id_, "--reason", "mine", refused="same_person")
    told = khata("adjust", "approve", id_, "--reason", "seen it", "--as", "ben")
    assert "is approved" in told
    assert "journal 1" in told
    khata("adjust", "reject", id_, "--reason", "late", "--as", "chen", refused="proposal_decided")
    assert ask(khata, "adjust", "list") == []
    (decided,) = ask(khata, "adjust", "list", "--all")
    assert (decided["journal_seq"], decided["verdict"]["person"]) == (1, "ben")
    second = ask(khata, "adjust", "propose", *posting, "--reason", "again", "--as", "asha")["id"]
    assert "is rejected" in khata("adjust", "reject", second, "--reason", "no", "--as", "ben")
    khata("adjust", "reject", str(uuid4()), "--reason", "no", "--as", "ben", refused="proposal_unknown")
    acts = ask(khata, "acts")
    assert [(a["act"], a["action"], a["person"]) for a in acts[:2]] == [
        (4, "adjustment_rejected", "ben"),
        (3, "adjustment_proposed", "asha"),
    ]
    assert "adjustment_approved" in khata("acts", "--person", "ben", "--before", "4")


def test_a_period_from_close_to_reopening(khata: Khata) -> None:
    day = str(YESTERDAY)
    assert f"closed through {day}" in khata("period", "close", day, "--reason", "month end")
    khata("period", "close", day, "--reason", "again", refused="period_already_closed")
    khata("period", "close", "2999-01-01", "--reason", "early", refused="period_not_over")
    posting = ("--posting", FEES, WALLET, "1INR", "--effective-at", f"{day}T10:00:00Z")
    stuck = ask(khata, "adjust", "propose", *posting, "--reason", "late", "--as", "asha")["id"]
    moved = ask(khata, "adjust", "propose", *posting, "--first-open-day", "--reason", "late", "--as", "asha")[
        "id"
    ]
    khata("adjust", "approve", stuck, "--reason", "seen", "--as", "ben", refused="period_closed")
    assert "is approved" in khata("adjust", "approve", moved, "--reason", "seen", "--as", "ben")
    late: dict[str, Any] = {"source": "test/1/done", "kind": "transfer", "effective_at": f"{day}T10:00:00Z"}
    late["postings"] = [{"debit": FEES, "credit": WALLET, "amount": 1, "currency": "INR"}]
    assert "1 refused" in khata("post", "-", typed=json.dumps(late), exit_code=1)
    late["on_closed"] = "first_open_day"
    assert "1 posted" in khata("post", "-", typed=json.dumps(late))
    asked = ask(khata, "period", "propose-reopening", "--reason", "late invoice", "--as", "asha")["id"]
    assert asked in khata("period", "list")
    khata("period", "approve", asked, "--reason", "mine", "--as", "asha", refused="same_person")
    assert "is approved" in khata("period", "approve", asked, "--reason", "seen", "--as", "ben")
    told = ask(khata, "period", "list")
    assert [(f["action"], f["through"], f["person"]) for f in told["facts"]] == [
        ("reopen", None, "ben"),
        ("close", day, getpass.getuser()),
    ]
    assert told["proposed"] == []


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (("adjust", "approve", "17", "--reason", "x"), "is not the id of a proposal"),
        (("adjust", "propose", "--reason", "x", "--posting", FEES, WALLET, "25"), "is not minor units"),
        (("period", "close", "2026-10-31"), "--reason"),
        (("period", "close", "October", "--reason", "x"), "%Y-%m-%d"),
    ],
)
def test_what_is_typed_wrong_is_explained(typed: tuple[str, ...], told: str) -> None:
    done = CliRunner().invoke(cli, typed)
    assert done.exit_code == 2
    assert told in " ".join(done.output.replace("│", " ").split())
