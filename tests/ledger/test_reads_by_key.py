"""What a batch costs must not depend on how long the book is: everything it needs is found by key."""

from __future__ import annotations

import psycopg

from ledger import model as m
from tests.ledger.words import AUTHORIZATIONS, ESCROW, ISSUERS, WALLET, Book, journal, new_id, pay

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


def holds(count: int) -> list[m.Journal]:
    return [journal(hold=m.Place(new_id(), AUTHORIZATIONS, ISSUERS, 1, "INR")) for _ in range(count)]


async def walked(book: Book) -> dict[str, int]:
    """Rows read so far: by sequential scans of each table, and through indexes that posting does not look up."""
    await book.conn.execute("SELECT pg_stat_force_next_flush()")
    await book.conn.commit()
    async with await psycopg.AsyncConnection.connect(book.database.owner_dsn) as owner:
        cursor = await owner.execute(
            "SELECT relname, seq_tup_read FROM pg_stat_user_tables WHERE schemaname = 'ledger'"
            " AND relname IN ('journal', 'posting', 'hold')"
            " UNION ALL SELECT indexrelname, idx_tup_read FROM pg_stat_user_indexes WHERE schemaname = 'ledger'"
            " AND relname IN ('journal', 'posting', 'hold')"
        )
        return dict(await cursor.fetchall())
