"""kill -9 between any two steps of a transfer: it ends once all the same, and never twice."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from khata.database import Database
from ledger.points import VARIABLE, WRITER_COMMITTED, WRITER_POSTED
from ledger.transfers import Transfer, TransferState, clearing, find, in_flight
from tests.ledger.two_books import HERE, THERE, TwoBooks, two_books

ROOT = Path(__file__).parents[2]
# Which batch of the carrier's writers: 1 sends, 2 receives (or is refused), 3 gives back.
RECEIVED = tuple(f"{point}:{n}" for n in (1, 2) for point in (WRITER_POSTED, WRITER_COMMITTED))
REFUSED = tuple(f"{point}:{n}" for n in (1, 2, 3) for point in (WRITER_POSTED, WRITER_COMMITTED))
NEVER_SENT = f"{WRITER_POSTED}:1"


async def die(books: TwoBooks, t: Transfer, point: str) -> int:
    """Send ``t`` in a process that dies at ``point``; its exit status."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.ledger.carrier", books.database.app_dsn),
        *map(str, (t.book_id, t.to_book, t.id, t.amount, t.account, t.to_account)),
        env=os.environ | {VARIABLE: point},
        cwd=ROOT,
        stdout=asyncio.subprocess.DEVNULL,
    )
    return await process.wait()


async def test_a_transfer_whose_process_is_killed_at_any_step_ends_once(database: Database) -> None:
    async with two_books(database, money=10_000) as books:
        good = {point: books.transfer(100 + n) for n, point in enumerate(RECEIVED)}
        nobody = "Liabilities:Customer:nobody:Wallet"
        bad = {point: books.transfer(200 + n, to_account=nobody) for n, point in enumerate(REFUSED)}
        killed = [(t, point) for group in (good, bad) for point, t in group.items()]
        statuses = await asyncio.gather(*(die(books, t, point) for t, point in killed))
        assert statuses == [-signal.SIGKILL] * len(killed)
        async with books.connect() as conn:
            left = {found.transfer.id for found in await in_flight(conn, books.here, limit=100)}
            unsent = [t for t, point in killed if await find(conn, t.book_id, t.id) is None]
        assert unsent == [t for t, point in killed if point == NEVER_SENT]
        # The last point of a refused one is after its end.
        assert left == {t.id for t, _ in killed} - {t.id for t in unsent} - {bad[REFUSED[-1]].id}
        assert await books.transfers.recover() == len(left)
        for t in unsent:
            await books.send(t)
        assert await books.transfers.recover() == 0
        for group, state in ((good, TransferState.COMPLETED), (bad, TransferState.RETURNED)):
            for t in group.values():
                assert (await books.send(t)).state is state
                last = (
                    (books.there, "received")
                    if state is TransferState.COMPLETED
                    else (books.here, "returned")
                )
                assert await books.events(t.id) == [(books.here, "sent"), last]
        moved = sum(t.amount for t in good.values())
        assert await books.posted(books.here) == 10_000 - moved
        assert await books.posted(books.there) == 10_000 + moved
        owed = (
            await books.posted(books.here, clearing(THERE)),
            await books.posted(books.there, clearing(HERE)),
        )
        assert owed == (-moved, moved)
