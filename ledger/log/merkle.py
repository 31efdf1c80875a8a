"""Merkle trees of RFC 9162 section 2.1 over SHA-256: roots, and verification of inclusion and consistency proofs.

Pure functions of hashes. A row of hashes is one ``bytes``, 32 after 32; an index counts leaves from 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from ledger.canonical import leaf_hash as leaf_hash

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()

Range = tuple[int, int]  # leaves begin..end - 1


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def root(row: bytes) -> bytes:
    """The root over a row of hashes: of leaves, or of perfect subtrees of one size, of which the last may be smaller.

    Level by level, an odd one at the end going up as it is: the same tree as MTH of RFC 9162 section 2.1.1.
    """
    if not row:
        return EMPTY_ROOT
    while len(row) > HASH_BYTES:
        odd = row[-HASH_BYTES:] if len(row) // HASH_BYTES % 2 else b""
        pairs = range(0, len(row) - len(odd), 2 * HASH_BYTES)
        row = b"".join([sha256(b"\x01" + row[at : at + 64]).digest() for at in pairs]) + odd
    return row


def hashes(row: bytes) -> list[bytes]:
    return [row[at : at + HASH_BYTES] for at in range(0, len(row), HASH_BYTES)]


def split(size: int) -> int:
    """The largest power of two below ``size``, which is at least 2: the leaves left of the root."""
    return 1 << (size - 1).bit_length() - 1


def inclusion_path(index: int, size: int) -> list[Range]:
    """The subtrees whose roots are the inclusion proof of a leaf, in its order (section 2.1.3.1)."""
    begin, end = 0, size
    path: list[Range] = []
    while end - begin > 1:
        middle = begin + split(end - begin)
        if index < middle:
            path.append((middle, end))
            end = middle
        else:
            path.append((begin, middle))
            begin = middle
    return path[::-1]


def consistency_path(first: int, second: int) -> list[Range]:
    """The subtrees whose roots prove that ``first`` leaves begin the tree of ``second`` (section 2.1.4.1);
    0 < first <= second."""
    begin, end = 0, second
    path: list[Range] = []
    while first != end:
        middle = begin + split(end - begin)
        if first <= middle:
            path.append((middle, end))
            end = middle
        else:
            path.append((begin, middle))
            begin = middle
    if begin:
        path.append((begin, end))
    return path[::-1]


def perfect_parts(begin: int, end: int) -> list[tuple[int, int]]:
    """The perfect subtrees, left to right, that make up a subtree: (level, number), whose leaves are those from
    ``number << level`` up. Of ``(0, size)`` they are the frontier of that tree, largest first."""
    parts: list[tuple[int, int]] = []
    while begin < end:
        level = (end - begin).bit_length() - 1
        if begin:
            level = min(level, (begin & -begin).bit_length() - 1)
        parts.append((level, begin >> level))
        begin += 1 << level
    return parts


def fold(parts: Sequence[bytes]) -> bytes:
    """The root over the subtrees of ``perfect_parts``."""
    if not parts:
        return EMPTY_ROOT
    *others, folded = parts
    for left in reversed(others):
        folded = node_hash(left, folded)
    return folded


class Frontier:
    """The roots of the perfect subtrees that make up the leaves so far, largest first: all that more leaves need."""

    def __init__(self, size: int = 0, parts: Sequence[bytes] = ()) -> None:
        """Raises ``ValueError`` if so many leaves are not made up of so many subtrees."""
        if len(parts) != size.bit_count():
            raise ValueError(f"{size} leaves are {size.bit_count()} subtrees, not {len(parts)}")
        self.size = size
        self.parts = list(parts)

    def append(self, leaf: bytes) -> None:
        self.size += 1
        for _ in range((self.size & -self.size).bit_length() - 1):
            leaf = node_hash(self.parts.pop(), leaf)
        self.parts.append(leaf)

    def root(self) -> bytes:
        return fold(self.parts)


def includes(leaf: bytes, index: int, size: int, proof: Sequence[bytes], of_root: bytes) -> bool:
    """Whether the proof shows the leaf hash at ``index`` in the tree of that size and root (section 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    path = inclusion_path(index, size)
    if len(proof) != len(path):
        return False
    for (begin, _), other in zip(path, proof, strict=True):
        leaf = node_hash(leaf, other) if begin > index else node_hash(other, leaf)
    return leaf == of_root


def consistent(
    first: int, second: int, first_root: bytes, second_root: bytes, proof: Sequence[bytes]
) -> bool:
    """Whether the proof shows the tree of ``first`` leaves to begin that of ``second`` (section 2.1.4.2).

    No leaves begin every tree: that needs no proof, but the root of no leaves.
    """
    if not 0 <= first <= second:
        return False
    if first == second or first == 0:
        return not proof and first_root == (second_root if first else EMPTY_ROOT)
    rest = list(proof)
    if first & (first - 1) == 0:  # itself one of the subtrees
        rest.insert(0, first_root)
    if not rest or any(len(other) != HASH_BYTES for other in rest):
        return False
    old = new = rest[0]
    node, last = first - 1, second - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    for other in rest[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            old, new = node_hash(other, old), node_hash(other, new)
            while node and not node & 1:
                node, last = node >> 1, last >> 1
        else:
            new = node_hash(new, other)
        node, last = node >> 1, last >> 1
    return last == 0 and old == first_root and new == second_root
