"""The audit passes what the ledger wrote, and names whatever a superuser changed behind its back.

Each case tampers in a transaction with triggers off and constraints dropped (``khata.tamper``), audits what that
transaction sees, and rolls back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from psycopg import AsyncConnection, sql

from khata.database import Database
from khata.tamper.schema import Table, defenceless, tables
from khata.tamper.sealed import seal_sample
from khata.tamper.spans import small_spans
from khata.tamper.tampering import Forger, Row, names
from ledger.audit import Check, CheckResult, Finding, LedgerExaminer, Progress, Tallies, audit, examine
from ledger.errors import BookUnknown
from tests.ledger.random_books import random_book


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


@dataclass(frozen=True)
class Attacker:
    """Short words for a ``Forger``: tables by name, statements as text."""

    forger: Forger
    tables: dict[str, Table]

    @property
    def conn(self) -> AsyncConnection[Any]:
        return self.forger.conn

    @property
    def book_id(self) -> int:
        return self.forger.book_id

    async def run(self, statement: str, *values: object) -> list[Row]:
        return await self.forger.run(sql.Composed([sql.SQL(statement)]), values)  # pyright: ignore[reportArgumentType]

    async def pick(self, table: str, where: str, why: str, limit: int = 2) -> list[Row]:
        return await self.forger.pick(self.tables[table], where, limit, why)

    async def found(self) -> list[Finding]:
        return await self.forger.findings()

    def names(self, findings: list[Finding], table: str, *keys: tuple[str, ...]) -> bool:
        return names(findings, self.tables[table], *keys)


@asynccontextmanager
async def attack(books: Books) -> AsyncGenerator[Attacker]:
    async with await AsyncConnection.connect(books.database.owner_dsn) as conn:
        known = {table.name: table for table in await tables(conn)}
        async with defenceless(conn):
            yield Attacker(Forger(conn, books.book_id), known)


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
        await seal_sample(conn, book.book_id, book.now)
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


# ---------------------------------------------------------------- what a change brings with it
# That every change is found is the subject of tests/khata/test_tamper.py.


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
    assert attacker.names(findings, "journal", (str(books.book_id), "100000"))
    assert attacker.names(findings, "posting", (str(books.book_id), "100000", "1"))
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
    assert attacker.names(list(reversals.findings), "journal", (str(books.book_id), str(row["seq"])))


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
    assert any(f.table == "posting" and list(f.key.values()) == [book.book_id, 5, 1] for f in findings)
