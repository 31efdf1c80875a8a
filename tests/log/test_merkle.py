"""Roots and proofs against RFC 9162's own words: a recursion as slow and as plain as they are."""

from __future__ import annotations

import random
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.log import merkle

# The eight leaves and roots of the certificate-transparency reference tests (RFC 6962, SHA-256).
LEAVES = [bytes.fromhex(h) for h in (
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
)]  # fmt: skip
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]

sizes = st.integers(1, 600)


def leaf(n: int) -> bytes:
    return sha256(f"leaf {n}".encode()).digest()


def mth(leaves: list[bytes]) -> bytes:
    """RFC 9162 section 2.1.1, of leaf hashes."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return sha256(b"\x01" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def path(m: int, leaves: list[bytes]) -> list[bytes]:
    """Section 2.1.3.1."""
    if len(leaves) == 1:
        return []
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if m < k:
        return [*path(m, leaves[:k]), mth(leaves[k:])]
    return [*path(m - k, leaves[k:]), mth(leaves[:k])]


def subproof(m: int, leaves: list[bytes], whole: bool) -> list[bytes]:
    """Section 2.1.4.1."""
    if m == len(leaves):
        return [] if whole else [mth(leaves)]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if m <= k:
        return [*subproof(m, leaves[:k], whole), mth(leaves[k:])]
    return [*subproof(m - k, leaves[k:], False), mth(leaves[:k])]


def tree(size: int) -> list[bytes]:
    return [leaf(n) for n in range(size)]


def test_the_published_roots_are_ours() -> None:
    row, frontier = b"", merkle.Frontier()
    assert merkle.root(b"") == frontier.root() == merkle.EMPTY_ROOT
    for line, expected in zip(LEAVES, ROOTS, strict=True):
        row += merkle.leaf_hash(line)
        frontier.append(row[-32:])
        assert merkle.root(row).hex() == frontier.root().hex() == expected


@given(sizes)
def test_a_root_is_the_recursions_whichever_way_it_is_made(size: int) -> None:
    leaves = tree(size)
    frontier = merkle.Frontier()
    for each in leaves:
        frontier.append(each)
    parts = [mth(leaves[n << lvl : (n + 1) << lvl]) for lvl, n in merkle.perfect_parts(0, size)]
    assert merkle.root(b"".join(leaves)) == frontier.root() == mth(leaves)
    assert frontier.parts == parts
    assert merkle.Frontier(size, parts).root() == merkle.fold(parts) == mth(leaves)


def test_a_frontier_has_a_part_for_each_bit_of_its_size() -> None:
    with pytest.raises(ValueError, match="5 leaves are 2 subtrees, not 1"):
        merkle.Frontier(5, [leaf(0)])


@given(sizes, st.data())
def test_an_inclusion_proof_is_the_recursions_and_holds(size: int, data: st.DataObject) -> None:
    leaves, index = tree(size), data.draw(st.integers(0, size - 1))
    proof = [mth(leaves[begin:end]) for begin, end in merkle.inclusion_path(index, size)]
    assert proof == path(index, leaves)
    assert merkle.includes(leaves[index], index, size, proof, mth(leaves))


@given(sizes, st.data())
def test_a_consistency_proof_is_the_recursions_and_holds(size: int, data: st.DataObject) -> None:
    leaves, first = tree(size), data.draw(st.integers(1, size))
    proof = [mth(leaves[begin:end]) for begin, end in merkle.consistency_path(first, size)]
    assert proof == subproof(first, leaves, True)
    assert merkle.consistent(first, size, mth(leaves[:first]), mth(leaves), proof)


@given(sizes, st.data())
def test_an_altered_inclusion_proof_does_not_hold(size: int, data: st.DataObject) -> None:
    leaves, index = tree(size), data.draw(st.integers(0, size - 1))
    proof, root = path(index, leaves), mth(leaves)
    for at in range(len(proof)):
        other = [*proof[:at], bytes(32), *proof[at + 1 :]]
        assert not merkle.includes(leaves[index], index, size, other, root)
    assert not merkle.includes(leaves[index], index, size, [*proof, bytes(32)], root)
    assert not proof or not merkle.includes(leaves[index], index, size, proof[:-1], root)
    assert not merkle.includes(leaf(-1), index, size, proof, root)
    assert not merkle.includes(leaves[index], index, index, proof, root)
    for elsewhere in {index ^ 1, index + 2, size, -1}:
        assert not merkle.includes(leaves[index], elsewhere, size, proof, root)


@given(sizes, st.data())
def test_no_fork_has_a_consistency_proof(size: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(1, size))
    leaves = tree(size)
    forked = list(leaves)
    forked[data.draw(st.integers(0, first - 1))] = leaf(-1)
    proof = subproof(first, leaves, True)
    for old, new in ((forked, leaves), (leaves, forked)):
        for shown in (proof, subproof(first, forked, True)):
            assert not merkle.consistent(first, size, mth(old[:first]), mth(new), shown)
    for at in range(len(proof)):
        other = [*proof[:at], bytes(32), *proof[at + 1 :]]
        assert not merkle.consistent(first, size, mth(leaves[:first]), mth(leaves), other)
    assert not merkle.consistent(first, size, mth(leaves[:first]), mth(leaves), [*proof, bytes(32)])
    assert first == size or not merkle.consistent(size, first, mth(leaves), mth(leaves[:first]), proof)


def test_nothing_begins_every_tree() -> None:
    root = mth(tree(5))
    assert merkle.consistent(0, 5, merkle.EMPTY_ROOT, root, [])
    assert not merkle.consistent(0, 5, root, root, [])
    assert not merkle.consistent(0, 5, merkle.EMPTY_ROOT, root, [root])
    assert merkle.consistent(5, 5, root, root, [])
    assert not merkle.consistent(5, 5, root, bytes(32), [])


def test_proofs_of_a_large_tree_are_short() -> None:
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    size = 1 << 40
    for _ in range(100):
        index = rng.randrange(size)
        assert len(merkle.inclusion_path(index, size)) == 40, seed
        assert len(merkle.consistency_path(index + 1, size)) <= 41, seed
