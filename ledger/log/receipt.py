"""Receipts: what a log's key says of one journal, before it is sealed and after (docs/log.md, "Receipts")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection

from ledger.log import proofs
from ledger.log.note import Signer, sign

_HEADER = "khata receipt"


def receipt_text(origin: str, journal_id: UUID, seq: int, leaf_hash: bytes) -> str:
    """The statement: the journal of that id stands in the book at that number, and this is its leaf's hash."""
    return f"{_HEADER}\n{origin}\n{journal_id}\n{seq}\n{leaf_hash.hex()}\n"


@dataclass(frozen=True, slots=True)
class Inclusion:
    """That a leaf is in the tree of ``size``, whose root ``checkpoint`` (a signed note) states."""

    index: int
    size: int
    path: Sequence[bytes]
    checkpoint: str


def sign_receipt(journal_id: UUID, seq: int, leaf_hash: bytes, signers: Sequence[Signer]) -> str:
    """The signed note, the same each time as long as the same keys sign. ``signers`` bear the origin as their name."""
    return sign(receipt_text(signers[0].name, journal_id, seq, leaf_hash), signers)


async def inclusion_of(conn: AsyncConnection[Any], book_id: int, seq: int) -> Inclusion | None:
    """The proof of a journal in the first checkpoint that covers it: for ever the same. None: it is not sealed yet."""
    index = await proofs.leaf_index(conn, book_id, "journal", seq)
    checkpoint = None if index is None else await proofs.checkpoint_covering(conn, book_id, index + 1)
    if index is None or checkpoint is None:
        return None
    path = await proofs.inclusion(conn, book_id, index, checkpoint.size)
    return Inclusion(index, checkpoint.size, path, await proofs.cosigned(conn, book_id, checkpoint))
