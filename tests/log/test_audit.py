"""I10.root: what was done to the rows or to the log shows against the log, and the first culprit is named."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from psycopg import AsyncConnection

from khata.database import Database
from khata.tamper.schema import defenceless
from khata.tamper.sealed import rotate_sample, seal_sample
from ledger.audit.ledger import ROOT
from ledger.audit.log import check_log
from ledger.audit.report import Finding, Tally
from ledger.books import create_book
from tests.ledger.random_books import random_book
from tests.ledger.words import NOW, Book
from tests.log.conftest import seal_all
from tests.log.test_seal import WIDE


@dataclass(frozen=True)
class Sealed:
    database: Database
    book_id: int


@pytest.fixture(scope="module")
def sealed(shared_database: Database) -> Sealed:
    """Some 500 leaves: a full tile and a part; sealed in three passes over days, under two keys."""

    async def build() -> int:
        async with await AsyncConnection.connect(shared_database.app_dsn) as conn:
            book = await random_book(conn, 5, batches=8)
            await seal_sample(conn, book.book_id, book.now)
            for _ in range(10):
                await book.batch(25)
            await rotate_sample(conn, book.book_id, book.now)
            await seal_sample(conn, book.book_id, book.now)
            book.now += timedelta(days=1)
            await book.batch(10)
            await seal_sample(conn, book.book_id, book.now)
            await book.batch(10)  # not sealed
            return book.book_id

    return Sealed(shared_database, asyncio.run(build()))


async def examined(conn: AsyncConnection[Any], book_id: int) -> Tally:
    tally = Tally(ROOT)
    await check_log(conn, book_id, tally)
    return tally


async def found_after(sealed: Sealed, *statements: str) -> list[Finding]:
    """What the check finds once these have run; rolled back."""
    async with await AsyncConnection.connect(sealed.database.owner_dsn) as conn, defenceless(conn):
        for statement in statements:
            cursor = await conn.execute(statement.format(book=sealed.book_id).encode())
            assert cursor.rowcount, statement
        return (await examined(conn, sealed.book_id)).findings


async def test_a_good_log_passes_as_the_auditors_role(sealed: Sealed) -> None:
    async with await AsyncConnection.connect(sealed.database.audit_dsn) as conn:
        tally = await examined(conn, sealed.book_id)
        assert (tally.findings, tally.found) == ([], 0)
        cursor = await conn.execute(
            "SELECT (SELECT count(*) FROM ledger.log_tile WHERE book_id = %(b)s),"
            " (SELECT count(*) FROM ledger.log_key WHERE book_id = %(b)s),"
            " (SELECT count(*) FROM ledger.checkpoint WHERE book_id = %(b)s) >= 3",
            {"b": sealed.book_id},
        )
        assert await cursor.fetchone() == (1, 2, True)


async def test_a_journal_changed_with_its_leaf_hash_is_named(sealed: Sealed) -> None:
    findings = await found_after(
        sealed,
        "UPDATE ledger.journal SET leaf_hash = sha256('forged') WHERE book_id = {book} AND seq = 40",
    )
    [journal] = [f for f in findings if f.table == "journal"]
    assert (journal.key, journal.field) == ({"book_id": sealed.book_id, "seq": 40}, "leaf_hash")
    [checkpoint] = [f for f in findings if f.table == "checkpoint"]  # the first; those after it follow
    assert (checkpoint.field, checkpoint.about[:8]) == ("root", "leaves 0")


async def test_an_act_and_an_account_are_named_too(sealed: Sealed) -> None:
    findings = await found_after(
        sealed, "UPDATE ledger.act SET leaf_hash = sha256('forged') WHERE book_id = {book} AND act = 2"
    )
    assert {"act": 2, "book_id": sealed.book_id} in [dict(f.key) for f in findings if f.table == "act"]
    findings = await found_after(
        sealed, "UPDATE ledger.account SET owner = 'thief' WHERE book_id = {book} AND account_id = 5"
    )
    assert {(f.table, f.key["account_id"]) for f in findings} == {("account", 5), ("account_fact", 5)}
    findings = await found_after(
        sealed,
        "UPDATE ledger.account_leaf SET leaf_hash = sha256('x') WHERE book_id = {book} AND account_id = 5",
    )
    assert {"account_leaf", "checkpoint"} == {f.table for f in findings}


async def test_two_journals_that_change_places_are_found(sealed: Sealed) -> None:
    findings = await found_after(
        sealed,
        "UPDATE ledger.journal SET seq = CASE seq WHEN 40 THEN 41 ELSE 40 END"
        " WHERE book_id = {book} AND seq IN (40, 41)",
    )
    assert {"journal", "checkpoint"} == {f.table for f in findings}


async def test_a_journal_that_is_gone_leaves_another_root(sealed: Sealed) -> None:
    findings = await found_after(sealed, "DELETE FROM ledger.journal WHERE book_id = {book} AND seq = 40")
    assert "checkpoint" in {f.table for f in findings}


async def test_a_tile_of_other_hashes_is_the_culprit_not_the_rows(sealed: Sealed) -> None:
    for change in ("hashes = set_byte(hashes, 70, get_byte(hashes, 70) # 1)", "root = sha256('x')"):
        findings = await found_after(
            sealed, f"UPDATE ledger.log_tile SET {change} WHERE book_id = {{book}} AND tile = 0"
        )
        assert [(f.table, dict(f.key)) for f in findings] == [
            ("log_tile", {"book_id": sealed.book_id, "level": 0, "tile": 0})
        ]


async def test_runs_that_leave_something_out_or_come_again_are_named(sealed: Sealed) -> None:
    first = "WHERE book_id = {book} AND first_index = 0"
    for change in (
        f"UPDATE ledger.log_run SET count = count - 1 {first}",
        f"UPDATE ledger.log_run SET first_number = 2 {first}",
        f"UPDATE ledger.log_run SET source = 'journal' {first}",
        f"DELETE FROM ledger.log_run {first}",
        f"INSERT INTO ledger.log_run SELECT * FROM ledger.log_run {first}",
    ):
        findings = await found_after(sealed, change)
        assert ("log_run", 0) in {(f.table, f.key.get("first_index")) for f in findings}, change


async def test_a_run_of_what_the_book_does_not_have_is_named(sealed: Sealed) -> None:
    last = "(SELECT max(first_index) FROM ledger.log_run WHERE book_id = {book})"
    findings = await found_after(
        sealed,
        f"UPDATE ledger.log_run SET count = count + 2^40 WHERE book_id = {{book}} AND first_index = {last}",
    )
    assert [(f.table, f.field) for f in findings] == [("log_run", "count")]


async def test_a_checkpoint_signed_by_somebody_else_names_the_checkpoint(sealed: Sealed) -> None:
    findings = await found_after(
        sealed,
        "UPDATE ledger.checkpoint SET note = replace(note, 'khata.test/sample', 'khata.test/sampel')"
        " WHERE book_id = {book} AND prior_size = 0",
    )
    # or it is a key that is missing; and nobody cosigned that text
    assert {f.table for f in findings} == {"checkpoint", "cosignature", "log_key"}
    assert any("signed by" in f.stored for f in findings)


async def test_a_key_put_in_the_place_of_another_is_named(sealed: Sealed) -> None:
    for key in (1, 2):
        findings = await found_after(
            sealed, f"UPDATE ledger.log_key SET public = sha256('x') WHERE book_id = {{book}} AND key = {key}"
        )
        assert ("log_key", key) in {(f.table, f.key.get("key")) for f in findings}


async def test_tiles_of_the_second_level_are_held_against_the_first(database: Database) -> None:
    count = 1 << 16
    async with await AsyncConnection.connect(database.app_dsn) as conn:
        book = Book(conn, await create_book(conn, name="wide", now=NOW), database)
        await conn.commit()
        async with await AsyncConnection.connect(database.owner_dsn) as owner:
            await owner.execute(WIDE, {"book": book.book_id, "now": NOW, "count": count})
        await seal_all(book)
    wide = Sealed(database, book.book_id)
    findings = await found_after(wide, "UPDATE ledger.log_tile SET root = sha256('x') WHERE level = 1")
    # its keys are not in this database: the rest is as it must be
    assert {f.table for f in findings} == {"checkpoint", "log_key", "log_tile"}
    [tile] = [f for f in findings if f.table == "log_tile"]
    assert (dict(tile.key), tile.field) == ({"book_id": book.book_id, "level": 1, "tile": 0}, "root")
