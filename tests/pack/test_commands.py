"""``khata export`` and ``khata import-pack`` as people type them."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import psycopg
import pytest
from click.testing import CliRunner, Result

from api.secrets import ApiSecrets
from khata import packing
from khata.bootstrap import ROLES, database_urls
from khata.cli import cli
from khata.database import Database
from khata.sealing import Sealer
from khata.secret_file import secrets_for
from ledger.books import create_book
from tests.ledger.random_books import RandomBook
from tests.server import Server, drop_database

Khata = Callable[..., Result]
BOOK = "shop"


@pytest.fixture(scope="module")
def khata(server: Server) -> Iterator[Khata]:
    """Runs ``khata ARGUMENTS`` on one of two databases; the first has a random book that was never sealed."""
    names = {place: f"khata_cli_{secrets.token_hex(4)}" for place in ("here", "there")}

    def run(*arguments: str, at: str = "here", typed: str = "") -> Result:
        given = {"KHATA_DATABASE_URL": server.admin_dsn, "KHATA_DATABASE_NAME": names[at]}
        given |= {"KHATA_HOME": server.home, "KHATA_BOOK": BOOK}
        return CliRunner(env=given).invoke(cli, arguments, input=typed)

    for at in names:
        done = run("migrate", at=at)
        assert done.exit_code == 0, done.output

    async def fill() -> None:
        urls = database_urls(server.admin_dsn, secrets_for(Path(server.home), ROLES), names["here"])
        async with await psycopg.AsyncConnection.connect(urls.app_dsn) as conn:
            book = RandomBook(conn, Random(5), now=datetime(2026, 3, 1, 9, tzinfo=UTC))
            await book.open(BOOK)
            await book.batch(20)

    asyncio.run(fill())
    yield run
    for name in names.values():
        drop_database(server.admin_dsn, name)


def code(done: Result) -> str | None:
    return getattr(done.exception, "code", None)


def test_a_book_goes_out_as_a_pack_and_comes_in_elsewhere(khata: Khata, tmp_path: Path) -> None:
    out = tmp_path / "pack.zip"
    done = khata("export", "--out", str(out), "--formats", "csv,hledger", "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["root"] in khata("export", "--out", str(out), "--formats", "none").output.replace("\n", "")
    done = khata("import-pack", str(out), "--json", at="there")
    assert done.exit_code == 0, done.output + repr(done.exception)
    came = json.loads(done.stdout)
    assert (came["journals"], came["size"], came["root"]) == (
        *(said["journals"], said["to_index"], said["root"]),
    )
    assert "nothing changed" in khata("import-pack", str(out), at="there").output
    assert [path.name for path in tmp_path.iterdir()] == ["pack.zip"]


def test_a_directory_and_the_days_of_a_period(khata: Khata, tmp_path: Path) -> None:
    done = khata("export", "--from", "2026-03-01", "--to", "2026-03-02", "--out", f"{tmp_path}/march/")
    assert done.exit_code == 0, done.output + repr(done.exception)
    manifest = json.loads((tmp_path / "march" / "manifest.json").read_bytes())
    assert (manifest["from"], manifest["to"], manifest["book"]) == ("2026-03-01", "2026-03-02", BOOK)
    again = khata("export", "--out", f"{tmp_path}/march/")
    assert code(again) == "cannot_write"


def test_an_encrypted_pack_opens_with_its_passphrase_only(khata: Khata, tmp_path: Path) -> None:
    out, word, other = (tmp_path / name for name in ("pack.zip.age", "word", "other"))
    word.write_text("correct horse\n")
    other.write_text("battery staple\n")
    given = ("--out", str(out), "--formats", "none", "--encrypt")
    assert khata("export", *given, "--passphrase-file", str(word)).exit_code == 0
    assert out.read_bytes().startswith(b"age-encryption.org/v1\n")
    refused = khata("import-pack", str(out), "--passphrase-file", str(other), at="there")
    assert code(refused) == "not_decrypted"
    assert khata("import-pack", str(out), at="there", typed="correct horse\n").exit_code == 0
    typed = "one\ntwo\ncorrect horse\ncorrect horse\n"  # asked for again where the two differ
    assert khata("export", *given, typed=typed).exit_code == 0
    assert khata("import-pack", str(out), "--passphrase-file", str(word), at="there").exit_code == 0


def test_a_pack_that_does_not_verify_makes_no_book(khata: Khata, tmp_path: Path) -> None:
    out = tmp_path / "pack.zip"
    assert khata("export", "--out", str(out), "--formats", "none").exit_code == 0
    data = bytearray(out.read_bytes())
    data[len(data) // 2] ^= 1
    out.write_bytes(data)
    assert code(khata("import-pack", str(out), at="there")) == "pack_unproved"


def test_one_form_goes_to_standard_output_or_to_a_file_or_to_a_directory(
    khata: Khata, tmp_path: Path
) -> None:
    lines = khata("export").stdout_bytes
    assert lines.count(b"\n") == len(lines.splitlines()) > 10
    assert khata("export", "--format", "jsonl", "--out", str(tmp_path / "x.jsonl")).exit_code == 0
    assert (tmp_path / "x.jsonl").read_bytes() == lines
    assert khata("export", "--format", "ads", "--out", f"{tmp_path}/ads/").exit_code == 0
    assert {path.name for path in (tmp_path / "ads").iterdir()} > {"GL_Detail.txt"}
    day = khata("export", "--from", "2026-03-02").stdout_bytes
    assert day in (b"", lines[-len(day) :])


@pytest.mark.parametrize(
    "given",
    [
        ("--out", "x.zip", "--encrypt"),
        ("--out", "x.zip.age"),
        ("--out", "x.zip", "--owner", "shop"),
        ("--out", "x.zip", "--formats", "csv,docx"),
        ("--format", "csv", "--formats", "none"),
        ("--format", "ads", "--out", "x"),
        ("--out", "x.zip", "--from", "yesterday"),
    ],
)
def test_what_does_not_go_together_is_a_usage_error(khata: Khata, given: tuple[str, ...]) -> None:
    assert khata("export", *given).exit_code == 2


def test_nothing_half_written_is_left_behind(
    khata: Khata, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if somebody had pressed Ctrl-C."""
    out = tmp_path / "pack.zip"
    out.write_text("the one from last time")

    async def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for target in (str(out), f"{tmp_path}/pack/"):
        with monkeypatch.context() as patched:
            patched.setattr("ledger.export.pack.write.state.check_balances", stopped)
            assert khata("export", "--out", target, "--formats", "none").exit_code != 0
    assert [path.name for path in tmp_path.iterdir()] == ["pack.zip"]
    assert out.read_text() == "the one from last time"


async def test_an_export_does_not_wait_for_ever_while_somebody_else_seals(
    shared_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "PATIENCE_S", 1)
    now, sealer = datetime(2026, 3, 1, tzinfo=UTC), Sealer("khata.test", ApiSecrets.derive(bytes(32)))
    async with await psycopg.AsyncConnection.connect(shared_database.app_dsn) as other:
        book_id = await create_book(other, name=f"stuck-{secrets.token_hex(4)}", now=now)
        await other.commit()
        await other.execute("SELECT pg_advisory_xact_lock(hashtext('ledger.seal'), %s)", [book_id])
        with pytest.raises(packing.SealingStuck):
            await packing.seal_all(shared_database, sealer, book_id, now=now)
