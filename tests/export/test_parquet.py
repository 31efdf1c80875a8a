"""The Parquet tables: typed, complete, the same as the canonical lines, and written a row group at a time."""

from __future__ import annotations

import asyncio
import io
import sys
from collections import defaultdict
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from psycopg import AsyncConnection

from khata.database import Database
from ledger.errors import FormatUnavailable
from ledger.export import FILES, Selection
from ledger.export.plaintext import PENDING
from tests.export.books import exported, fetch, journals, sums
from tests.ledger.random_books import CLOSED, random_book

PART = Selection(after_seq=100, through_seq=300)


@pytest.fixture(scope="module")
def book_id(shared_database: Database) -> int:
    async def build() -> int:
        async with await AsyncConnection.connect(shared_database.app_dsn) as conn:
            return (await random_book(conn, 5, batches=15)).book_id

    return asyncio.run(build())


async def table(dsn: str, book_id: int, name: str, selection: Selection = PART) -> Any:
    return pq.read_table(io.BytesIO(await exported(dsn, book_id, "parquet", f"{name}.parquet", selection)))


async def test_journals_say_what_their_lines_say_in_types_of_their_own(
    shared_database: Database, book_id: int
) -> None:
    dsn = shared_database.audit_dsn
    found = (await table(dsn, book_id, "journals")).to_pylist()
    said = await journals(dsn, book_id, PART)
    assert [row["seq"] for row in found] == [j["seq"] for j in said] == list(range(101, 301))
    hashes = dict(await fetch(dsn, "SELECT seq, leaf_hash FROM ledger.journal WHERE book_id = %s", book_id))
    for row, j in zip(found, said, strict=True):
        assert row["leaf_hash"] == hashes[row["seq"]]
        assert row["recorded_at"].isoformat(timespec="microseconds") == j["recorded_at"].replace(
            "Z", "+00:00"
        )
        assert row["effective_at"].isoformat(timespec="microseconds") == j["effective_at"].replace(
            "Z", "+00:00"
        )
        assert (row["id"], row["kind"], row["description"]) == (j["id"], j["kind"], j["description"])
        assert dict(row["metadata"]) == j["metadata"]
        assert (row["source_type"], row["source_id"], row["source_event"]) == tuple(
            j["source"][part] for part in ("type", "id", "event")
        )
        assert row["reverses"] == j.get("reverses")
        assert (row["hold_action"], row["hold_id"]) == (
            j.get("hold", {}).get("action"),
            j.get("hold", {}).get("id"),
        )


async def test_lines_and_accounts_add_up_to_the_balances(shared_database: Database, book_id: int) -> None:
    dsn = shared_database.audit_dsn
    ours = {through: await sums(dsn, book_id, through) for through in (100, 300)}
    moved: defaultdict[tuple[str, str], int] = defaultdict(int)
    for row in (await table(dsn, book_id, "lines")).to_pylist():
        moved[PENDING * (row["layer"] == "pending") + row["account"], row["currency"]] += row["signed"]
        assert row["signed"] == (row["amount"] if row["side"] == "debit" else -row["amount"])
    accounts = (await table(dsn, book_id, "accounts")).to_pylist()
    for row in accounts:
        for at, opening, closing in (
            ((row["account"], row["currency"]), row["opening"], row["closing"]),
            ((PENDING + row["account"], row["currency"]), row["opening_pending"], row["closing_pending"]),
        ):
            assert opening == ours[100].pop(at, 0)
            assert closing == ours[300].pop(at, 0) == opening + moved.pop(at, 0)
    assert ours == {100: {}, 300: {}}
    assert not moved
    assert CLOSED not in {row["account"] for row in accounts}  # before the period
    everything = (await table(dsn, book_id, "accounts", Selection())).to_pylist()
    assert [row["account"] for row in everything if row["closed_on"]] == [CLOSED]


async def test_columns_are_typed_and_never_null_where_nothing_can_be_missing(
    shared_database: Database, book_id: int
) -> None:
    schema = (await table(shared_database.audit_dsn, book_id, "journals")).schema
    assert schema.field("seq").type == pa.int64()
    assert schema.field("recorded_at").type == pa.timestamp("us", tz="UTC")
    assert schema.field("leaf_hash").type == pa.binary(32)
    assert {field.name for field in schema if field.nullable} == {"reverses", "hold_action", "hold_id"}
    lines = (await table(shared_database.audit_dsn, book_id, "lines")).schema
    assert {lines.field(name).type for name in ("amount", "signed", "seq")} == {pa.int64()}


async def test_row_groups_are_written_as_they_fill(
    shared_database: Database, book_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    dsn = shared_database.audit_dsn
    whole = {name: await table(dsn, book_id, name) for name in ("journals", "lines", "accounts")}
    monkeypatch.setattr("ledger.export.parquet.ROWS", 7)
    for name, before in whole.items():
        data = await exported(dsn, book_id, "parquet", f"{name}.parquet", PART)
        file = pq.ParquetFile(io.BytesIO(data))
        assert file.num_row_groups == -(-before.num_rows // 7)
        assert file.read().equals(before)


async def test_without_its_library_the_format_is_refused_by_name(
    shared_database: Database, book_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    for name in FILES["parquet"]:
        with pytest.raises(FormatUnavailable, match=r"pip install 'khata\[parquet\]'"):
            await exported(shared_database.audit_dsn, book_id, "parquet", name)
