"""``khata books freeze``, ``floor``, ``limit`` and their history as people type them."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator

import pytest
from click.testing import CliRunner, Result

from khata.cli import cli
from khata.cli.common import EXPECTED
from tests.server import Server, drop_database

WALLET = "Liabilities:Customer:c1:Wallet"
Run = Callable[..., Result]


@pytest.fixture(scope="module")
def run(server: Server) -> Iterator[Run]:
    name = f"khata_cli_{secrets.token_hex(4)}"
    environment = {
        "KHATA_DATABASE_URL": server.admin_dsn,
        "KHATA_DATABASE_NAME": name,
        "KHATA_HOME": server.home,
    }

    def khata(*arguments: str) -> Result:
        return CliRunner(env=environment).invoke(cli, ["books", *arguments])

    assert khata("open-account", WALLET, "INR", "--floor", "0").exit_code == 0
    yield khata
    drop_database(server.admin_dsn, name)


def test_an_account_is_frozen_given_a_credit_line_limited_and_told_about(run: Run) -> None:
    steps = [
        ("freeze", WALLET, "INR", "--reason", "court order", "--as", "ada"),
        ("unfreeze", WALLET, "INR", "--reason", "lifted", "--as", "ada"),
        ("floor", "--reason", "credit line", "--as", "bob", WALLET, "INR", "--", "-500"),
        ("limit", WALLET, "INR", "daily", "--side", "debit", "--maximum", "100", "--reason", "KYC", "--as", "bob"),
        ("limit", WALLET, "INR", "daily", "--side", "debit", "--maximum", "0", "--reason", "no", "--as", "b", "--off"),
    ]  # fmt: skip
    for step in steps:
        done = run(*step)
        assert done.exit_code == 0, done.output + repr(done.exception)
    told = json.loads(run("history", WALLET, "INR", "--json").output)
    assert [(f["status"], f["floor"], f["person"], f["reason"]) for f in told["changes"]] == [
        ("open", 0, None, "opened"),
        ("frozen", 0, "ada", "court order"),
        ("open", 0, "ada", "lifted"),
        ("open", -500, "bob", "credit line"),
    ]
    assert [(x["maximum"], x["active"]) for x in told["limits"]] == [(100, True), (0, False)]
    assert told["in_force"] == []
    table = run("history", WALLET, "INR").output
    assert "court order" in table
    assert "sum of debits a day" in table


def test_what_cannot_be_is_refused_with_its_code(run: Run) -> None:
    for arguments, code in (
        (("freeze", "Liabilities:Customer:nobody:Wallet", "INR", "--reason", "x"), "account_unknown"),
        (("floor", WALLET, "INR", "1", "--reason", "x"), "fact_refused"),
        (("close-account", WALLET, "INR", "--reason", " "), "invalid_entry"),
    ):
        done = run(*arguments)
        assert getattr(done.exception, "code", None) == code, done.output
    assert run("floor", WALLET, "INR", "much", "--reason", "x").exit_code == 2


def test_reasons_and_people_are_printed_as_they_were_written(run: Run) -> None:
    path = "Liabilities:Customer:c2:Wallet"
    assert run("open-account", path, "INR").exit_code == 0
    assert run("freeze", path, "INR", "--reason", "[/b] see", "--as", "[/x]").exit_code == 0
    told = run("history", path, "INR")
    assert told.exit_code == 0, repr(told.exception)
    assert "[/b] see" in told.output
    assert "[/x]" in told.output


def test_a_currency_that_iso_does_not_know_is_shown_as_the_book_counts_it(run: Run) -> None:
    assert run("open-account", "Assets:Points", "ZZZ").exit_code == 0
    shown = run("balances", "--prefix", "Assets:Points")
    assert (shown.exit_code, "ZZZ" in shown.output) == (0, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ("open", "Bad Name"),
        ("open", ""),
        ("open-account", WALLET, "USD", "--floor", "99999999999999999999"),
        ("floor", WALLET, "INR", "99999999999999999999", "--reason", "x"),
        ("journals", "--before", "99999999999999999999"),
        ("balances", "--effective-as-of", "0001-01-01"),
        ("balances", "--effective-as-of", "9999-12-31"),
        ("balances", "--known-as-of", "9999-12-31T23:59:59-14:00"),
        ("journals", "--effective-to", "9999-12-31"),
        ("journals", "--recorded-to", "9999-12-31T23:59:59-14:00"),
    ],
)
def test_what_no_book_can_hold_is_refused_or_answered_and_never_breaks(
    run: Run, arguments: tuple[str, ...]
) -> None:
    done = run(*arguments)
    assert done.exit_code in (0, 2) or isinstance(done.exception, EXPECTED), repr(done.exception)


def test_what_a_query_answers_is_printed_as_it_is(run: Run) -> None:
    done = CliRunner(env=run("history", WALLET, "INR").runner.env).invoke(
        cli, ["sql", "SELECT '[/b]' AS \"[/x]\""]
    )
    assert done.exit_code == 0, repr(done.exception)
    assert "[/b]" in done.output
    assert "[/x]" in done.output
