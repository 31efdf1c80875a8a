"""The audit passes what the ledger wrote, and names whatever a superuser changed behind its back.

Each case tampers in a transaction of a superuser with triggers off and constraints dropped, audits what that
transaction sees, and rolls back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest
from psycopg import AsyncConnection
from psycopg.rows import dict_row

from khata.database import Database
from khata.tamper.spans import small_spans
from ledger.audit import Check, CheckResult, Finding, LedgerExaminer, Progress, Tallies, audit, examine
from ledger.canonical import rfc3339
from ledger.errors import BookUnknown
from tests.ledger.random_books import random_book

KEYS = {
    "book": ("book_id",),
    "account": ("book_id", "account_id"),
    "account_fact": ("book_id", "account_id", "fact"),
    "act": ("book_id", "act"),
    "proposal": ("book_id", "proposal_id"),
    "verdict": ("book_id", "proposal_id"),
    "period_fact": ("book_id", "fact"),
    "limit_fact": ("book_id", "account_id", "name", "fact"),
    "limit_use": ("book_id", "account_id", "name", "window_start"),
    "balance": ("book_id", "account_id"),
    "journal": ("book_id", "seq"),
    "posting": ("book_id", "journal_seq", "line"),
    "hold": ("book_id", "hold_id"),
    "transfer": ("book_id", "transfer_id"),
    "arrival": ("book_id", "from_book", "transfer_id"),
    "rollup": ("book_id", "level", "span", "account_id", "day"),
    "rollup_span": ("book_id", "level", "span"),
    "term": ("book_id", "term", "seq"),
    "term_run": ("book_id", "last"),
}
# Columns of which the database has one copy only: nothing can be recomputed until account facts are log leaves.
UNPROVABLE = {
    ("account", "owner"): "who may read; it moves no money and no other row tells it",
}
# Rows whose value has a second copy; that of the others cannot be recomputed, for the same reason.
PROVABLE_ROWS = {
    ("account", "path"): "account_id IN (SELECT account_id FROM ledger.balance WHERE seq > 0)",
    (
        "account_fact",
        "floor",
    ): "fact > 1 OR account_id IN (SELECT account_id FROM ledger.balance WHERE fact = 1)",
}
# One value off, by type. The clock of a book may stand anywhere after its last row, so that one is set back.
CHANGED = {
    "smallint": "coalesce({c} + 1, 1)",
    "integer": "coalesce({c} + 1, 1)",
    "bigint": "coalesce({c} + 1, 1)",
    "boolean": "NOT {c}",
    "text": "coalesce(left({c}, -1) || CASE right({c}, 1) WHEN 'x' THEN 'y' ELSE 'x' END, 'x')",
    "uuid": "coalesce(overlay({c}::text placing CASE right({c}::text, 1) WHEN '1' THEN '2' ELSE '1' END from 36)::uuid,"
    " '00000000-0000-7000-8000-000000000000')",
    "timestamp with time zone": "coalesce({c} + interval '1 microsecond', '2026-11-22')",
    "date": "coalesce({c} + 1, '2026-11-21')",
    "bytea": "coalesce(set_byte({c}, 0, get_byte({c}, 0) # 1), '\\x00')",
}
SPECIAL = {("book", "recorded_at"): "{c} - interval '1 day'"}


@dataclass(frozen=True)
class Books:
    database: Database
    book_id: int


@pytest.fixture(scope="module")
def books(shared_database: Database) -> Books:
    async def build() -> int:
        await small_spans(shared_database.owner_dsn)
        async with await AsyncConnection.connect(shared_database.app_dsn) as conn:
            await random_book(conn, 1, name="other", batches=1, size=5)
            return (await random_book(conn, 2, batches=8)).book_id

    return Books(shared_database, asyncio.run(build()))


Row = dict[str, Any]


@dataclass(frozen=True)
class Attacker:
    """A superuser's transaction that no guard of the schema watches and that is rolled back in the end."""

    conn: AsyncConnection[Any]
    book_id: int

    async def run(self, statement: str, *values: object) -> list[Row]:
        cursor = await self.conn.cursor(row_factory=dict_row).execute(statement.encode(), values)
        return await cursor.fetchall() if cursor.description else []

    async def pick(self, table: str, where: str, seed: str, limit: int = 2) -> list[Row]:
        """Random rows of the book, their place (ctid) among their columns."""
        rows = await self.run(
            f"SELECT ctid, * FROM ledger.{table} WHERE book_id = %s AND ({where})", self.book_id
        )
        rows.sort(key=lambda row: str(key_of(table, row)))
        return Random(seed).sample(rows, min(limit, len(rows)))

    async def found(self) -> list[Finding]:
        return [f for r in await examine(self.conn, self.book_id) for f in r.findings]


