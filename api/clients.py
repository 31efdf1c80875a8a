"""API clients: programs of a merchant, or of the platform itself, that may ask for access tokens."""

from __future__ import annotations

import base64
import re
import secrets as random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
import psycopg
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from psycopg.rows import class_row

from api.policy import MERCHANT_SCOPES, Scope
from api.secrets import ApiSecrets

SECRET_PREFIX = "khs_"  # noqa: S105  # so that secret scanners can find a leaked one
_CLIENT_ID = re.compile(r"cli_[a-z2-7]{26}")
_FORGET_FAILURES = timedelta(days=1)
_FORGET_ANSWERS = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Client:
    """``merchant_id`` None: a platform client (auditor, operator). ``public_keys``: its JWKS, if it signs."""

    client_id: str
    name: str
    merchant_id: UUID | None
    scopes: list[str]
    public_keys: Mapping[str, Any] | None


def is_client_id(text: str) -> bool:
    return _CLIENT_ID.fullmatch(text) is not None


def new_client_id() -> str:
    return "cli_" + base64.b32encode(random.token_bytes(16)).decode().rstrip("=").lower()


def new_secret() -> str:
    """256 random bits, in URL-safe characters."""
    return SECRET_PREFIX + random.token_urlsafe(32)


def _check(
    merchant_id: UUID | None, scopes: Iterable[str], public_keys: Mapping[str, Any] | None
) -> list[str]:
    wanted = sorted({Scope(scope) for scope in scopes})
    if not wanted:
        raise ValueError("a client needs at least one scope")
    if merchant_id is not None and not MERCHANT_SCOPES.issuperset(wanted):
        raise ValueError(f"not for merchants: {sorted(set(wanted) - MERCHANT_SCOPES)}")
    if public_keys is not None:
        _check_keys(public_keys)
    return [scope.value for scope in wanted]


def _check_keys(public_keys: Mapping[str, Any]) -> None:
    try:
        keys = KeySet.import_key_set({"keys": list(public_keys["keys"])}).keys
    except (JoseError, KeyError, TypeError, ValueError) as error:
        raise ValueError("public_keys is not a JWKS") from error
    if not keys or any(key.is_private for key in keys):
        raise ValueError("public_keys must hold public keys, and at least one")


async def create_client(
    conn: psycopg.AsyncConnection,
    secrets: ApiSecrets,
    *,
    name: str,
    merchant_id: UUID | None,
    scopes: Iterable[str],
    now: datetime,
    public_keys: Mapping[str, Any] | None = None,
) -> tuple[str, str]:
    """Register a client; returns its id and its secret, which is not kept and cannot be shown again.

    ``public_keys``: a JWKS, for ``private_key_jwt``. Never commits. Raises ``ValueError`` for an unknown scope.
    """
    granted = _check(merchant_id, scopes, public_keys)
    client_id = new_client_id()
    await conn.execute(
        "INSERT INTO api.client (client_id, name, merchant_id, scopes, public_keys, created_at)"
        " VALUES (%s, %s, %s, %s, %s, %s)",
        (client_id, name, merchant_id, granted, public_keys and orjson.dumps(public_keys).decode(), now),
    )
    return client_id, await add_secret(conn, secrets, client_id, now=now)


async def add_secret(
    conn: psycopg.AsyncConnection,
    secrets: ApiSecrets,
    client_id: str,
    *,
    now: datetime,
    overlap: timedelta | None = None,
) -> str:
    """Give a client another secret; the older ones stop after ``overlap`` (None: they stay). Never commits."""
    if overlap is not None:
        await conn.execute(
            "UPDATE api.client_secret SET expires_at = %(end)s"
            " WHERE client_id = %(id)s AND (expires_at IS NULL OR expires_at > %(end)s)",
            {"id": client_id, "end": now + overlap},
        )
    secret = new_secret()
    await conn.execute(
        "INSERT INTO api.client_secret (client_id, secret_mac, created_at) VALUES (%s, %s, %s)",
        (client_id, secrets.mac(client_id, secret), now),
    )
    return secret


async def disable_client(conn: psycopg.AsyncConnection, client_id: str) -> bool:
    """No more tokens for this client; those it has end by themselves in ten minutes. Never commits."""
    cursor = await conn.execute(
        "UPDATE api.client SET status = 'disabled' WHERE client_id = %s AND status = 'active'", (client_id,)
    )
    return cursor.rowcount == 1


async def get_client(conn: psycopg.AsyncConnection, client_id: str) -> Client | None:
    """An active client; None for anything that cannot be the id of one."""
    if not is_client_id(client_id):
        return None
    async with conn.cursor(row_factory=class_row(Client)) as cursor:
        await cursor.execute(
            "SELECT client_id, name, merchant_id, scopes, public_keys FROM api.client"
            " WHERE client_id = %s AND status = 'active'",
            (client_id,),
        )
        return await cursor.fetchone()


async def sweep(conn: psycopg.AsyncConnection, *, now: datetime) -> None:
    """Forget used assertions, failed attempts and kept answers that no longer matter. Never commits."""
    await conn.execute("DELETE FROM api.used_assertion WHERE expires_at < %s", (now,))
    await conn.execute("DELETE FROM api.failed_attempt WHERE last_at < %s", (now - _FORGET_FAILURES,))
    await conn.execute("DELETE FROM api.idempotency WHERE created_at < %s", (now - _FORGET_ANSWERS,))
