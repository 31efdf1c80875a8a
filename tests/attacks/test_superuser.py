"""What the owner of the tables and a superuser can still do, done; and how much of it `khata audit` finds.

docs/attacks.md lists it. What moves money against the rest of the book is found and named. What rewrites a whole story,
line, leaf hash, balance and rollup alike, differs from the signed checkpoints; and where those are taken back as well,
from the one that somebody kept.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from psycopg import AsyncConnection

from khata.database import Database
from khata.tamper.sample import sample_book
from khata.tamper.sealed import SECRETS
from khata.tamper.spans import small_spans
from ledger.audit import Finding, examine
from ledger.log import keys, proofs
from ledger.log.seal import seal

SEALED_AT = datetime(2027, 1, 1, tzinfo=UTC)  # after anything in the sample book


@pytest.fixture(scope="module")
def book(shared_database: Database) -> tuple[Database, int]:
    asyncio.run(small_spans(shared_database.owner_dsn))
    return shared_database, asyncio.run(sample_book(shared_database.app_dsn))


async def found_after(dsn: str, book_id: int, *statements: str) -> list[Finding]:
    """What the audit finds once these have run, all of which the database accepts; rolled back."""
    async with await AsyncConnection.connect(dsn) as conn:
        for statement in statements:
            cursor = await conn.execute(statement.encode())
            assert cursor.rowcount != 0, statement
        results = await examine(conn, book_id)
        await conn.rollback()
    return [finding for result in results for finding in result.findings]


def tables(findings: list[Finding]) -> set[str]:
    return {finding.table for finding in findings}


MORE = "UPDATE ledger.balance SET posted_credits = posted_credits + 1 WHERE (book_id, account_id) = (2, 9)"
BY_OWNER: dict[str, tuple[list[str], str]] = {
    "a balance written past its journals": ([MORE], "balance"),
    "a hold's remainder given back": (
        ["UPDATE ledger.hold SET released = held - consumed - expired"],
        "hold",
    ),
    "a closed day opened without two people": (["UPDATE ledger.book SET closed_through = NULL"], "book"),
    "an amount changed once the trigger is off": (
        [
            "ALTER TABLE ledger.posting DISABLE TRIGGER immutable_row",
            "UPDATE ledger.posting SET amount = amount + 1 WHERE book_id = 2 AND journal_seq = 9 AND line = 1",
        ],
        "posting",
    ),
    "a journal removed with its postings": (
        [
            "ALTER TABLE ledger.posting DISABLE TRIGGER USER",
            "ALTER TABLE ledger.journal DISABLE TRIGGER USER",
            "DELETE FROM ledger.posting WHERE book_id = 2 AND journal_seq = 9",
            "DELETE FROM ledger.journal WHERE book_id = 2 AND seq = 9",
        ],
        "journal",
    ),
    "a line slipped into history as the role of ledger.append, for which no trigger fires": (
        [
            "SET LOCAL ROLE khata_poster",
            "INSERT INTO ledger.posting SELECT (p).* FROM (SELECT jsonb_populate_record(p, '{\"line\": 99}') AS p"
            " FROM ledger.posting p WHERE book_id = 2 AND journal_seq = 9 AND line = 1) AS copied",
            "RESET ROLE",
        ],
        "posting",
    ),
    "a floor lifted in the balance alone": (["UPDATE ledger.balance SET floor = NULL"], "balance"),
}
BY_SUPERUSER: dict[str, tuple[list[str], str]] = {
    "every trigger asleep": (
        [
            "SET LOCAL session_replication_role = replica",
            "UPDATE ledger.journal SET kind = 'gift' WHERE seq = 9",
        ],
        "journal",
    ),
    "a leaf hash to fit a changed line": (
        [
            "SET LOCAL session_replication_role = replica",
            'UPDATE ledger.journal SET canonical = replace(canonical, \'"amount":"1250"\', \'"amount":"9250"\')'
            " WHERE canonical LIKE '%\"1250\"%'",
            "UPDATE ledger.journal SET leaf_hash = sha256('\\x00'::bytea || convert_to(canonical, 'UTF8'))",
        ],
        "posting",
    ),
}


@pytest.mark.parametrize("done", BY_OWNER)
async def test_what_the_owner_of_the_tables_can_do_is_found(book: tuple[Database, int], done: str) -> None:
    database, book_id = book
    statements, table = BY_OWNER[done]
    assert table in tables(await found_after(database.owner_dsn, book_id, *statements))


@pytest.mark.parametrize("done", BY_SUPERUSER)
async def test_what_only_a_superuser_can_do_is_found(book: tuple[Database, int], done: str) -> None:
    database, book_id = book
    statements, table = BY_SUPERUSER[done]
    assert table in tables(await found_after(database.admin_dsn, book_id, *statements))


async def rewritten(conn: AsyncConnection[Any], book_id: int) -> None:
    """The description of a journal, told otherwise everywhere it stands."""
    await conn.execute("SET LOCAL session_replication_role = replica")
    await conn.execute(
        "UPDATE ledger.journal SET canonical = replace(canonical, 'the sale', 'a gift') WHERE book_id = %s",
        [book_id],
    )
    await conn.execute(
        "UPDATE ledger.journal SET leaf_hash = sha256('\\x00'::bytea || convert_to(canonical, 'UTF8'))"
    )


async def test_a_story_rewritten_everywhere_is_not_the_one_that_was_sealed(
    book: tuple[Database, int],
) -> None:
    database, book_id = book
    async with await AsyncConnection.connect(database.admin_dsn) as conn:
        await rewritten(conn, book_id)
        findings = [finding for result in await examine(conn, book_id) for finding in result.findings]
        await conn.rollback()
    assert tables(findings) == {"checkpoint", "journal"}
    [named] = [finding for finding in findings if finding.table == "journal"]
    assert named.field == "leaf_hash"  # in a full tile the very journal is named


async def test_what_was_never_sealed_and_is_taken_back_with_all_it_did_is_not_missed(
    book: tuple[Database, int],
) -> None:
    """The last journal and all it did: what is left is a good book of a second before the worker sealed it."""
    database, book_id = book
    async with await AsyncConnection.connect(database.admin_dsn) as conn:
        await cut_off(conn, book_id)
        assert [finding for result in await examine(conn, book_id) for finding in result.findings] == []
        await conn.rollback()


async def test_what_was_sealed_and_is_taken_back_is_missed_by_the_log_and_with_it_by_who_kept_a_checkpoint(
    book: tuple[Database, int],
) -> None:
    database, book_id = book
    async with await AsyncConnection.connect(database.admin_dsn) as conn:
        await conn.execute("SET LOCAL ROLE khata_app")
        ring = await keys.open_keys(conn, book_id, SECRETS, now=SEALED_AT)
        sealed = await seal(conn, book_id, ring.signers(SEALED_AT), SEALED_AT)
        assert sealed
        kept = sealed.checkpoint
        await conn.execute("RESET ROLE")
        await cut_off(conn, book_id)
        findings = [finding for result in await examine(conn, book_id) for finding in result.findings]
        assert tables(findings) == {"log_run"}
        for table, column in (("checkpoint", "size"), ("log_run", "first_index + count")):
            forget = f"DELETE FROM ledger.{table} WHERE book_id = {book_id} AND {column} = {kept.size}"
            assert (await conn.execute(forget.encode())).rowcount == 1
        assert [finding for result in await examine(conn, book_id) for finding in result.findings] == []
        with pytest.raises(proofs.NotInLog):
            await proofs.consistency(conn, book_id, kept.size, kept.size)
        await conn.rollback()


async def cut_off(conn: AsyncConnection[Any], book_id: int) -> None:
    await conn.execute("SET LOCAL session_replication_role = replica")
    for statement in CUT_OFF:
        await conn.execute(statement.format(book=book_id).encode())


LAST = "(SELECT head FROM ledger.book WHERE book_id = {book})"
OF_LAST = f"WHERE b.book_id = {{book}} AND p.book_id = {{book}} AND p.journal_seq = {LAST}"
CUT_OFF = [
    "UPDATE ledger.balance b SET seq = seq - 1, posted_debits = posted_debits - p.amount FROM ledger.posting p"
    f" {OF_LAST} AND b.account_id = p.debit_account",
    "UPDATE ledger.balance b SET seq = seq - 1, posted_credits = posted_credits - p.amount FROM ledger.posting p"
    f" {OF_LAST} AND b.account_id = p.credit_account",
    f"DELETE FROM ledger.posting WHERE book_id = {{book}} AND journal_seq = {LAST}",
    f"DELETE FROM ledger.journal WHERE book_id = {{book}} AND seq = {LAST}",
    "UPDATE ledger.book SET head = head - 1 WHERE book_id = {book}",
]