@asynccontextmanager
async def attack(books: Books) -> AsyncIterator[Attacker]:
    async with await AsyncConnection.connect(books.database.admin_dsn) as conn:
        await conn.execute("SET LOCAL session_replication_role = replica")
        await conn.execute("ALTER TABLE ledger.account ALTER debit_normal DROP EXPRESSION")
        for guards in (DROP_CONSTRAINTS, DROP_INDEXES):
            cursor = await conn.execute(guards)
            for (statement,) in await cursor.fetchall():
                await conn.execute(statement)
        yield Attacker(conn, books.book_id)
        await conn.rollback()


DROP_CONSTRAINTS = """
SELECT format('ALTER TABLE %s DROP CONSTRAINT %I CASCADE', conrelid::regclass, conname) FROM pg_constraint
 WHERE connamespace = 'ledger'::regnamespace AND contype IN ('c', 'f', 'p', 'u') ORDER BY contype"""
DROP_INDEXES = """
SELECT format('DROP INDEX %s', indexrelid::regclass) FROM pg_index
  JOIN pg_class c ON c.oid = indrelid WHERE c.relnamespace = 'ledger'::regnamespace AND indisunique"""


def key_of(table: str, row: Row) -> tuple[str, ...]:
    return tuple(_text(row[name]) for name in KEYS[table])


def _text(value: object) -> str:
    return rfc3339(value.astimezone(UTC)) if isinstance(value, datetime) else str(value)


def names(findings: list[Finding], table: str, *keys: tuple[str, ...]) -> bool:
    """Whether a finding names the row, by one of the keys it has had."""
    return any(f.table == table and tuple(str(f.key.get(n)) for n in KEYS[table]) in keys for f in findings)


def ran(results: list[CheckResult]) -> str:
    return "\n".join(str(f) for r in results for f in r.findings)


# ---------------------------------------------------------------- a good book


@pytest.mark.parametrize("seed", [11, 12])
async def test_a_random_book_passes_every_check_and_every_check_sees_rows(
    database: Database, seed: int
) -> None:
    await small_spans(database.owner_dsn)
    async with await AsyncConnection.connect(database.app_dsn) as conn:
        book = await random_book(conn, seed)
    seen: list[tuple[int, int]] = []
    async with await AsyncConnection.connect(database.audit_dsn) as conn:
        results = await audit(conn, book.book_id, lambda done, total: seen.append((done, total)))
    assert all(r.passed for r in results), ran(results)
    assert [r.check for r in results] == list(LedgerExaminer.checks)
    assert all(r.rows > 0 for r in results), [r.check.id for r in results if not r.rows]
    assert seen[-1] == (book.posted, book.posted)


async def test_an_unknown_book_is_refused(database: Database) -> None:
    async with await AsyncConnection.connect(database.audit_dsn) as conn:
        with pytest.raises(BookUnknown):
            await audit(conn, 7)


async def test_the_audit_sees_one_snapshot_and_can_write_nothing(books: Books) -> None:
    class Nosy:
        checks = (Check("X1", "the snapshot is read-only"),)

        async def examine(
            self, conn: AsyncConnection[Any], book_id: int, tallies: Tallies, progress: Progress
        ) -> None:
            cursor = await conn.execute(
                "SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')"
            )
            tallies[self.checks[0]].rows = 1
            assert await cursor.fetchone() == ("repeatable read", "on")

    async with await AsyncConnection.connect(books.database.audit_dsn) as conn:
        results = await audit(conn, books.book_id, examiners=[LedgerExaminer(), Nosy()])
    assert [r.check.id for r in results][-1] == "X1"
    assert all(r.passed for r in results), ran(results)


