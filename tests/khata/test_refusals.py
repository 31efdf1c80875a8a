"""What commands refuse, and what they say: a code that is none of Python's, the name that was given, what to do."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from click.testing import CliRunner, Result

from khata.cli import cli
from khata.cli.audit_command import NO_PAYMENTS
from khata.cli.common import explain, typed
from khata.errors import CannotWrite
from khata.whole import telling, whole_directory, whole_file
from ledger.audit.protection import WRONG
from ledger.errors import AccountUnknown
from tests.server import Server, drop_database

Khata = Callable[..., Result]
POSTINGS = [
    {"debit": "Assets:Receivable:meridian", "credit": "Equity:Opening", "amount": 500, "currency": "INR"}
]
NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"


def line(number: int, **changed: object) -> str:
    """As of an operation with a bank, of which there is no payment."""
    source = f"operation/{number}/approved"
    return json.dumps({"kind": "opening", "source": source, "postings": POSTINGS} | changed) + "\n"


@pytest.fixture(scope="module")
def khata(server: Server) -> Iterator[Khata]:
    """Runs ``khata ARGUMENTS`` on one of two databases; the first has a book with two journals."""
    names = {place: f"khata_cli_{secrets.token_hex(4)}" for place in ("here", "there")}

    def run(*arguments: str, at: str = "here", typed: str = "") -> Result:
        given = {"KHATA_DATABASE_URL": server.admin_dsn, "KHATA_DATABASE_NAME": names[at]}
        given |= {"KHATA_HOME": server.home, "KHATA_BOOK": "main"}
        return CliRunner(env=given).invoke(cli, arguments, input=typed)

    for path in ("Assets:Receivable:meridian", "Equity:Opening"):
        assert run("books", "open-account", path, "INR").exit_code == 0
    assert run("post", "-", typed=line(1) + line(2)).exit_code == 0
    yield run
    for name in names.values():
        drop_database(server.admin_dsn, name)


def code(done: Result) -> str | None:
    assert done.exception is not None
    return getattr(typed(done.exception), "code", None)


def test_an_imported_book_passes_the_ledgers_own_audit(khata: Khata, tmp_path: Path) -> None:
    out = tmp_path / "pack.zip"
    assert khata("export", "--out", str(out), "--formats", "none").exit_code == 0
    assert khata("import-pack", str(out), at="there").exit_code == 0
    whole = khata("audit", at="there")
    assert whole.exit_code == 1
    assert "I4-journals" in whole.output
    assert NO_PAYMENTS in " ".join(whole.stderr.split())
    own = khata("audit", "--ledger", at="there")
    assert own.exit_code == 0, own.output
    assert "not run" in own.output
    assert not own.stderr.strip()
    [audit] = json.loads(khata("audit", "--ledger", "--json", at="there").stdout)
    assert all(
        not check["id"].startswith("I4-") for check in (result["check"] for result in audit["results"])
    )
    assert {"I4-journals", "I8-receivable"} <= {check["id"] for check in audit["not_run"]}
    assert khata("audit", "--ledger", "--tamper-test").exit_code == 2


def test_a_name_that_is_no_packs_is_refused(khata: Khata, tmp_path: Path) -> None:
    refused = khata("export", "--out", f"{tmp_path}/a.tar")
    assert refused.exit_code == 2
    assert ".zip.age" in refused.stderr
    assert "--format" in refused.stderr
    assert khata("export", "--out", f"{tmp_path}/x.jsonl").exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["x.jsonl"]
    assert (tmp_path / "x.jsonl").read_bytes() == khata("export").stdout_bytes


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (("--from", "2999-01-01", "--out", "a.zip"), "--from 2999-01-01"),
        (("--from", "2026-03-02", "--to", "2026-03-01"), "--to 2026-03-01"),
        (("--from", "2026-03-02", "--to", "2026-03-01", "--out", "a.zip"), "--to 2026-03-01"),
        (("--after", "900", "--through", "800"), "--through 800"),
        (("--after", "1", "--from", "2026-03-01"), "--after"),
    ],
)
def test_a_range_that_is_none_is_refused_by_the_name_of_its_option(
    khata: Khata, given: tuple[str, ...], named: str
) -> None:
    refused = khata("export", *given)
    assert refused.exit_code == 2
    assert named in refused.stderr


def test_a_place_that_cannot_be_written_to_is_told_by_the_name_that_was_given(
    khata: Khata, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    for out in ("missing/a.zip", "file/a.zip", "full/", "file/", "missing/x.jsonl"):
        refused = khata("export", "--out", f"{tmp_path}/{out}")
        assert code(refused) == "cannot_write", out
        assert str(Path(tmp_path, out)) in str(refused.exception)
        assert ".part" not in str(refused.exception)
    with pytest.raises(CannotWrite, match="may not write in"), telling(tmp_path / "a"):
        raise PermissionError(13, "Permission denied", "/x/.a.part")
    with pytest.raises(CannotWrite, match="the disk is full"), whole_file(tmp_path / "a"):
        raise OSError(28, "No space left on device")
    with pytest.raises(CannotWrite, match="the disk is full"), whole_directory(tmp_path / "a"):
        raise OSError(28, "No space left on device")
    with pytest.raises(ConnectionError), whole_file(tmp_path / "a"):
        raise ConnectionError
    with pytest.raises(CannotWrite, match="it is a directory"), whole_file(tmp_path):
        pytest.fail("begun")
    assert {path.name for path in tmp_path.iterdir()} == {"file", "full"}


def test_a_statement_that_cannot_be_written_is_told_by_its_name(khata: Khata, tmp_path: Path) -> None:
    given = ("statement", "Equity:Opening", "INR", "--format", "csv", "--out")
    assert code(khata(*given, str(tmp_path / "missing" / "a.csv"))) == "cannot_write"


@pytest.mark.parametrize("url", [NOWHERE, "postgresql://nobody@no-such-host.invalid/nothing"])
def test_a_database_that_is_not_there_is_unavailable(url: str, tmp_path: Path) -> None:
    given = {"KHATA_DATABASE_URL": url, "KHATA_HOME": str(tmp_path)}
    refused = CliRunner(env=given).invoke(cli, ["books", "balances"])
    assert code(refused) == "database_unavailable"
    assert refused.exception is not None
    assert "KHATA_DATABASE_URL" in str(typed(refused.exception))


def test_other_errors_of_driver_and_system_have_codes_too(capsys: pytest.CaptureFixture[str]) -> None:
    explain(psycopg.errors.NumericValueOutOfRange("bigint out of range"))
    explain(FileNotFoundError(2, "No such file or directory", "/x"))
    said = capsys.readouterr().err
    assert "database_refused: 22003: bigint out of range" in said
    assert "system_refused: [Errno 2]" in said


def test_a_code_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    explain(AccountUnknown("Nope:x", "INR"))
    assert capsys.readouterr().err == "error account_unknown: account=Nope:x, currency=INR\n"


@pytest.mark.parametrize("name", ["Bad Name", "x" * 41, "9", "main\n"])
def test_a_name_that_is_no_books_is_told_what_one_looks_like(khata: Khata, name: str) -> None:
    for given in (("books", "open", name), ("books", "open-account", "Equity:X", "INR", "--book", name)):
        refused = khata(*given)
        assert code(refused) == "invalid_entry"
        assert "at most 39 lower-case letters, digits and dashes" in str(refused.exception)


def test_a_journal_that_is_not_there_or_not_sealed_is_told_so(khata: Khata) -> None:
    stranger = str(uuid4())
    refused = khata("log", "prove", "--journal", stranger)
    assert code(refused) == "journal_unknown"
    assert stranger in str(refused.exception)
    [result] = json.loads(khata("post", "-", "--json", typed=line(3)).stdout)
    [id_] = result["ids"]
    refused = khata("log", "prove", "--journal", id_)
    assert code(refused) == "not_in_log"
    assert "not sealed yet" in str(refused.exception)
    assert khata("log", "seal").exit_code == 0
    assert khata("log", "prove", "--journal", id_).exit_code == 0


def test_a_line_that_is_no_journal_is_named_and_nothing_of_its_file_is_posted(khata: Khata) -> None:
    for bad in (
        line(5, kind="X"),
        line(5, postings=[]),
        line(5, postings=[POSTINGS[0] | {"amount": -1}]),
        "{\n",
    ):
        refused = khata("post", "-", typed=f"{line(4)}\n{bad}")
        assert code(refused) == "invalid_entry"
        assert str(refused.exception).startswith("line 3: ")
    assert "operation/4/approved" not in khata("export").stdout


def test_a_line_that_the_book_refuses_is_named_by_its_place_in_the_file(khata: Khata) -> None:
    stranger = line(6, postings=[POSTINGS[0] | {"credit": "Equity:Nobody"}])
    refused = khata("post", "-", typed=f"{line(1)}\n{stranger}")
    assert refused.exit_code == 1
    assert "line 3: account_unknown" in refused.stderr
    told = json.loads(khata("post", "-", "--json", typed=f"{line(1)}\n{stranger}").stdout)
    assert [result["line"] for result in told] == [1, 3]


def test_the_page_on_audits_says_of_which_times_the_test_changes_more_than_a_unit() -> None:
    page = (Path(__file__).parents[2] / "docs" / "audit.md").read_text()
    for table, column in WRONG:
        assert f"`{table}.{column}`" in page
