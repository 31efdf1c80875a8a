"""Signed-in browsers of merchants: an opaque cookie here, its hash and the client behind it in the database.

A session ends when its browser signs out, after thirty minutes without a click, after twelve hours, and when its
client is disabled. Tokens are 256 random bits; whoever reads the table cannot sign in with what is in it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import class_row

IDLE = timedelta(minutes=30)
LONGEST = timedelta(hours=12)
_TOUCH_AFTER = timedelta(minutes=1)
_TOKEN_BYTES = 32
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class Session:
    """``scopes``: what the client behind it may do, as they are now."""

    client_id: str
    merchant_id: UUID
    scopes: list[str]
    last_seen_at: datetime


def new_token(random: Callable[[int], bytes]) -> str:
    """43 URL-safe characters."""
    return base64.urlsafe_b64encode(random(_TOKEN_BYTES)).decode().rstrip("=")


def is_token(text: str) -> bool:
    return _TOKEN.fullmatch(text) is not None


def csrf_token(token: str) -> str:
    """Goes into the forms of the browser that holds ``token``; tells nothing about it."""
    return hmac.digest(token.encode(), b"khata/csrf", hashlib.sha256).hex()


def is_csrf_token(token: str, given: str) -> bool:
    return hmac.compare_digest(csrf_token(token).encode(), given.encode())


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


async def start(conn: psycopg.AsyncConnection[Any], token: str, client_id: str, *, now: datetime) -> None:
    """Sign the browser that holds ``token`` in, and forget sessions that have ended. Never commits."""
    await conn.execute(
        "DELETE FROM api.web_session WHERE expires_at <= %s OR last_seen_at <= %s", (now, now - IDLE)
    )
    await conn.execute(
        "INSERT INTO api.web_session (token_hash, client_id, created_at, last_seen_at, expires_at)"
        " VALUES (%s, %s, %s, %s, %s)",
        (_hash(token), client_id, now, now, now + LONGEST),
    )


async def find(conn: psycopg.AsyncConnection[Any], token: str, *, now: datetime) -> Session | None:
    """The session of ``token`` if it still stands, marked as seen. Never commits."""
    if not is_token(token):
        return None
    async with conn.cursor(row_factory=class_row(Session)) as cursor:
        await cursor.execute(
            "SELECT s.client_id, c.merchant_id, c.scopes, s.last_seen_at"
            " FROM api.web_session s JOIN api.client c USING (client_id)"
            " WHERE s.token_hash = %s AND s.expires_at > %s AND s.last_seen_at > %s"
            " AND c.status = 'active' AND c.merchant_id IS NOT NULL",
            (_hash(token), now, now - IDLE),
        )
        found = await cursor.fetchone()
    # Once a minute is enough to tell an idle browser, and spares a write on each click.
    if found is not None and found.last_seen_at <= now - _TOUCH_AFTER:
        await conn.execute(
            "UPDATE api.web_session SET last_seen_at = %s WHERE token_hash = %s AND last_seen_at < %s",
            (now, _hash(token), now),
        )
    return found


async def end(conn: psycopg.AsyncConnection[Any], token: str) -> None:
    """Sign out. Never commits."""
    await conn.execute("DELETE FROM api.web_session WHERE token_hash = %s", (_hash(token),))
