"""Secrets of the API, all derived from one master key that never enters the database."""

from __future__ import annotations

import hashlib
import hmac
import os
from dataclasses import dataclass, field
from functools import lru_cache

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_NONCE_BYTES = 12


def _derive(master: bytes, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=b"khata/api/" + purpose).derive(master)


@lru_cache(maxsize=8)
def _cipher(key: bytes) -> AESGCM:
    """Made once: its tables take longer to set up than a short answer to encrypt."""
    return AESGCM(key)


@dataclass(frozen=True, slots=True)
class ApiSecrets:
    """``pepper`` authenticates client secrets, ``sealing_key`` encrypts signing keys, ``request_key`` keys the
    hashes of requests (32 bytes each)."""

    pepper: bytes = field(repr=False)
    sealing_key: bytes = field(repr=False)
    request_key: bytes = field(repr=False)

    @classmethod
    def derive(cls, master: bytes) -> ApiSecrets:
        """From a master key of at least 32 random bytes (HKDF-SHA256, one label each)."""
        if len(master) < 32:
            raise ValueError("the master key needs at least 32 bytes")
        return cls(*(_derive(master, word) for word in (b"client-secret", b"signing-key", b"request-hash")))

    def mac(self, client_id: str, secret: str) -> bytes:
        """What is stored of a client secret. A fast MAC is enough: secrets are 256 random bits, not words."""
        return hmac.digest(self.pepper, f"{client_id}\n{secret}".encode(), hashlib.sha256)

    def request_hash(self, method: str, path: str, body: bytes) -> bytes:
        """Equal for equal requests. Keyed, because a plain hash of a card number can be tried out."""
        return hmac.digest(self.request_key, f"{method} {path}\n".encode() + body, hashlib.sha256)

    def seal(self, plain: bytes, bound_to: str) -> bytes:
        """AES-256-GCM: nonce, then ciphertext and tag; opens only with the same ``bound_to``."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + _cipher(self.sealing_key).encrypt(nonce, plain, bound_to.encode())

    def open(self, sealed: bytes, bound_to: str) -> bytes:
        """Raises ``cryptography.exceptions.InvalidTag`` if it was sealed otherwise."""
        return _cipher(self.sealing_key).decrypt(
            sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], bound_to.encode()
        )
