"""A pack imported elsewhere is the same book: row by row, root by root; anything else is refused, and says why."""

from __future__ import annotations

import io
import zipfile
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from itertools import count
from random import Random
from typing import Any

import pytest
from psycopg import AsyncConnection

from khata.database import Database
from ledger import model as m
from ledger.audit import audit
from ledger.books import create_book, open_accounts
from ledger.import_pack import BookNotEmpty, ImportDiffers, Imported, NotImportable, import_pack
from ledger.log.note import Signer
from ledger.post import post
from tests.ledger.random_books import RandomBook
from tests.ledger.random_transfers import exchange
from tests.pack.words import SIGNER, add_key, pack_of, read, seal_all, sealed_book
from tests.server import Server

TABLES = {
    "account": "account_id",
    "account_fact": "account_id, fact",
    "balance": "account_id",
    "journal": "seq",
    "posting": "journal_seq, line",
    "hold": "hold_id",
    "act": "act",
    "proposal": "proposal_id",
    "verdict": "proposal_id",
    "period_fact": "fact",
    "limit_fact": "account_id, name, fact",
    "limit_use": "account_id, name, window_start",
    "log_tile": "level, tile",
    "account_leaf": "account_id",
    "day_end": "covers_before",
}


_BOOKS = count(1)


@pytest.fixture
def name() -> str:
    return f"book-{next(_BOOKS)}"


@pytest.fixture(scope="module")
def elsewhere(server: Server) -> Iterator[Database]:
    with server.fresh_database() as fresh:
        yield fresh


@pytest.fixture
async def there(elsewhere: Database) -> AsyncIterator[AsyncConnection[Any]]:
    async with await AsyncConnection.connect(elsewhere.app_dsn) as conn:
        yield conn


@pytest.fixture
async def here(shared_database: Database) -> AsyncIterator[AsyncConnection[Any]]:
    async with await AsyncConnection.connect(shared_database.app_dsn) as conn:
        yield conn


async def new_key(conn: AsyncConnection[Any], book_id: int) -> list[Signer]:
    cursor = await conn.execute("SELECT count(*) FROM ledger.log_key WHERE book_id = %s", [book_id])
    if (await cursor.fetchone()) == (0,):
        row = await (await conn.execute("SELECT '2026-01-01T00:00:00Z'::timestamptz")).fetchone()
        assert row is not None
        await add_key(conn, book_id, row[0])
    return [SIGNER]


async def loaded(conn: AsyncConnection[Any], pack: bytes, book: RandomBook) -> Imported:
    with zipfile.ZipFile(io.BytesIO(pack)) as archive:
        return await import_pack(conn, archive, new_key, now=book.now)


async def table(conn: AsyncConnection[Any], name: str, book_id: int) -> list[dict[str, Any]]:
    key = TABLES[name]
    sql = f"SELECT to_jsonb(t) - 'book_id' FROM ledger.{name} t WHERE book_id = %s ORDER BY {key}"
    return [row for (row,) in await (await conn.execute(sql.encode(), [book_id])).fetchall()]


async def same_books(
    here: AsyncConnection[Any], first: int, there: AsyncConnection[Any], second: int
) -> None:
    for name in TABLES:
        assert await table(there, name, second) == await table(here, name, first), name


@pytest.mark.parametrize("seed", range(4))
async def test_an_imported_book_is_the_same_row_by_row_and_root_by_root(
    shared_database: Database,
    elsewhere: Database,
    here: AsyncConnection[Any],
    there: AsyncConnection[Any],
    name: str,
    seed: int,
) -> None:
    book = await sealed_book(here, seed, name=name)
    formats = ("csv", "hledger", "ledger", "beancount", "ads")
    pack, written = await pack_of(shared_database, book.book_id, now=book.now, formats=formats)
    imported = await loaded(there, pack, book)
    assert (imported.root, imported.size) == (written.root, written.to_index)
    assert imported.journals == written.journals == book.posted
    await same_books(here, book.book_id, there, imported.book_id)
    async with await AsyncConnection.connect(elsewhere.audit_dsn) as conn:
        assert [check for check in await audit(conn, imported.book_id) if not check.passed] == []
    again, second = await pack_of(elsewhere, imported.book_id, now=book.now, formats=formats)
    for file in second.files:
        # Its log has other checkpoints between; what stands in it is the same, for every other program too.
        if not file.name.startswith(("log/", "manifest")):
            assert read(again, file.name) == read(pack, file.name), file.name


async def test_a_second_import_changes_nothing(
    shared_database: Database, here: AsyncConnection[Any], there: AsyncConnection[Any], name: str
) -> None:
    book = await sealed_book(here, 11, name=name, batches=2)
    pack, written = await pack_of(shared_database, book.book_id, now=book.now)
    await loaded(there, pack, book)
    again = await loaded(there, pack, book)
    assert (again.journals, again.root) == (0, written.root)


