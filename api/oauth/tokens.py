"""Access tokens: issued and verified per RFC 9068 (``at+jwt``), ES256 and nothing else."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from joserfc import jws, jwt
from joserfc.errors import JoseError

from api.clients import Client
from api.errors import TokenInvalid
from api.oauth.keys import ALGORITHM, TOKEN_LIFETIME, KeyRing
from api.policy import Principal

TYPE = "at+jwt"
_MOST_REMEMBERED = 10_000
_LONGEST_TOKEN = 4096


@dataclass(frozen=True, slots=True)
class Authority:
    """Who issues tokens and who they are for. Both are this installation's public URL."""

    issuer: str
    audience: str


async def issue(
    keys: KeyRing, authority: Authority, client: Client, scopes: frozenset[str], *, jti: UUID, now: datetime
) -> str:
    """A signed access token of ``client`` for ``scopes``, good for ``TOKEN_LIFETIME``."""
    key = await keys.signing()
    issued_at = int(now.timestamp())
    claims: dict[str, Any] = {
        "iss": authority.issuer,
        "aud": authority.audience,
        "sub": client.client_id,
        "client_id": client.client_id,
        "scope": " ".join(sorted(scopes)),
        "iat": issued_at,
        "exp": issued_at + int(TOKEN_LIFETIME.total_seconds()),
        "jti": str(jti),
    }
    if client.merchant_id is not None:
        claims["merchant"] = str(client.merchant_id)
    header = {"alg": ALGORITHM, "kid": key.kid, "typ": TYPE}
    return jwt.encode(header, claims, key.private, algorithms=[ALGORITHM], default_type=None)


class TokenVerifier:
    """Verifies access tokens, and remembers each good one (by its hash) until it expires.

    A client that is disabled keeps its tokens until they expire, at most ``TOKEN_LIFETIME``.
    """

    def __init__(self, keys: KeyRing, authority: Authority, clock: Callable[[], datetime]) -> None:
        self._keys = keys
        self._authority = authority
        self._clock = clock
        self._claims = jwt.JWTClaimsRegistry(
            now=lambda: int(clock().timestamp()),
            iss={"essential": True, "value": authority.issuer},
            aud={"essential": True, "value": authority.audience},
            exp={"essential": True},
            client_id={"essential": True},
            scope={"essential": True, "allow_blank": True},
        )
        self._remembered: OrderedDict[bytes, tuple[float, Principal]] = OrderedDict()

    async def verify(self, token: str) -> Principal:
        """The client of ``token``; raises ``TokenInvalid``."""
        if len(token) > _LONGEST_TOKEN:
            raise TokenInvalid("it is too long")
        digest = hashlib.sha256(token.encode()).digest()
        remembered = self._remembered.get(digest)
        if remembered is not None and remembered[0] > self._clock().timestamp():
            return remembered[1]
        claims = await self._verified_claims(token)
        principal = _principal(claims)
        self._remembered[digest] = (float(claims["exp"]), principal)
        if len(self._remembered) > _MOST_REMEMBERED:
            self._remembered.popitem(last=False)
        return principal

    async def _verified_claims(self, token: str) -> dict[str, Any]:
        try:
            header = jws.extract_compact(token.encode()).headers()
            kid = header.get("kid")
            key = await self._keys.verifying(kid) if isinstance(kid, str) else None
            if key is None or header.get("typ") != TYPE:
                raise TokenInvalid("it is not an access token of this service")
            decoded = jwt.decode(token, key.private, algorithms=[ALGORITHM])
            self._claims.validate(decoded.claims)
        except (JoseError, ValueError) as error:
            raise TokenInvalid(_reason(error)) from error
        return decoded.claims


def _reason(error: Exception) -> str:
    return "it has expired" if getattr(error, "error", "") == "expired_token" else "it does not verify"


def _principal(claims: dict[str, Any]) -> Principal:
    merchant = claims.get("merchant")
    return Principal(
        client_id=str(claims["client_id"]),
        merchant_id=None if merchant is None else UUID(str(merchant)),
        scopes=frozenset(str(claims["scope"]).split()),
    )
