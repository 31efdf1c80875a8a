"""The log of the sample book: sealed now and then, under two keys, and cosigned by two witnesses."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from psycopg import AsyncConnection

from api.secrets import ApiSecrets
from ledger.log import keys
from ledger.log.note import Type, Verifier, cosigned, signature_line
from ledger.log.seal import seal

ORIGIN = "khata.test/sample"
WITNESSES = ("witness.test/one", "witness.test/two")
SECRETS = ApiSecrets.derive(bytes(32))


def _private(name: str) -> Ed25519PrivateKey:
    """The same each time: it protects nothing."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())


async def seal_sample(conn: AsyncConnection[Any], book_id: int, now: datetime) -> None:
    """Everything recorded so far, a checkpoint a day; both witnesses see the last one."""
    await keys.begin_log(conn, book_id, ORIGIN, _private("first"), SECRETS, now=now)
    ring = await keys.open_keys(conn, book_id, SECRETS, now=now)
    last = None
    while sealed := await seal(conn, book_id, ring.signers(now), now):
        last = sealed.checkpoint
    if last is not None:
        for name in WITNESSES:
            private, at = _private(name), int(now.timestamp())
            key = Verifier(name, private.public_key().public_bytes_raw(), Type.COSIGNATURE)
            signature = at.to_bytes(8) + private.sign(cosigned(last.text, at))
            line = signature_line(name, key.key_id, signature).rstrip("\n")
            given = [book_id, last.size, key.vkey, line]
            await conn.execute("SELECT ledger.add_cosignature(%s, %s, %s, %s)", given)
    await conn.commit()


async def rotate_sample(conn: AsyncConnection[Any], book_id: int, now: datetime) -> None:
    await keys.rotate(conn, book_id, _private("second"), SECRETS, overlap=timedelta(days=30), now=now)
    await conn.commit()
