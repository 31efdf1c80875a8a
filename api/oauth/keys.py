"""Signing keys of access tokens: kept sealed in the database, rotated with overlap.

A new key is published ``LEAD`` before it signs, so every verifier has seen it by then, and an old key stays
published until its last token has expired.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import orjson
import psycopg
from cryptography.exceptions import InvalidTag
from joserfc.jwk import ECKey
from psycopg_pool import AsyncConnectionPool

from api.errors import KeyUnusable
from api.secrets import ApiSecrets

ALGORITHM = "ES256"
TOKEN_LIFETIME = timedelta(minutes=10)
LEAD = timedelta(hours=1)
KEY_AGE = timedelta(days=30)
_CLOCK_SKEW = timedelta(minutes=1)
_REFRESH = timedelta(minutes=1)
_REFRESH_UNKNOWN = timedelta(seconds=5)
_ROTATION_LOCK = 0x6B68617461  # "khata": one rotation at a time, whatever the number of processes
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class SigningKey:
    kid: str
    private: ECKey
    signs_from: datetime
    published_until: datetime | None

    def public(self) -> dict[str, Any]:
        """Its JWKS entry (RFC 7517), without the private part."""
        return {**self.private.as_dict(private=False), "kid": self.kid, "use": "sig", "alg": ALGORITHM}


async def rotate(conn: psycopg.AsyncConnection, secrets: ApiSecrets, *, now: datetime) -> str:
    """Add a signing key and let the others end after it has taken over; returns its kid. Never commits.

    The first key of an installation signs at once, for nobody can have cached a key set yet.
    """
    await conn.execute("SELECT pg_advisory_xact_lock(%s)", (_ROTATION_LOCK,))
    cursor = await conn.execute("SELECT count(*) FROM api.signing_key")
    (count,) = cast(tuple[int], await cursor.fetchone())
    signs_from = now + LEAD if count else now
    key = ECKey.generate_key("P-256", private=True)
    kid = key.thumbprint()
    sealed = secrets.seal(orjson.dumps(key.as_dict(private=True)), kid)
    await conn.execute(
        "UPDATE api.signing_key SET published_until = %s WHERE published_until IS NULL",
        (signs_from + TOKEN_LIFETIME + _CLOCK_SKEW,),
    )
    await conn.execute(
        "INSERT INTO api.signing_key (kid, public_key, sealed_private, created_at, signs_from)"
        " VALUES (%s, %s, %s, %s, %s)",
        (kid, orjson.dumps(key.as_dict(private=False)).decode(), sealed, now, signs_from),
    )
    return kid


async def rotate_if_due(conn: psycopg.AsyncConnection, secrets: ApiSecrets, *, now: datetime) -> str | None:
    """``rotate`` when the newest key is older than ``KEY_AGE`` or there is none."""
    await conn.execute("SELECT pg_advisory_xact_lock(%s)", (_ROTATION_LOCK,))
    cursor = await conn.execute("SELECT max(created_at) FROM api.signing_key")
    (newest,) = cast(tuple[datetime | None], await cursor.fetchone())
    if newest is not None and newest > now - KEY_AGE:
        return None
    return await rotate(conn, secrets, now=now)


def _open(row: tuple[str, bytes, datetime, datetime | None], secrets: ApiSecrets) -> SigningKey:
    kid, sealed, signs_from, published_until = row
    try:
        private = ECKey.import_key(orjson.loads(secrets.open(sealed, kid)))
    except InvalidTag as error:
        raise KeyUnusable(kid) from error
    return SigningKey(kid, private, signs_from, published_until)


class KeyRing:
    """The published keys, remembered for a minute at a time."""

    def __init__(self, pool: AsyncConnectionPool, secrets: ApiSecrets, clock: Callable[[], datetime]) -> None:
        self._pool = pool
        self._secrets = secrets
        self._clock = clock
        self._keys: dict[str, SigningKey] = {}
        self._loaded_at = _LONG_AGO

    async def start(self) -> None:
        """Make sure there is a key to sign with."""
        async with self._pool.connection() as conn:
            await rotate_if_due(conn, self._secrets, now=self._clock())
        await self._load()

    async def signing(self) -> SigningKey:
        """The newest key whose time to sign has come."""
        now = self._clock()
        ready = [key for key in (await self.published()).values() if key.signs_from <= now]
        return max(ready, key=lambda key: key.signs_from)

    async def published(self) -> dict[str, SigningKey]:
        """All keys whose tokens may still be valid, by kid."""
        now = self._clock()
        if now - self._loaded_at >= _REFRESH:
            await self._load()
        return {k: v for k, v in self._keys.items() if v.published_until is None or v.published_until > now}

    async def verifying(self, kid: str) -> SigningKey | None:
        """The published key ``kid``; asks the database again for an unknown one, but not at every forged kid."""
        keys = await self.published()
        if kid not in keys and self._clock() - self._loaded_at >= _REFRESH_UNKNOWN:
            await self._load()
            keys = await self.published()
        return keys.get(kid)

    async def _load(self) -> None:
        now = self._clock()
        async with self._pool.connection() as conn:
            cursor = await conn.execute(
                "SELECT kid, sealed_private, signs_from, published_until FROM api.signing_key"
                " WHERE published_until IS NULL OR published_until > %s",
                (now,),
            )
            rows = await cursor.fetchall()
        known = self._keys
        self._keys = {row[0]: self._fresh(known.get(row[0]), row) for row in rows}
        self._loaded_at = now

    def _fresh(self, known: SigningKey | None, row: Any) -> SigningKey:
        if known is None:
            return _open(row, self._secrets)
        return SigningKey(known.kid, known.private, known.signs_from, row[3])
