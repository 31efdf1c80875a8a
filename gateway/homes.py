"""Which book a new merchant is at home in, where none is named. Its home never changes afterwards.

Rendezvous hashing (Thaler and Ravishankar, 1998): each book bids with a hash of its name and the merchant's id, the
highest bid wins. Every process says the same without asking or counting, merchants spread evenly, and a book that is
added wins its share of the new ones and nobody else's. A book that shall take no more is left out of the list.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from uuid import UUID


def home_of(merchant_id: UUID, books: Sequence[str]) -> str:
    """One of ``books`` (names, at least one), whatever their order."""
    return max(books, key=lambda book: sha256(merchant_id.bytes + book.encode()).digest())
