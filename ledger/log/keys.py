"""The keys of a book's log: kept sealed, rotated with an overlap in which the old and the new one both sign."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from psycopg import AsyncConnection

from ledger.errors import LedgerError
from ledger.log.note import Note, Signer, Verifier, sign
from ledger.log.proofs import last_checkpoint

# Of sealing and of rotation, so that a checkpoint is signed by all the keys of its time.
_LOCK = "SELECT pg_advisory_xact_lock(hashtext('ledger.seal'), %s)"
_KEYS = """
SELECT key, name, public, signs_from, lead(old_until) OVER (ORDER BY key), endorsement
  FROM ledger.log_key WHERE book_id = %s ORDER BY key"""
_SEALED = "SELECT key, sealed_private FROM ledger.log_key WHERE book_id = %s AND key = ANY (%s)"
_ADD = "SELECT ledger.add_log_key(%s, %s, %s, %b, %b, %s, %s, %s)"
_COSIGN = "SELECT ledger.add_cosignature(%s, %s, %s, %s)"


class Safe(Protocol):
    """What keeps private keys from whoever reads the database; ``open`` raises ``InvalidTag``."""

    def seal(self, plain: bytes, bound_to: str) -> bytes: ...

    def open(self, sealed: bytes, bound_to: str) -> bytes: ...


@dataclass(unsafe_hash=True)
class LogKeyUnusable(LedgerError):
    """A key of the log does not open: it was sealed under another master secret."""

    code: ClassVar[str] = "log_key_unusable"
    vkey: str

    def __str__(self) -> str:
        return f"the log's key {self.vkey} was sealed under another master secret"


@dataclass(frozen=True, slots=True)
class LogKey:
    """A published key. It signs at ``signs_from <= t < signs_until`` (None: no end is set). ``endorsement``: a signed
    note of the key before it."""

    key: int
    verifier: Verifier
    signs_from: datetime
    signs_until: datetime | None
    endorsement: str | None

    def signs_at(self, at: datetime) -> bool:
        return self.signs_from <= at and (self.signs_until is None or at < self.signs_until)


def endorsement_text(origin: str, vkey: str) -> str:
    """What the old key signs of a new one."""
    return f"khata log key\n{origin}\n{vkey}\n"


async def load_keys(conn: AsyncConnection[Any], book_id: int) -> list[LogKey]:
    """All of a book's keys, oldest first; none before its log begins."""
    cursor = await conn.execute(_KEYS, [book_id])
    return [
        LogKey(key, Verifier(name, bytes(public)), signs_from, until, endorsement)
        for key, name, public, signs_from, until, endorsement in await cursor.fetchall()
    ]


@dataclass(frozen=True, slots=True)
class KeyRing:
    """A book's keys with the private parts of those that still sign."""

    keys: Sequence[LogKey]
    private: dict[int, Ed25519PrivateKey] = field(repr=False)

    def signers(self, at: datetime) -> list[Signer]:
        """Those that sign at that time, the oldest first."""
        return [Signer(k.verifier.name, self.private[k.key]) for k in self.keys if k.signs_at(at)]


async def open_keys(conn: AsyncConnection[Any], book_id: int, safe: Safe, *, now: datetime) -> KeyRing:
    """Raises ``LogKeyUnusable``."""
    keys = await load_keys(conn, book_id)
    wanted = {k.key: k.verifier for k in keys if k.signs_until is None or now < k.signs_until}
    cursor = await conn.execute(_SEALED, [book_id, list(wanted)])
    private: dict[int, Ed25519PrivateKey] = {}
    for key, sealed in await cursor.fetchall():
        vkey = wanted[key].vkey
        try:
            private[key] = Ed25519PrivateKey.from_private_bytes(safe.open(bytes(sealed), vkey))
        except InvalidTag as error:
            raise LogKeyUnusable(vkey) from error
    return KeyRing(keys, private)


async def begin_log(
    conn: AsyncConnection[Any],
    book_id: int,
    origin: str,
    private: Ed25519PrivateKey,
    safe: Safe,
    *,
    now: datetime,
) -> None:
    """Give a book's log its first key, and with it its origin, unless it has one. Never commits."""
    await conn.execute(_LOCK, [book_id])
    if not await load_keys(conn, book_id):
        signer = Signer(origin, private)
        sealed = safe.seal(private.private_bytes_raw(), signer.verifier.vkey)
        await conn.execute(_ADD, [book_id, 1, origin, signer.verifier.public, sealed, now, None, None])


async def rotate(
    conn: AsyncConnection[Any],
    book_id: int,
    private: Ed25519PrivateKey,
    safe: Safe,
    *,
    overlap: timedelta,
    now: datetime,
) -> Verifier:
    """Add a key that signs from now on, endorsed by the one before, which signs for ``overlap`` still. Never commits.

    It cosigns the last checkpoint, so that whoever knows it alone need not wait for the next.
    The log has begun. Raises ``LogKeyUnusable``.
    """
    await conn.execute(_LOCK, [book_id])
    last = await last_checkpoint(conn, book_id)
    ring = await open_keys(conn, book_id, safe, now=now)
    old = ring.keys[-1]
    earliest = [old.signs_from, *([last.sealed_at + timedelta(microseconds=1)] if last else [])]
    signs_from = max(now, *earliest)
    signer = Signer(old.verifier.name, private)
    new = signer.verifier
    endorsed = sign(endorsement_text(new.name, new.vkey), [Signer(old.verifier.name, ring.private[old.key])])
    sealed = safe.seal(private.private_bytes_raw(), new.vkey)
    given = [book_id, old.key + 1, new.name, new.public, sealed, signs_from, signs_from + overlap, endorsed]
    await conn.execute(_ADD, given)
    if last:
        line = signer.line(Note.parse(last.note).text).rstrip("\n")
        await conn.execute(_COSIGN, [book_id, last.size, new.vkey, line])
    return new
