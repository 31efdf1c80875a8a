"""An export in another program's form of a book that somebody changed behind the ledger's back breaks off."""

from __future__ import annotations

import pytest
from psycopg import AsyncConnection

from khata.database import Database
from khata.tamper.schema import defenceless
from ledger.export import FILES, FORMATS, Selection, export_file
from ledger.export.errors import BookAltered
from tests.ledger.random_books import random_book

CHANGES = {
    "canonical": "UPDATE ledger.journal SET canonical = replace(canonical, '50000', '50001') WHERE seq = 2",
    "leaf_hash": "UPDATE ledger.journal SET leaf_hash = sha256(leaf_hash) WHERE seq = 2",
    "kind": "UPDATE ledger.journal SET kind = 'another' WHERE seq = 2",
    "effective_at": "UPDATE ledger.journal SET effective_at = effective_at - interval '1 day' WHERE seq = 2",
    "amount": "UPDATE ledger.posting SET amount = amount + 1 WHERE journal_seq = 2",
    "credit": "UPDATE ledger.posting SET credit_account = credit_account + 1 WHERE journal_seq = 2",
    "no line": r"UPDATE ledger.journal SET canonical = 'x', leaf_hash = sha256('\x0078'::bytea) WHERE seq = 2",
    "gone": "DELETE FROM ledger.journal WHERE seq = 2",
}


@pytest.mark.parametrize("what", list(CHANGES))
async def test_no_form_of_an_altered_book_ends_as_if_whole(shared_database: Database, what: str) -> None:
    async with await AsyncConnection.connect(shared_database.app_dsn) as conn:
        book_id = (
            await random_book(conn, 3, name=f"altered-{what}".translate({95: "-", 32: "-"}), batches=2)
        ).book_id
    async with await AsyncConnection.connect(shared_database.owner_dsn) as conn, defenceless(conn):
        await conn.execute(f"{CHANGES[what]} AND book_id = {book_id}".encode())
        for format in FORMATS:
            with pytest.raises(BookAltered, match=r"^journal 2\b"):
                async for _ in export_file(conn, book_id, format, FILES[format][0], Selection()):
                    pass
