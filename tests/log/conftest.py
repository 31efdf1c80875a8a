"""A book, and keys that sign its log."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.log.note import Signer
from ledger.log.seal import MOST_LEAVES, Sealed, seal
from tests.ledger.conftest import book as book
from tests.ledger.conftest import book_of_many as book_of_many
from tests.ledger.words import NOW, Book

ORIGIN = "khata.test/log"
SIGNER = Signer(ORIGIN, Ed25519PrivateKey.from_private_bytes(bytes(range(32))))


async def seal_all(book: Book, most: int = MOST_LEAVES) -> list[Sealed]:
    """Batch after batch, each committed."""
    made: list[Sealed] = []
    while sealed := await seal(book.conn, book.book_id, [SIGNER], NOW, most=most):
        await book.conn.commit()
        made.append(sealed)
    await book.conn.rollback()
    return made
