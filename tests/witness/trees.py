"""RFC 6962 section 2.1 word for word, beside the implementation: roots and proofs of lists of leaves."""

from __future__ import annotations

import base64
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.log.note import Signer

ORIGIN = "khata.test/main"


def mth(leaves: list[bytes]) -> bytes:
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0]).digest()
    k = _half(len(leaves))
    return sha256(b"\x01" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def path(m: int, leaves: list[bytes]) -> list[bytes]:
    """PATH(m, D[n])."""
    if len(leaves) == 1:
        return []
    k = _half(len(leaves))
    if m < k:
        return [*path(m, leaves[:k]), mth(leaves[k:])]
    return [*path(m - k, leaves[k:]), mth(leaves[:k])]


def proof(m: int, leaves: list[bytes]) -> list[bytes]:
    """PROOF(m, D[n])."""
    return [] if m == 0 else _subproof(m, leaves, True)


def _subproof(m: int, leaves: list[bytes], complete: bool) -> list[bytes]:
    if m == len(leaves):
        return [] if complete else [mth(leaves)]
    k = _half(len(leaves))
    if m <= k:
        return [*_subproof(m, leaves[:k], complete), mth(leaves[k:])]
    return [*_subproof(m - k, leaves[k:], False), mth(leaves[:k])]


def _half(n: int) -> int:
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def tree(size: int, salt: str = "") -> list[bytes]:
    return [f"{salt if n > 2 else ''}{n}".encode() for n in range(size)]


def key_of(seed: int, name: str = ORIGIN) -> Signer:
    return Signer(name, Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32))


def text_of(leaves: list[bytes], origin: str = ORIGIN, *more: str) -> str:
    return "\n".join((origin, str(len(leaves)), base64.b64encode(mth(leaves)).decode(), *more)) + "\n"


def submission(old: int | str, proof_of: list[bytes], note: str) -> bytes:
    lines = [f"old {old}", *(base64.b64encode(hash_).decode() for hash_ in proof_of), "", note]
    return "\n".join(lines).encode()