async def test_an_import_that_was_stopped_goes_on(
    shared_database: Database,
    here: AsyncConnection[Any],
    there: AsyncConnection[Any],
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    book = await sealed_book(here, 12, name=name)
    pack, written = await pack_of(shared_database, book.book_id, now=book.now)
    monkeypatch.setattr("ledger.import_pack.load._COMMIT_AFTER", 3)

    class Stopped(Exception):
        pass

    async def until(journals: int) -> Imported:
        def stop(more: int) -> None:
            nonlocal journals
            journals -= more
            if journals < 0:
                raise Stopped

        with zipfile.ZipFile(io.BytesIO(pack)) as archive:
            return await import_pack(there, archive, new_key, now=book.now, progress=stop)

    for journals in (20, 40):
        with pytest.raises(Stopped):
            await until(journals)
    imported = await until(10**9)
    assert imported.root == written.root
    assert 0 < imported.journals < written.journals
    await same_books(here, book.book_id, there, imported.book_id)


async def test_a_longer_pack_goes_on_where_a_shorter_one_ended(
    shared_database: Database, here: AsyncConnection[Any], there: AsyncConnection[Any], name: str
) -> None:
    book = await sealed_book(here, 13, name=name, batches=2)
    short, _ = await pack_of(shared_database, book.book_id, now=book.now)
    await book.batch(10)
    await seal_all(here, book.book_id, book.now)
    long, written = await pack_of(shared_database, book.book_id, now=book.now)
    await loaded(there, short, book)
    imported = await loaded(there, long, book)
    assert imported.root == written.root
    await same_books(here, book.book_id, there, imported.book_id)


async def test_a_book_that_holds_something_else_is_left_alone(
    shared_database: Database, here: AsyncConnection[Any], there: AsyncConnection[Any], name: str
) -> None:
    book = await sealed_book(here, 14, name=name, batches=1)
    pack, _ = await pack_of(shared_database, book.book_id, now=book.now)
    other = RandomBook(there, Random(1))
    await other.open(name)
    with pytest.raises(BookNotEmpty, match="journal 1 is another"):
        await loaded(there, pack, book)
    assert len(await table(there, "journal", other.book_id)) == other.posted


async def test_an_empty_book_whose_clock_is_past_the_packs_is_refused(
    shared_database: Database, here: AsyncConnection[Any], there: AsyncConnection[Any], name: str
) -> None:
    book = await sealed_book(here, 19, name=name, batches=1)
    pack, _ = await pack_of(shared_database, book.book_id, now=book.now)
    await create_book(there, name=name, now=book.now)
    with pytest.raises(BookNotEmpty, match="no book's clock goes back"):
        await loaded(there, pack, book)


async def test_a_pack_of_a_period_makes_no_book(
    shared_database: Database, here: AsyncConnection[Any], there: AsyncConnection[Any], name: str
) -> None:
    book = await sealed_book(here, 15, name=name, batches=1)
    book.now += timedelta(days=2)
    await book.batch(5)
    await seal_all(here, book.book_id, book.now)
    pack, _ = await pack_of(shared_database, book.book_id, now=book.now, first=book.now.date())
    with pytest.raises(NotImportable, match="whole log"):
        await loaded(there, pack, book)


async def test_transfers_between_books_are_refused_before_anything_is_made(
    shared_database: Database, here: AsyncConnection[Any], there: AsyncConnection[Any], name: str
) -> None:
    book = await sealed_book(here, 16, name=name, batches=1)
    await exchange(here, name, f"{name}-mate", now=book.now, ids=book.id, random=book.random)
    await seal_all(here, book.book_id, book.now)
    pack, _ = await pack_of(shared_database, book.book_id, now=book.now)
    with pytest.raises(NotImportable, match="transfer between books"):
        await loaded(there, pack, book)
    assert await (
        await there.execute("SELECT count(*) FROM ledger.book WHERE name = %s", [name])
    ).fetchone() == (0,)


async def test_an_entry_that_the_ledger_refuses_is_named(
    shared_database: Database, here: AsyncConnection[Any], there: AsyncConnection[Any], name: str
) -> None:
    """As if somebody had made up a pack with keys of their own: the rules judge it again."""
    book = await sealed_book(here, 17, name=name, batches=1)
    pack, _ = await pack_of(shared_database, book.book_id, now=book.now)
    forged = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(pack)) as old, zipfile.ZipFile(forged, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "journal.jsonl":
                data = data.replace(b'"amount":"700"', b'"amount":"90000"')
            new.writestr(name, data)
    with pytest.raises(ImportDiffers, match=r"insufficient_funds.*it stands"):
        await loaded(there, forged.getvalue(), book)


async def test_who_posts_in_between_is_noticed(
    shared_database: Database, here: AsyncConnection[Any], there: AsyncConnection[Any], name: str
) -> None:
    book = await sealed_book(here, 18, name=name, batches=1)
    pack, _ = await pack_of(shared_database, book.book_id, now=book.now)
    imported = await loaded(there, pack, book)
    await open_accounts(there, imported.book_id, [m.NewAccount("Assets:New", "INR")], now=book.now)
    [posted] = await post(there, imported.book_id, [m.Unit((book.journal(book.pay(
        "Assets:New", "Income:Fees:card", 5, "INR")),))], now=book.now)  # fmt: skip
    assert isinstance(posted, m.Posted)
    await there.commit()
    with pytest.raises(BookNotEmpty):
        await loaded(there, pack, book)
