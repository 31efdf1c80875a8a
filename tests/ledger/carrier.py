"""A process that sends one transfer between books; ``KHATA_CRASH_AT`` says where it dies.

``python -m tests.ledger.carrier DSN FROM TO ID AMOUNT ACCOUNT TO_ACCOUNT``
"""

from __future__ import annotations

import asyncio
import sys
from uuid import UUID

from ledger.transfers import Transfer
from tests.ledger.crowd import carrying


async def main(
    dsn: str, book: str, to_book: str, id_: str, amount: str, account: str, to_account: str
) -> None:
    t = Transfer(UUID(id_), int(book), int(to_book), account, to_account, int(amount), "INR")
    async with carrying(dsn, t.book_id, t.to_book) as (transfers, _):
        print(await transfers.send(t))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
