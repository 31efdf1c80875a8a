"""What a batch costs must not depend on how long the book is: everything it needs is found by key."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg

from ledger import model as m
from ledger.books import open_accounts
from tests.ledger.words import AUTHORIZATIONS, ESCROW, ISSUERS, WALLET, Book, journal, new_id, pay

YOUNG = 600  # accounts: an autovacuum, should it come by, only makes the plans better
GROWN = 10_000  # journals; from here on each session keeps its plans (ledger.plan_for)


async def test_a_batch_walks_no_table_and_no_index_of_a_grown_book(book: Book) -> None:
    await book.ok(*holds(500))
    for _ in range(GROWN // 1000):
        await book.ok(*(journal(pay(WALLET, ESCROW, 1)) for _ in range(1000)))
    async with await psycopg.AsyncConnection.connect(book.database.app_dsn) as conn:
        fresh = Book(conn, book.book_id, book.database, book.now)  # no plan from when the book was young
        await fresh.ok(*holds(1))
        before = await walked(fresh)
        for _ in range(10):
            placed = holds(3)
            await fresh.ok(*placed, *(journal(pay(WALLET, ESCROW, 1)) for _ in range(3)))
            await fresh.ok(*(journal(hold=m.Release(j.hold.hold_id)) for j in placed if j.hold))
        after = await walked(fresh)
    # Twenty batches of a few units read a few hundred rows; walking an index once is ten thousand.
    assert {name: after[name] - n for name, n in before.items() if after[name] - n > 1000} == {}


async def test_a_batch_of_a_book_that_was_never_analysed_reads_what_it_touches(book: Book) -> None:
    wallets = [f"Liabilities:Customer:young{n}:Wallet" for n in range(YOUNG)]
    await open_accounts(book.conn, book.book_id, [m.NewAccount(w, "INR") for w in wallets], now=book.now)
    await book.conn.commit()
    before = await walked(book, ("account", "balance", "hold"))
    await book.ok(*(journal(pay(ESCROW, wallet, 1)) for wallet in wallets))
    placed = [journal(hold=m.Place(new_id(), wallet, WALLET, 1, "INR")) for wallet in wallets]
    await book.ok(*placed)
    await book.ok(*(journal(hold=m.Release(j.hold.hold_id)) for j in placed if j.hold))
    after = await walked(book, ("account", "balance", "hold"))
    # Some ten look-ups a unit; walking the accounts for each unit is a thousand.
    assert {name: after[name] - n for name, n in before.items() if after[name] - n > 60 * YOUNG} == {}


def holds(count: int) -> list[m.Journal]:
    return [journal(hold=m.Place(new_id(), AUTHORIZATIONS, ISSUERS, 1, "INR")) for _ in range(count)]


async def walked(book: Book, tables: Sequence[str] = ("journal", "posting", "hold")) -> dict[str, int]:
    """Rows read so far: by sequential scans of each table, and through each of its indexes."""
    await book.conn.execute("SELECT pg_stat_force_next_flush()")
    await book.conn.commit()
    async with await psycopg.AsyncConnection.connect(book.database.owner_dsn) as owner:
        cursor = await owner.execute(
            "SELECT relname, seq_tup_read FROM pg_stat_user_tables WHERE schemaname = 'ledger'"
            " AND relname = ANY(%(tables)s)"
            " UNION ALL SELECT indexrelname, idx_tup_read FROM pg_stat_user_indexes WHERE schemaname = 'ledger'"
            " AND relname = ANY(%(tables)s)",
            {"tables": list(tables)},
        )
        return dict(await cursor.fetchall())
