"""The transparency log of a book: one Merkle tree over everything that was recorded in it (docs/log.md)."""
