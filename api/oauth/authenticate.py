"""How a client proves who it is: a secret (RFC 6749 §2.3.1) or a signed assertion (RFC 7523).

A wrong proof is a value (None), not an exception, because the failure itself has to be committed.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

import orjson
import psycopg
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from api.clients import Client, get_client
from api.errors import ClientLocked
from api.secrets import ApiSecrets

MOST_FAILURES = 10
LOCKOUT = timedelta(minutes=15)
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_ALGORITHMS = ("ES256", "PS256", "Ed25519")
_LONGEST_ASSERTION = timedelta(hours=1)  # what common client libraries ask for
_CLOCK_SKEW = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Secret:
    client_id: str
    value: str


@dataclass(frozen=True, slots=True)
class Assertion:
    """A signed JWT; ``audiences`` are the names of ours it may be meant for."""

    token: str
    audiences: Collection[str]


Proof = Secret | Assertion


async def authenticate(
    conn: psycopg.AsyncConnection, secrets: ApiSecrets, proof: Proof, *, address: str, now: datetime
) -> Client | None:
    """The active client that ``proof`` proves, or None; raises ``ClientLocked``. The caller commits."""
    client_id = proof.client_id if isinstance(proof, Secret) else claimed_client(proof.token)
    client = await get_client(conn, client_id)
    if client is not None:
        await _refuse_locked(conn, client_id, address, now)
    if client is None:
        return None
    if isinstance(proof, Secret):
        good = await _secret_is_good(conn, secrets, proof, now)
    else:
        good = await _assertion_is_good(conn, client, proof, now)
    if not good:
        await _count_failure(conn, client_id, address, now)
        return None
    await conn.execute(
        "DELETE FROM api.failed_attempt WHERE client_id = %s AND address = %s", (client_id, address)
    )
    return client


async def _refuse_locked(conn: psycopg.AsyncConnection, client_id: str, address: str, now: datetime) -> None:
    cursor = await conn.execute(
        "SELECT locked_until FROM api.failed_attempt WHERE client_id = %s AND address = %s AND locked_until > %s",
        (client_id, address, now),
    )
    row = cast(tuple[datetime] | None, await cursor.fetchone())
    if row is not None:
        raise ClientLocked(max(1, int((row[0] - now).total_seconds())))


async def _count_failure(conn: psycopg.AsyncConnection, client_id: str, address: str, now: datetime) -> None:
    await conn.execute(
        "INSERT INTO api.failed_attempt AS f (client_id, address, failures, last_at)"
        " VALUES (%(client)s, %(address)s, 1, %(now)s)"
        " ON CONFLICT (client_id, address) DO UPDATE SET failures = f.failures + 1, last_at = %(now)s,"
        " locked_until = CASE WHEN f.failures + 1 >= %(most)s THEN %(until)s::timestamptz END",
        {"client": client_id, "address": address, "now": now, "most": MOST_FAILURES, "until": now + LOCKOUT},
    )


async def _secret_is_good(
    conn: psycopg.AsyncConnection, secrets: ApiSecrets, proof: Secret, now: datetime
) -> bool:
    cursor = await conn.execute(
        "SELECT secret_mac FROM api.client_secret WHERE client_id = %s AND (expires_at IS NULL OR expires_at > %s)",
        (proof.client_id, now),
    )
    mac = secrets.mac(proof.client_id, proof.value)
    return any(hmac.compare_digest(mac, cast(bytes, row[0])) for row in await cursor.fetchall())


def claimed_client(token: str) -> str:
    """``iss`` of an assertion, not verified yet: only to find whose keys to verify it with."""
    try:
        claims: Any = orjson.loads(jws.extract_compact(token.encode()).payload)
        return str(claims["iss"])
    except (JoseError, ValueError, KeyError, TypeError):
        return ""


async def _assertion_is_good(
    conn: psycopg.AsyncConnection, client: Client, proof: Assertion, now: datetime
) -> bool:
    if client.public_keys is None:
        return False
    claims = _verified_claims(client, proof, now)
    if claims is None:
        return False
    # Numbers are compared: not every number is a date.
    if claims["exp"] > (now + _LONGEST_ASSERTION + _CLOCK_SKEW).timestamp():
        return False
    expires_at = datetime.fromtimestamp(claims["exp"], tz=now.tzinfo)
    cursor = await conn.execute(
        "INSERT INTO api.used_assertion (client_id, jti_hash, expires_at) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
        (client.client_id, hashlib.sha256(str(claims["jti"]).encode()).digest(), expires_at + _CLOCK_SKEW),
    )
    return cursor.rowcount == 1


def _verified_claims(client: Client, proof: Assertion, now: datetime) -> dict[str, Any] | None:
    rules = jwt.JWTClaimsRegistry(
        now=int(now.timestamp()),
        leeway=int(_CLOCK_SKEW.total_seconds()),
        iss={"essential": True, "value": client.client_id},
        sub={"essential": True, "value": client.client_id},
        aud={"essential": True, "values": list(proof.audiences)},
        exp={"essential": True},
        jti={"essential": True},
    )
    try:
        keys = KeySet.import_key_set({"keys": list((client.public_keys or {})["keys"])})
        token = jwt.decode(proof.token, keys, algorithms=list(ASSERTION_ALGORITHMS))
        rules.validate(token.claims)
    except (JoseError, ValueError, TypeError):
        return None
    return token.claims
