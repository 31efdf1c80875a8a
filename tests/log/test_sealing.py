"""The worker's job, keys that rotate, and ``khata log``."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from click.testing import CliRunner
from psycopg import AsyncConnection

from api.secrets import ApiSecrets
from khata.cli.log_command import command
from khata.jobs import job_app
from khata.sealing import Sealer
from ledger.books import create_book, open_accounts
from ledger.log import keys, merkle, proofs
from ledger.log.checkpoint import Checkpoint
from ledger.log.keys import LogKeyUnusable, endorsement_text
from ledger.log.note import Note, SignatureInvalid, Verifier, opened
from ledger.log.seal import books_to_seal
from tests.api.conftest import Clock, gateway_on
from tests.ledger.conftest import ACCOUNTS
from tests.ledger.words import NOW, WALLET, Book, fund
from tests.server import Server

SECRETS = ApiSecrets.derive(bytes(32))
SEALER = Sealer("khata.test", SECRETS)


async def sealed(book: Book, now: Any = NOW) -> Checkpoint:
    found = await SEALER.seal(book.conn, book.book_id, now=now)
    assert found is not None
    await book.conn.commit()
    return found.checkpoint


async def note_of(book: Book, size: int) -> Note:
    row = await proofs.checkpoint_covering(book.conn, book.book_id, size)
    assert row is not None
    return Note.parse(row.note)


async def test_the_first_pass_begins_the_log_under_its_own_name(book: Book) -> None:
    made = await sealed(book)
    [key] = await keys.load_keys(book.conn, book.book_id)
    assert key.verifier.name == made.origin == "khata.test/main"
    assert (key.signs_from, key.signs_until, key.endorsement) == (NOW, None, None)
    assert (await note_of(book, made.size)).signed_by([key.verifier]) == (key.verifier,)
    # and keeps it, whatever the setting says later
    await book.ok(fund(WALLET, 5))
    other = await Sealer("renamed.test", SECRETS).seal(book.conn, book.book_id, now=NOW)
    assert other is not None
    assert other.checkpoint.origin == made.origin


async def test_a_log_that_a_host_with_a_fast_clock_began_is_sealed_by_the_others(book: Book) -> None:
    await SEALER.keys(book.conn, book.book_id, now=NOW + timedelta(hours=1))
    made = await sealed(book, NOW)
    row = await proofs.checkpoint_covering(book.conn, book.book_id, made.size)
    assert row is not None
    assert row.sealed_at == NOW + timedelta(hours=1)


async def test_old_and_new_key_both_sign_while_they_overlap(book: Book) -> None:
    await sealed(book)
    new = await SEALER.rotate(
        book.conn, book.book_id, overlap=timedelta(days=7), now=NOW + timedelta(hours=1)
    )
    await book.conn.commit()
    old_key, new_key = await keys.load_keys(book.conn, book.book_id)
    assert new_key.verifier == new
    assert (old_key.signs_until, new_key.signs_until) == (new_key.signs_from + timedelta(days=7), None)
    assert new_key.endorsement is not None
    endorsed = opened(new_key.endorsement, [old_key.verifier])
    assert (
        endorsed
        == endorsement_text("khata.test/main", new.vkey)
        == f"khata log key\nkhata.test/main\n{new.vkey}\n"
    )
    both = (old_key.verifier, new)
    for after, signers in (
        (timedelta(hours=1), both),
        (timedelta(days=6), both),
        (timedelta(days=8), both[1:]),
    ):
        await book.ok(fund(WALLET, 5))
        made = await sealed(book, NOW + after)
        assert (await note_of(book, made.size)).signed_by(both) == signers


async def test_in_a_quiet_book_either_key_opens_the_last_checkpoint(book: Book) -> None:
    made = await sealed(book)
    new = await SEALER.rotate(book.conn, book.book_id, overlap=timedelta(days=7), now=NOW)
    old_key, _ = await keys.load_keys(book.conn, book.book_id)
    last = await proofs.last_checkpoint(book.conn, book.book_id)
    assert last is not None
    note = await proofs.cosigned(book.conn, book.book_id, last)
    for known in (old_key.verifier, new):
        assert Checkpoint.opened(note, [known]) == made


async def test_a_key_does_not_sign_at_a_time_that_is_sealed_already(book: Book) -> None:
    made = await sealed(book, NOW + timedelta(hours=5))  # another host's clock
    new = await SEALER.rotate(book.conn, book.book_id, overlap=timedelta(), now=NOW)
    await book.ok(fund(WALLET, 5))
    later = await sealed(book, NOW + timedelta(hours=6))
    first = (await keys.load_keys(book.conn, book.book_id))[0].verifier
    assert (await note_of(book, made.size)).signed_by([first, new]) == (first,)
    assert (await note_of(book, later.size)).signed_by([first, new]) == (new,)


async def test_a_private_key_stays_shut_under_another_master_secret(book: Book) -> None:
    await sealed(book)
    await book.ok(fund(WALLET, 5))
    other = Sealer("khata.test", ApiSecrets.derive(b"x" * 32))
    with pytest.raises(LogKeyUnusable):
        await other.seal(book.conn, book.book_id, now=NOW)
    await book.conn.rollback()
    cursor = await book.conn.execute("SELECT sealed_private FROM ledger.log_key")
    [(kept,)] = await cursor.fetchall()
    [key] = await keys.load_keys(book.conn, book.book_id)
    private = SECRETS.open(bytes(kept), key.verifier.vkey)
    assert private not in bytes(kept)
    assert "private" not in repr(await keys.open_keys(book.conn, book.book_id, SECRETS, now=NOW))


async def test_the_worker_seals_every_book(book: Book) -> None:
    clock = Clock()
    async with gateway_on(book.database, clock) as (gw, _, _):
        second = await create_book(book.conn, name="second", now=clock())
        await open_accounts(book.conn, second, ACCOUNTS, now=clock())
        await book.conn.commit()
        app = job_app(book.database.app_dsn, gw, SECRETS, log_origin="khata.test")
        assert await books_to_seal(book.conn) == [book.book_id, second]
        await app.tasks["seal_books"](timestamp=0)
        assert await books_to_seal(book.conn) == []
        await app.tasks["show_witnesses"](timestamp=0)  # there are none
    for book_id, name in ((book.book_id, "main"), (second, "second")):
        last = await proofs.last_checkpoint(book.conn, book_id)
        [key] = await keys.load_keys(book.conn, book_id)
        assert last is not None
        assert Checkpoint.opened(last.note, [key.verifier]).origin == f"khata.test/{name}"
        with pytest.raises(SignatureInvalid):
            opened(last.note, [Verifier(key.verifier.name, bytes(32))])


# ---------------------------------------------------------------- khata log


def test_the_log_at_the_command_line(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with server.fresh_database() as database:
        monkeypatch.setenv("KHATA_DATABASE_URL", server.admin_dsn)
        monkeypatch.setenv("KHATA_DATABASE_NAME", database.app_dsn.rsplit("/", 1)[1].split("?")[0])
        monkeypatch.setenv("KHATA_HOME", server.home)

        def run(*words: str) -> Any:
            done = CliRunner().invoke(command, words)
            assert done.exit_code == 0, (words, done.output, done.exception)
            return json.loads(done.stdout) if "--json" in words else done.stdout

        missing = CliRunner().invoke(command, ["seal"])
        assert missing.exit_code != 0
        journal = make_book(database.app_dsn)
        [made] = run("seal", "--json")
        assert (made["origin"], made["size"]) == ("khata.local/main", 11)
        assert "nothing to seal" in run("seal")
        note = run("checkpoint")
        [key] = run("keys", "--json")
        assert Checkpoint.opened(note, [Verifier.parse(key["vkey"])]).root.hex() == made["root"]
        kept = run("checkpoint", "--json")
        assert (kept["note"], kept["signed_by"]) == (note, ["khata.local/main"])
        proof = run("prove", "--journal", journal, "--json")
        hashes = [bytes.fromhex(each) for each in proof["proof"]]
        assert merkle.includes(bytes.fromhex(proof["leaf"]), 10, 11, hashes, bytes.fromhex(made["root"]))
        proof = run("prove", "--from", "7", "--json")
        assert (proof["kind"], proof["size"], proof["root"]) == ("consistency", 11, made["root"])
        assert "leaf 3 in the tree of 9" in run("prove", "--index", "3", "--size", "9")
        new = run("rotate", "--overlap-days", "3", "--json")["vkey"]
        assert [k["vkey"] for k in run("keys", "--json")] == [key["vkey"], new]
        assert run("keys")
        for wrong in (
            ["prove"],
            ["prove", "--index", "11"],
            ["checkpoint", "--size", "12"],
            ["seal", "--book", "x"],
        ):
            assert CliRunner().invoke(command, wrong).exit_code != 0, wrong


def make_book(dsn: str) -> str:
    """Book ``main`` with ten accounts and one journal: its id."""
    import asyncio

    async def make() -> str:
        async with await AsyncConnection.connect(dsn) as conn:
            book_id = await create_book(conn, name="main", now=NOW)
            await open_accounts(conn, book_id, ACCOUNTS, now=NOW)
            entry = fund(WALLET, 5)
            await Book(conn, book_id, None).ok(entry)  # pyright: ignore[reportArgumentType]
            return str(entry.id)

    return asyncio.run(make())
