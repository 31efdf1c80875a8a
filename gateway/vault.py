"""Card numbers under envelope encryption; everywhere else there is only a token.

Each card is sealed with its own data key (AES-256-GCM, NIST SP 800-38D, 96-bit random nonces: one message a
key), and the data key with a key-encryption key from the ``KeyProvider``. Both are bound to merchant and token
as associated data, so a row moved to another merchant or token does not open. CVVs are never stored.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import ids, tables
from gateway.cards import Card, Pan
from gateway.errors import TokenNotFound, VaultTampered
from gateway.store import hexed

KEY_BYTES = 32
_NONCE_BYTES = 12


class KeyProvider(Protocol):
    """Where key-encryption keys come from. Each is 32 bytes and named by an id that is kept with what it wraps."""

    @property
    def current(self) -> str:
        """The id of the key that wraps from now on."""
        ...

    def key(self, key_id: str) -> bytes:
        """A key by its id, retired ones included; raises ``KeyUnknown``."""
        ...

    def fingerprint_key(self) -> bytes:
        """The HMAC key of card fingerprints; it stays, or the same card would look new."""
        ...


class Vault:
    """``random(n)`` gives n random bytes fit for keys (``os.urandom``)."""

    def __init__(self, keys: KeyProvider, random: Callable[[int], bytes]) -> None:
        self._keys = keys
        self._random = random

    async def tokenise(
        self, conn: AsyncConnection, merchant_id: UUID, card: Card, *, id: UUID, now: Any
    ) -> str:
        """Seal number and expiry of ``card`` and return its new token, ``card_…`` of ``id``. Never commits."""
        token = ids.public(ids.CARD, id)
        row = self.seal(merchant_id, token, card)
        await conn.execute(insert(tables.vault_card).values(**row, created_at=now))
        return token

    def row(self, merchant_id: UUID, token: str, card: Card, *, now: datetime) -> dict[str, Any]:
        """The row of ``card``, sealed, as JSON carries it (``gateway.opening``)."""
        row = self.seal(merchant_id, token, card)
        hidden = {name: hexed(row[name]) for name in ("wrapped_key", "sealed", "fingerprint")}
        return row | hidden | {"created_at": now}

    async def reveal(self, conn: AsyncConnection, merchant_id: UUID, token: str) -> Card:
        """The card (without a CVV) of one of this merchant's tokens.

        Raises ``TokenNotFound`` (missing and another merchant's alike), ``VaultTampered``, ``KeyUnknown``.
        """
        t = tables.vault_card
        query = select(t).where(t.c.token == token, t.c.merchant_id == merchant_id)
        row = (await conn.execute(query)).mappings().one_or_none()
        if row is None:
            raise TokenNotFound
        return self.open(merchant_id, token, row["key_id"], row["wrapped_key"], row["sealed"])

    def seal(self, merchant_id: UUID, token: str, card: Card) -> dict[str, Any]:
        """The row of ``gateway.vault_card`` for ``card``, without its time."""
        key_id, bound = self._keys.current, _bound(merchant_id, token)
        data_key = self._random(KEY_BYTES)
        content = orjson.dumps({"pan": card.pan.reveal(), "expiry": card.expiry})
        return {
            "token": token,
            "merchant_id": merchant_id,
            "key_id": key_id,
            "wrapped_key": self._encrypt(self._keys.key(key_id), data_key, bound + b"key"),
            "sealed": self._encrypt(data_key, content, bound + b"card"),
            "fingerprint": self.fingerprint(merchant_id, card.pan),
            "brand": card.pan.brand,
            "last4": card.pan.last4,
        }

    def open(self, merchant_id: UUID, token: str, key_id: str, wrapped_key: bytes, sealed: bytes) -> Card:
        """The inverse of ``seal``; raises ``VaultTampered`` if anything at all was changed or moved."""
        bound = _bound(merchant_id, token)
        try:
            data_key = _decrypt(self._keys.key(key_id), wrapped_key, bound + b"key")
            content = orjson.loads(_decrypt(data_key, sealed, bound + b"card"))
        except InvalidTag:
            # Not chained: a traceback must not carry what was decrypted so far.
            raise VaultTampered(key_id) from None
        return Card(Pan(content["pan"]), content["expiry"])

    def fingerprint(self, merchant_id: UUID, pan: Pan) -> bytes:
        """Equal for one card of one merchant; useless to link merchants or to find the number."""
        return hmac.digest(self._keys.fingerprint_key(), merchant_id.bytes + pan.reveal().encode(), "sha256")

    def _encrypt(self, key: bytes, content: bytes, bound: bytes) -> bytes:
        nonce = self._random(_NONCE_BYTES)
        return nonce + AESGCM(key).encrypt(nonce, content, bound)


def _decrypt(key: bytes, sealed: bytes, bound: bytes) -> bytes:
    return AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], bound)


def _bound(merchant_id: UUID, token: str) -> bytes:
    # Fixed length first: no two pairs of merchant and token give the same bytes.
    return merchant_id.bytes + token.encode() + b"\x00"