# ---------------------------------------------------------------- one value changed


async def test_every_table_of_the_ledger_is_tampered_with_here(books: Books) -> None:
    async with attack(books) as attacker:
        rows = await attacker.run(
            "SELECT table_name FROM information_schema.tables"
            " WHERE table_schema = 'ledger' AND table_type = 'BASE TABLE'"
        )
    assert {row["table_name"] for row in rows} == KEYS.keys()


@pytest.mark.parametrize("table", KEYS)
async def test_one_changed_value_in_any_column_is_found_and_its_row_named(books: Books, table: str) -> None:
    async with attack(books) as attacker:
        columns = await attacker.run(
            "SELECT column_name, data_type FROM information_schema.columns"
            " WHERE table_schema = 'ledger' AND table_name = %s",
            table,
        )
        missed = [
            f"{table}.{column['column_name']} of {key}"
            for column in columns
            if (table, column["column_name"]) not in UNPROVABLE
            for key in await missed_changes(attacker, table, column["column_name"], column["data_type"])
        ]
    assert columns
    assert missed == []


async def missed_changes(attacker: Attacker, table: str, column: str, data_type: str) -> list[str]:
    """Keys of the rows whose change in ``column`` went unnamed; a few rows with a value, a few without."""
    missed: list[str] = []
    changed = SPECIAL.get((table, column), CHANGED[data_type]).format(c=column)
    provable = PROVABLE_ROWS.get((table, column), "true")
    tried = 0
    for filled in (f"{column} IS NOT NULL", f"{column} IS NULL"):
        for row in await attacker.pick(table, f"{filled} AND {provable}", f"{table}.{column}"):
            async with attacker.conn.transaction(force_rollback=True):
                statement = f"UPDATE ledger.{table} SET {column} = {changed} WHERE ctid = %s RETURNING *"
                [after] = await attacker.run(statement, row["ctid"])
                assert after[column] != row[column]
                if not names(await attacker.found(), table, key_of(table, row), key_of(table, after)):
                    missed.append(str(key_of(table, row)))
            tried += 1
    assert tried, f"no row to change {table}.{column} in"
    return missed


async def test_a_changed_amount_is_named_alone_and_what_follows_from_it_is_only_counted(books: Books) -> None:
    async with attack(books) as attacker:
        [row] = await attacker.pick("posting", "layer = 0 AND hold_id IS NULL", "alone", 1)
        await attacker.run("UPDATE ledger.posting SET amount = amount + 1 WHERE ctid = %s", row["ctid"])
        findings = await attacker.found()
    assert {tuple(f.key.values()) for f in findings if f.table == "posting"} == {
        (row["book_id"], row["journal_seq"], row["line"])
    }
    assert {f.table for f in findings} == {"posting", "balance", "rollup"}
    said = [str(f) for f in findings if f.field == "amount"]
    assert said == [
        f"posting book_id={row['book_id']}, journal_seq={row['journal_seq']}, line={row['line']}:"
        f" amount is {row['amount'] + 1}, must be {row['amount']}"
    ]


# ---------------------------------------------------------------- rows lost, doubled, moved


@pytest.mark.parametrize("table", KEYS)
async def test_a_lost_row_is_named(books: Books, table: str) -> None:
    async with attack(books) as attacker:
        for row in await attacker.pick(table, "true", "lost", 6):
            async with attacker.conn.transaction(force_rollback=True):
                await attacker.run(f"DELETE FROM ledger.{table} WHERE ctid = %s", row["ctid"])
                assert names(await attacker.found(), table, key_of(table, row)), key_of(table, row)


@pytest.mark.parametrize("table", KEYS)
async def test_a_doubled_row_is_named(books: Books, table: str) -> None:
    async with attack(books) as attacker:
        for row in await attacker.pick(table, "true", "doubled", 3):
            async with attacker.conn.transaction(force_rollback=True):
                await attacker.run(
                    f"INSERT INTO ledger.{table} SELECT * FROM ledger.{table} WHERE ctid = %s", row["ctid"]
                )
                assert names(await attacker.found(), table, key_of(table, row)), key_of(table, row)


