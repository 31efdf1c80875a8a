"""Packs of random books, whole and day by day, before the stand-alone verifier."""

from __future__ import annotations

import itertools
from datetime import timedelta
from pathlib import Path

import pytest
from psycopg import AsyncConnection

from khata.database import Database
from tests.ledger.random_transfers import exchange
from tests.pack.words import pack_of, seal_all, sealed_book, snapshot
from tests.verifier.run import verify


@pytest.mark.parametrize("seed", range(31, 35))
async def test_the_verifier_proves_every_pack_and_that_each_goes_on_where_the_last_one_ended(
    shared_database: Database, tmp_path: Path, seed: int
) -> None:
    name = f"book-{seed}"
    async with await AsyncConnection.connect(shared_database.app_dsn) as conn:
        book = await sealed_book(conn, seed, name=name, batches=8, size=15, most=40)
        await exchange(conn, name, f"{name}-mate", now=book.now, ids=book.id, random=book.random)
        await seal_all(conn, book.book_id, book.now)
    async with snapshot(shared_database) as conn:
        sql = "SELECT covers_before FROM ledger.day_end WHERE book_id = %s AND size > 0 ORDER BY size"
        rows = await (await conn.execute(sql, [book.book_id])).fetchall()
    days = [None, *(at.date() for (at,) in rows), None]
    last = book.now.date()
    before: tuple[str, ...] = ()
    empty = (last + timedelta(days=1), last + timedelta(days=2))
    for number, (first, until) in enumerate([(None, None), *itertools.pairwise(days), empty]):
        path = tmp_path / f"{number}.zip"
        pack, _ = await pack_of(
            shared_database, book.book_id, now=book.now + timedelta(days=3), first=first, until=until
        )
        path.write_bytes(pack)
        code, report = verify(path, *before)
        assert code == 0, (first, until, report)
        if number:  # the pack of everything comes first, the others follow one another
            before = ("--prior", str(path))
