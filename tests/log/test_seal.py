"""Sealing random books: the log is the naive tree over everything recorded, cut at midnights, and grows only."""

from __future__ import annotations

import asyncio
import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import AsyncConnection

from khata.database import Database
from ledger import model as m
from ledger.books import create_book, open_accounts
from ledger.log import leaves, merkle, proofs, tiles
from ledger.log.checkpoint import Checkpoint
from ledger.log.note import Note
from ledger.log.seal import books_to_seal, seal
from ledger.post import post
from tests.ledger.random_books import random_book
from tests.ledger.words import NOW, WALLET, Book, fund, unit
from tests.log.conftest import SIGNER, seal_all
from tests.log.test_merkle import mth

KINDS = {"account": "account_id", "act": "act", "journal": "seq"}


async def rows(conn: AsyncConnection[Any], sql: str, *values: Any) -> list[Any]:
    return await (await conn.execute(sql.encode(), values)).fetchall()


async def all_leaves(book: Book) -> list[tuple[str, bytes, bytes]]:
    """(source, line, stored hash) of every leaf, in order."""
    size = await proofs.log_size(book.conn, book.book_id)
    return [
        (chunk.run.source, line, leaf)
        async for chunk in leaves.chunks(book.conn, book.book_id, 0, size)
        for line, leaf in zip(chunk.lines, chunk.hashes, strict=True)
    ]


@pytest.mark.parametrize("most", [1 << 16, 7])
async def test_the_log_is_the_naive_tree_over_everything_recorded(database: Database, most: int) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    async with await AsyncConnection.connect(database.app_dsn) as conn:
        made = await random_book(conn, seed, batches=3)
        book = Book(conn, made.book_id, database)
        await seal_all(book, most)  # the rest is sealed as it is recorded
        for _ in range(6):
            made.now += timedelta(hours=rng.randrange(40))
            await made.batch(10)
            await seal_all(book, most)
        assert await books_to_seal(conn) == [2]  # its mate
        await check_log(book)
        await check_proofs(book, rng)