# Two rows exchange what places them in their order.
EXCHANGES = [
    ("journal", "seq", "book_id = book_id", "seq"),
    ("posting", "line", "journal_seq", "journal_seq, line"),
    ("posting", "journal_seq", "line", "journal_seq"),
    ("posting", "debit_seq", "debit_account", "debit_account, debit_seq"),
    ("posting", "credit_seq", "credit_account", "credit_account, credit_seq"),
]


@pytest.mark.parametrize(("table", "column", "same", "order"), EXCHANGES)
async def test_rows_that_changed_places_are_both_named(
    books: Books, table: str, column: str, same: str, order: str
) -> None:
    async with attack(books) as attacker:
        pairs = await attacker.run(
            f"SELECT ctid, lag(ctid) OVER w AS before, {column} AS mine, lag({column}) OVER w AS other"
            f" FROM ledger.{table} WHERE book_id = %s WINDOW w AS (PARTITION BY {same} ORDER BY {order})",
            attacker.book_id,
        )
        for pair in Random(5).sample([p for p in pairs if p["before"]], 4):
            async with attacker.conn.transaction(force_rollback=True):
                statement = f"UPDATE ledger.{table} SET {column} = %s WHERE ctid = %s RETURNING *"
                [one] = await attacker.run(statement, pair["other"], pair["ctid"])
                [two] = await attacker.run(statement, pair["mine"], pair["before"])
                findings = await attacker.found()
                assert names(findings, table, key_of(table, one))
                assert names(findings, table, key_of(table, two))


async def test_a_journal_beyond_the_head_is_named_with_its_postings(books: Books) -> None:
    async with attack(books) as attacker:
        [row] = await attacker.pick("journal", "true", "beyond", 1)
        for table, column in (("journal", "seq"), ("posting", "journal_seq")):
            columns = await attacker.run(
                "SELECT column_name FROM information_schema.columns WHERE table_schema = 'ledger' AND table_name = %s",
                table,
            )
            copied = ", ".join("100000" if c["column_name"] == column else c["column_name"] for c in columns)
            await attacker.run(
                f"INSERT INTO ledger.{table} SELECT {copied} FROM ledger.{table} WHERE book_id = %s AND {column} = %s",
                attacker.book_id, row["seq"],
            )  # fmt: skip
        findings = await attacker.found()
    assert names(findings, "journal", (str(books.book_id), "100000"))
    assert names(findings, "posting", (str(books.book_id), "100000", "1"))
    assert [f.field for f in findings if f.table == "book"] == ["head"]


# ---------------------------------------------------------------- rules that only a colluding rewrite can break


async def test_a_floor_set_above_what_is_available_is_found_in_the_past_too(books: Books) -> None:
    """The fact's floor and the balance's floor agree: only the lines tell that it cannot have been so."""
    async with attack(books) as attacker:
        [row] = await attacker.pick(
            "balance", "floor = 0 AND status = 'open' AND seq > 5 AND fact = 1", "floor", 1
        )
        key = (row["book_id"], row["account_id"])
        where = " SET floor = 900000 WHERE book_id = %s AND account_id = %s"
        await attacker.run("UPDATE ledger.account_fact" + where, *key)
        await attacker.run("UPDATE ledger.balance" + where, *key)
        findings = await attacker.found()
    assert any(f.table == "posting" and f.recomputed == "900000 or more" for f in findings)


