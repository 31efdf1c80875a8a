"""What the owner of the tables and a superuser can still do, done; and how much of it `khata audit` finds.

docs/attacks.md lists it. What moves money against the rest of the book is found and named. What rewrites a whole story,
line, leaf hash, balance and rollup alike, is not, until signed checkpoints of the transparency log are kept elsewhere.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from psycopg import AsyncConnection

from khata.database import Database
from khata.tamper.sample import sample_book
from khata.tamper.spans import small_spans
from ledger.audit import Finding, examine


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


async def test_a_story_rewritten_everywhere_is_not_found_before_there_is_a_transparency_log(
    book: tuple[Database, int],
) -> None:
    """The day this fails, docs/attacks.md has become too modest."""
    database, book_id = book
    async with await AsyncConnection.connect(database.admin_dsn) as conn:
        before = await (
            await conn.execute("SELECT leaf_hash FROM ledger.journal ORDER BY book_id, seq")
        ).fetchall()
        await rewritten(conn, book_id)
        after = await (
            await conn.execute("SELECT leaf_hash FROM ledger.journal ORDER BY book_id, seq")
        ).fetchall()
        findings = [finding for result in await examine(conn, book_id) for finding in result.findings]
        await conn.rollback()
    assert findings == []
    assert sum(a != b for a, b in zip(before, after, strict=True)) == 1  # a signed root would have changed


async def test_the_last_journal_taken_back_with_all_it_did_is_not_found_either(
    book: tuple[Database, int],
) -> None:
    """The last journals and all they did, taken back consistently: what is left is a good book of yesterday."""
    database, book_id = book
    async with await AsyncConnection.connect(database.admin_dsn) as conn:
        await conn.execute("SET LOCAL session_replication_role = replica")
        for statement in CUT_OFF:
            await conn.execute(statement.format(book=book_id).encode())
        findings = [finding for result in await examine(conn, book_id) for finding in result.findings]
        await conn.rollback()
    assert findings == []


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