async def check_log(book: Book) -> None:
    conn, book_id = book.conn, book.book_id
    found = await all_leaves(book)
    hashes = [leaf for _, _, leaf in found]
    # every line is its leaf's preimage; numbers have no gap; everything recorded is there
    assert [merkle.leaf_hash(line) for _, line, _ in found] == hashes
    counts = dict.fromkeys(KINDS, 0)
    paths: set[str] = set()
    day = ""
    for source, line, _ in found:
        fields = json.loads(line)
        counts[source] += 1
        assert fields[KINDS[source]] == counts[source]
        assert json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False) == line.decode()
        recorded = fields["opened_at" if source == "account" else "recorded_at"][:10]
        assert recorded >= day  # days follow one another, though within one sources are apart
        day = recorded
        if source == "account":
            paths.add(fields["account"])
        elif source == "journal":
            assert {p[side] for p in fields["postings"] for side in ("debit", "credit")} <= paths
    [book_row] = await rows(conn, "SELECT accounts, acts, head FROM ledger.book WHERE book_id = %s", book_id)
    assert tuple(counts.values()) == book_row
    # every checkpoint is the root of what it covers
    known = await rows(
        conn,
        "SELECT size, prior_size, root, note FROM ledger.checkpoint WHERE book_id = %s ORDER BY size",
        book_id,
    )
    assert [prior for _, prior, _, _ in known] == [0, *(size for size, *_ in known[:-1])]
    for size, _, root, note in known:
        assert root == mth(hashes[:size])
        assert Checkpoint.opened(note, [SIGNER.verifier]) == Checkpoint(SIGNER.name, size, root)
        assert Note.parse(note).text.count("\n") == 3
    assert known[-1][0] == len(hashes)
    await check_days(book, [json.loads(line) for _, line, _ in found])
    # full tiles of level 0, and the partial one
    for number in range(len(hashes) // 256 + 1):
        width = tiles.width(len(hashes), 0, number)
        row = await tiles.read_tile(conn, book_id, 0, number, width)
        assert merkle.hashes(row) == hashes[number * 256 : number * 256 + width]


async def check_days(book: Book, lines: list[dict[str, Any]]) -> None:
    """Every day ends at a checkpoint, which has all of that day and nothing later."""
    days = [line["recorded_at" if "recorded_at" in line else "opened_at"][:10] for line in lines]
    ends = await rows(
        book.conn,
        "SELECT covers_before, size FROM ledger.day_end WHERE book_id = %s ORDER BY covers_before",
        book.book_id,
    )
    expected = [(day, days.index(day)) for day in sorted(set(days))]
    assert [(f"{before.astimezone(UTC):%Y-%m-%d}", size) for before, size in ends] == expected
    sizes = {
        size
        for (size,) in await rows(
            book.conn, "SELECT size FROM ledger.checkpoint WHERE book_id = %s", book.book_id
        )
    }
    assert {size for _, size in expected[1:]} <= sizes
    for day, size in expected:
        midnight = datetime.fromisoformat(day).replace(tzinfo=UTC)
        assert await proofs.size_before(book.conn, book.book_id, midnight) == size
        # a day without entries ends where the one before it did
        assert await proofs.size_before(book.conn, book.book_id, midnight - timedelta(seconds=1)) == size
    after = datetime.fromisoformat(days[-1]).replace(tzinfo=UTC) + timedelta(days=1)
    assert await proofs.size_before(book.conn, book.book_id, after) is None


async def check_proofs(book: Book, rng: random.Random) -> None:
    hashes = [leaf for _, _, leaf in await all_leaves(book)]
    size = len(hashes)
    for _ in range(60):
        first = rng.randrange(1, size + 1)
        second = rng.randrange(first, size + 1)
        old, new = mth(hashes[:first]), mth(hashes[:second])
        assert await proofs.root_at(book.conn, book.book_id, second) == new
        shown = await proofs.consistency(book.conn, book.book_id, first, second)
        assert merkle.consistent(first, second, old, new, shown)
        index = rng.randrange(second)
        shown = await proofs.inclusion(book.conn, book.book_id, index, second)
        assert merkle.includes(hashes[index], index, second, shown, new)
        assert await proofs.leaf(book.conn, book.book_id, index) == hashes[index]
    for asked in ((size, size), (-1, size), (0, size + 1), (0, 0)):
        with pytest.raises(proofs.NotInLog):
            await proofs.inclusion(book.conn, book.book_id, *asked)
    for asked in ((2, 1), (0, size + 1), (-1, 1)):
        with pytest.raises(proofs.NotInLog):
            await proofs.consistency(book.conn, book.book_id, *asked)
    assert await proofs.consistency(book.conn, book.book_id, 0, size) == []


async def test_an_entry_is_found_in_the_log_once_it_is_sealed(book: Book) -> None:
    await book.ok(fund(WALLET, 5))
    assert await proofs.leaf_index(book.conn, book.book_id, "journal", 1) is None
    assert await proofs.last_checkpoint(book.conn, book.book_id) is None
    await seal_all(book)
    [posted] = await book.ok(fund(WALLET, 7))
    assert await proofs.leaf_index(book.conn, book.book_id, "journal", 1) == 10
    assert await proofs.leaf_index(book.conn, book.book_id, "account", 10) == 9
    assert await proofs.leaf_index(book.conn, book.book_id, "account", 11) is None
    [(id_,)] = await rows(
        book.conn,
        "SELECT id FROM ledger.journal WHERE book_id = %s AND seq = %s",
        book.book_id,
        posted.seqs[0],
    )
    assert await proofs.journal_index(book.conn, book.book_id, id_) is None
    await seal_all(book)
    assert await proofs.journal_index(book.conn, book.book_id, id_) == 11
    last = await proofs.last_checkpoint(book.conn, book.book_id)
    assert last is not None
    assert (last.size, await proofs.cosigned(book.conn, book.book_id, last)) == (12, last.note)


WIDE = """
WITH a AS (
  INSERT INTO ledger.account (book_id, account_id, path, currency, opened_at)
  SELECT %(book)s, n, 'Assets:Bank:b' || n, 'INR', %(now)s FROM generate_series(1, %(count)s) AS n),
f AS (
  INSERT INTO ledger.account_fact (book_id, account_id, fact, status, reason, recorded_at, after_seq)
  SELECT %(book)s, n, 1, 'open', 'opened', %(now)s, 0 FROM generate_series(1, %(count)s) AS n)
UPDATE ledger.book SET accounts = %(count)s WHERE book_id = %(book)s"""


async def test_tiles_of_the_second_level_hold_the_roots_of_the_first(database: Database) -> None:
    """66,000 accounts: the cheapest leaves there are."""
    count = (1 << 16) + 700
    async with await AsyncConnection.connect(database.app_dsn) as conn:
        book = Book(conn, await create_book(conn, name="wide", now=NOW), database)
        await conn.commit()
        async with await AsyncConnection.connect(database.owner_dsn) as owner:
            await owner.execute(WIDE, {"book": book.book_id, "now": NOW, "count": count})
        sealed = await seal_all(book)
        assert [(s.leaves, s.more) for s in sealed] == [(1 << 16, True), (700, False)]
        row = await leaves.hashes(conn, book.book_id, 0, count)
        roots = [merkle.root(row[at : at + 8192]) for at in range(0, len(row) - 8191, 8192)]
        kept = await rows(conn, "SELECT level, tile, hashes, root FROM ledger.log_tile ORDER BY level, tile")
        assert [(level, tile) for level, tile, _, _ in kept] == [*((0, n) for n in range(258)), (1, 0)]
        assert [root for level, _, _, root in kept if level == 0] == roots
        assert kept[-1][2:] == (b"".join(roots[:256]), merkle.root(b"".join(roots[:256])))
        assert await tiles.read_tile(conn, book.book_id, 1, 1, 2) == b"".join(roots[256:])
        assert await tiles.read_tile(conn, book.book_id, 2, 0, 1) == kept[-1][3]
        assert sealed[1].checkpoint.root == merkle.root(row)
        for first in (1, 255, 256, 65535, 65536, 65537, count):
            shown = await proofs.consistency(conn, book.book_id, first, count)
            assert merkle.consistent(first, count, merkle.root(row[: first * 32]), merkle.root(row), shown)
            shown = await proofs.inclusion(conn, book.book_id, first - 1, count)
            leaf = row[first * 32 - 32 : first * 32]
            assert merkle.includes(leaf, first - 1, count, shown, merkle.root(row))


async def test_sealing_holds_up_no_posting_and_is_done_by_one_at_a_time(book: Book) -> None:
    await book.ok(fund(WALLET, 5))
    async with await AsyncConnection.connect(book.database.app_dsn) as other:
        sealing = await seal(other, book.book_id, [SIGNER], NOW)
        assert sealing
        assert sealing.leaves == 11
        # under way and not committed: posting goes on, another sealer finds nothing to do
        await asyncio.wait_for(book.ok(fund(WALLET, 6)), 5)
        assert await seal(book.conn, book.book_id, [SIGNER], NOW) is None
        await book.conn.rollback()
        await other.commit()
    [after] = await seal_all(book)
    assert (after.leaves, after.more, after.checkpoint.size) == (1, False, 12)
    assert await seal_all(book) == []


async def test_what_is_written_but_not_committed_is_not_sealed(book: Book) -> None:
    async with await AsyncConnection.connect(book.database.app_dsn) as other:
        await post(other, book.book_id, [unit(fund(WALLET, 5))], now=NOW)
        assert [s.leaves for s in await seal_all(book)] == [10]
        await other.commit()
    assert [s.leaves for s in await seal_all(book)] == [1]


async def test_a_day_that_was_sealed_as_it_went_ends_where_the_next_one_begins(book: Book) -> None:
    await book.ok(fund(WALLET, 5))
    await seal_all(book)
    await book.ok(fund(WALLET, 6))
    await seal_all(book)
    midnight = datetime(2026, 11, 23, tzinfo=UTC)
    assert await proofs.size_before(book.conn, book.book_id, midnight) is None
    await book.ok(fund(WALLET, 7), now=midnight)
    await seal_all(book)
    assert await proofs.size_before(book.conn, book.book_id, midnight) == 12
    await book.ok(fund(WALLET, 8), now=midnight + timedelta(days=3))
    await book.ok(fund(WALLET, 9), now=midnight + timedelta(days=3))
    assert [s.leaves for s in await seal_all(book)] == [2]
    for days in (1, 2, 3):
        assert await proofs.size_before(book.conn, book.book_id, midnight + timedelta(days=days)) == 13


async def test_a_sealers_clock_that_is_behind_never_takes_the_log_back_in_time(book: Book) -> None:
    await seal_all(book)
    await book.ok(fund(WALLET, 5))
    assert await seal(book.conn, book.book_id, [SIGNER], NOW - timedelta(days=1))
    [(earliest,)] = await rows(book.conn, "SELECT min(sealed_at) FROM ledger.checkpoint")
    assert earliest == NOW


# ---------------------------------------------------------------- what ledger.seal refuses

CALL = "SELECT ledger.seal(%s, %s, %s::integer, %s, %s, %b, %b, %b, %b, %s, %s)"
ROOT = bytes(32)


@pytest.mark.parametrize(
    ("state", "changed"),
    [
        ("KH019", {"note": None}),
        ("KH038", {"book": 999}),
        ("KH038", {"size": 11}),
        ("KH038", {"size": 9}),
        ("KH038", {"at": NOW - timedelta(seconds=1)}),
        ("KH039", {"journals": 3}),
        ("KH039", {"acts": 1}),
        ("KH039", {"accounts": 1, "leaves": ROOT}),
        ("KH039", {"journals": -1}),
        ("KH040", {"journals": 0}),
        ("KH040", {"leaves": ROOT}),
        ("KH040", {"tiles": bytes(8192), "roots": ROOT}),
        ("KH040", {"tiles": ROOT}),
        ("KH040", {"root": ROOT[1:]}),
        ("KH040", {"note": ""}),
        ("KH040", {"journals": 2}),  # of two days
    ],
)
async def test_the_database_takes_only_what_continues_the_log(
    book_of_many: Book, state: str, changed: dict[str, Any]
) -> None:
    book = book_of_many
    await seal_all(book)
    await book.ok(fund(WALLET, 5))
    await book.ok(fund(WALLET, 5), now=NOW + timedelta(days=1))
    given = {
        "book": book.book_id, "size": 10, "accounts": 0, "acts": 0, "journals": 1, "leaves": b"",
        "tiles": b"", "roots": b"", "root": ROOT, "note": "n", "at": NOW,
    }  # fmt: skip
    with pytest.raises(psycopg.Error) as refused:
        await book.conn.execute(CALL, list((given | changed).values()))
    assert refused.value.sqlstate == state
    await book.conn.rollback()
    await book.conn.execute(CALL, list(given.values()))
    await book.conn.rollback()


async def test_a_day_is_not_begun_while_an_entry_of_the_one_before_waits(book: Book) -> None:
    """Else the log could never take that entry: days follow one another."""
    await seal_all(book)
    await book.ok(fund(WALLET, 5))
    await open_accounts(
        book.conn, book.book_id, [m.NewAccount("Assets:Bank:Late", "INR")], now=NOW + timedelta(days=1)
    )
    await book.conn.commit()
    given = [book.book_id, 10, 1, 0, 0, ROOT, b"", b"", ROOT, "n", NOW]
    with pytest.raises(psycopg.Error, match="leaves entries of an earlier one") as refused:
        await book.conn.execute(CALL, given)
    assert refused.value.sqlstate == "KH040"
    await book.conn.rollback()
    assert [s.leaves for s in await seal_all(book)] == [1, 1]
