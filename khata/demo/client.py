"""A merchant's program: OAuth client credentials, idempotency keys, JSON over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar
from uuid import uuid4

import aiohttp

from khata.errors import KhataError

SCOPES = "payments:read payments:write refunds:write accounts:read journals:read"
TRIES = 5


class ApiRefused(KhataError):
    """An answer that is a problem document (RFC 9457)."""

    code: ClassVar[str] = "api_refused"

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.problem = problem
        super().__init__(f"{status} {problem.get('code')}: {problem.get('detail')}")


@dataclass
class MerchantClient:
    """Speaks for one merchant. Lost answers are asked for again under the same key, as a good client does."""

    http: aiohttp.ClientSession
    api: str
    client_id: str
    secret: str = field(repr=False)
    _token: str | None = field(default=None, repr=False)

    async def authenticate(self) -> None:
        """Get an access token, good for ten minutes."""
        form = {"grant_type": "client_credentials", "scope": SCOPES}
        auth = aiohttp.BasicAuth(self.client_id, self.secret)
        async with self.http.post(f"{self.api}/oauth/token", data=form, auth=auth) as answer:
            body = await answer.json(content_type=None)
            if answer.status != 200:
                raise ApiRefused(answer.status, body)
            self._token = body["access_token"]

    async def get(self, path: str, **query: str) -> Any:
        return await self._send("GET", path, params=query, headers={})

    async def post(self, path: str, body: Mapping[str, Any], *, key: str | None = None) -> Any:
        """POST with an idempotency key of its own; the same key on every try."""
        return await self._send("POST", path, json=body, headers={"Idempotency-Key": key or uuid4().hex})

    async def _send(self, method: str, path: str, *, headers: dict[str, str], **more: Any) -> Any:
        if self._token is None:
            await self.authenticate()
        for attempt in range(TRIES):
            bearer = {"Authorization": f"Bearer {self._token}", **headers}
            try:
                async with self.http.request(method, f"{self.api}{path}", headers=bearer, **more) as answer:
                    body = await answer.json(content_type=None)
            except (aiohttp.ClientConnectionError, TimeoutError):
                if attempt == TRIES - 1:
                    raise
                await asyncio.sleep(0.2 * 2**attempt)
                continue
            if answer.status in (409, 429, 503) and "Retry-After" in answer.headers and attempt < TRIES - 1:
                await asyncio.sleep(min(float(answer.headers["Retry-After"]), 2.0))
                continue
            if answer.status >= 400:
                raise ApiRefused(answer.status, body)
            return body
        raise AssertionError("unreachable")
