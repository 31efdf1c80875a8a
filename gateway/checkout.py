"""Hosted checkout: a link that lets a customer pay one payment, and nothing else.

The token is known to whoever holds the link; the database keeps only its hash.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit
from uuid import UUID

from sqlalchemy import insert, select

from gateway import payments, store, tables
from gateway.cards import Card
from gateway.core import Gateway
from gateway.errors import Invalid, SessionExpired, SessionNotFound
from gateway.idempotency import Idem
from gateway.model import Payment

_TOKEN_BYTES = 32


@dataclass(frozen=True, slots=True)
class Session:
    """``token`` is the secret part of the link; ``return_url`` is where the customer goes afterwards."""

    token: str
    merchant_id: UUID
    payment_id: UUID
    return_url: str
    created_at: datetime
    expires_at: datetime


async def create_session(gw: Gateway, merchant_id: UUID, payment_id: UUID, return_url: str) -> Session:
    """A new link for this payment; raises ``PaymentNotFound`` and ``Invalid`` for an address that is none."""
    require_web_address(return_url)
    now = gw.clock()
    token = base64.urlsafe_b64encode(gw.random(_TOKEN_BYTES)).rstrip(b"=").decode()
    session = Session(token, merchant_id, payment_id, return_url, now, now + gw.policy.session_valid)
    async with gw.engine.begin() as conn:
        await store.load(conn, payment_id, merchant_id)
        row = {
            "token_hash": _hash(token),
            "merchant_id": merchant_id,
            "payment_id": payment_id,
            "return_url": return_url,
            "created_at": now,
            "expires_at": session.expires_at,
        }
        await conn.execute(insert(tables.checkout_session).values(**row))
    return session


def require_web_address(url: str) -> None:
    """Raises ``Invalid`` unless it is an http or https address: never javascript: and its like."""
    try:
        parts = urlsplit(url)
        ok = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        ok = False
    if not ok or len(url) > 2000 or not url.isprintable() or " " in url:
        raise Invalid("return_url", "an http or https address of at most 2000 characters")


async def load_session(gw: Gateway, token: str) -> tuple[Session, Payment]:
    """The session and its payment; an expired session can still be looked at, not paid.

    Raises ``SessionNotFound``.
    """
    s = tables.checkout_session
    async with gw.engine.connect() as conn:
        query = select(s).where(s.c.token_hash == _hash(token))
        row = (await conn.execute(query)).mappings().one_or_none()
        if row is None:
            raise SessionNotFound
        payment = await store.load(conn, row["payment_id"], row["merchant_id"])
    session = Session(
        token, row["merchant_id"], row["payment_id"], row["return_url"], row["created_at"], row["expires_at"]
    )
    return session, payment


async def pay(gw: Gateway, token: str, card: Card, idem: Idem | None = None) -> Payment:
    """Try to pay with ``card``; as ``payments.confirm``, and raises ``SessionNotFound``, ``SessionExpired``."""
    session, _ = await load_session(gw, token)
    if session.expires_at <= gw.clock():
        raise SessionExpired(session.expires_at)
    return await payments.confirm(gw, session.merchant_id, session.payment_id, card, idem)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