async def test_a_hold_captured_over_its_ceiling_is_found(books: Books) -> None:
    """Terms rewritten alike in row and line, leaf hash and all: the postings then break them."""
    async with attack(books) as attacker:
        rows = await attacker.run(
            "SELECT * FROM ledger.hold WHERE book_id = %s AND tolerance_bps > 0 AND captured > consumed",
            books.book_id,
        )
        assert rows
        row = rows[0]
        await attacker.run("UPDATE ledger.hold SET tolerance_bps = 0 WHERE hold_id = %s", row["hold_id"])
        await attacker.run(
            "UPDATE ledger.journal SET canonical = replace(canonical, %s, %s) WHERE (book_id, seq) IN"
            " (SELECT book_id, journal_seq FROM ledger.posting WHERE hold_id = %s AND hold_action = 0)",
            f'"tolerance_bps":{row["tolerance_bps"]}', '"tolerance_bps":0', row["hold_id"],
        )  # fmt: skip
        await attacker.run(
            "UPDATE ledger.journal SET leaf_hash = sha256('\\x00'::bytea || convert_to(canonical, 'UTF8'))"
        )
        findings = await attacker.found()
    assert any("ceiling" in f.recomputed and str(row["hold_id"]) in f.about for f in findings)
    assert all(f.table == "posting" for f in findings)


async def test_a_reversal_that_is_no_mirror_is_found(books: Books) -> None:
    async with attack(books) as attacker:
        [row] = await attacker.pick("journal", "reverses > 1", "mirror", 1)
        await attacker.run(
            "UPDATE ledger.journal SET reverses = %s, canonical = replace(canonical, %s, %s) WHERE ctid = %s",
            row["reverses"] - 1, f'"reverses":{row["reverses"]}', f'"reverses":{row["reverses"] - 1}', row["ctid"],
        )  # fmt: skip
        results = await examine(attacker.conn, books.book_id)
    [reversals] = [r for r in results if r.check.id == "I1.reversals"]
    assert names(list(reversals.findings), "journal", key_of("journal", row))


async def test_a_source_key_or_id_used_twice_is_found(books: Books) -> None:
    async with attack(books) as attacker:
        first, second = await attacker.pick("journal", "true", "source", 2)
        for columns in ("id", "source_type, source_id, source_event"):
            async with attacker.conn.transaction(force_rollback=True):
                copied = f"SELECT {columns} FROM ledger.journal WHERE ctid = %s"
                statement = f"UPDATE ledger.journal SET ({columns}) = ({copied}) WHERE ctid = %s"
                await attacker.run(statement, first["ctid"], second["ctid"])
                results = await examine(attacker.conn, books.book_id)
            [sources] = [r for r in results if r.check.id == "I6.sources"]
            assert sources.found == 1


async def test_a_line_that_is_not_in_canonical_form_is_found_though_it_says_the_same(books: Books) -> None:
    async with attack(books) as attacker:
        [row] = await attacker.pick("journal", "true", "form", 1)
        await attacker.run(
            "UPDATE ledger.journal SET canonical = replace(canonical, '{\"book\":', '{ \"book\":') WHERE ctid = %s",
            row["ctid"],
        )
        await attacker.run(
            "UPDATE ledger.journal SET leaf_hash = sha256('\\x00'::bytea || convert_to(canonical, 'UTF8'))"
        )
        findings = await attacker.found()
    assert [(f.table, f.key["seq"], f.recomputed) for f in findings] == [
        ("journal", row["seq"], "RFC 8785 form")
    ]


async def test_a_ruined_book_is_counted_in_full_and_told_in_part(books: Books) -> None:
    async with attack(books) as attacker:
        await attacker.run(
            "UPDATE ledger.journal SET leaf_hash = sha256('x') WHERE book_id = %s", books.book_id
        )
        results = await examine(attacker.conn, books.book_id)
    [leaves] = [r for r in results if r.check.id == "I10.leaves"]
    assert (leaves.found, len(leaves.findings)) == (leaves.rows, 100)


async def test_a_posting_changed_for_good_is_named_by_an_audit_of_another_role(database: Database) -> None:
    async with await AsyncConnection.connect(database.app_dsn) as conn:
        book = await random_book(conn, 3, batches=2)
    async with await AsyncConnection.connect(database.admin_dsn) as conn:
        await conn.execute("SET session_replication_role = replica")
        await conn.execute(
            "UPDATE ledger.posting SET amount = amount # 1 WHERE book_id = %s AND journal_seq = 5 AND line = 1",
            [book.book_id],
        )
    async with await AsyncConnection.connect(database.audit_dsn) as conn:
        results = await audit(conn, book.book_id)
    findings = [f for r in results for f in r.findings]
    assert names(findings, "posting", (str(book.book_id), "5", "1"))
