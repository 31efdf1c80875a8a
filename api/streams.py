"""Answers that are long: how many at a time, and that each gives back what it holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, contextmanager
from typing import Any

from litestar.response import Stream
from litestar.response.base import ASGIResponse
from litestar.types import Receive, Scope, Send

from api.errors import RateLimited

_BUSY_S = 5


class Places:
    """At most ``most`` at a time in this process, of which ``each`` are one owner's."""

    def __init__(self, *, most: int, each: int) -> None:
        self._most = most
        self._each = each
        self._taken = Counter[str | None]()

    @contextmanager
    def taken(self, owner: str | None) -> Generator[None]:
        """A place of ``owner``'s (None: the platform's) as long as the block runs; raises ``RateLimited``."""
        if self._taken[owner] >= self._each or self._taken.total() >= self._most:
            raise RateLimited(_BUSY_S)
        self._taken[owner] += 1
        try:
            yield
        finally:
            self._taken[owner] -= 1
            if not self._taken[owner]:
                del self._taken[owner]


class ClosingStream(Stream):
    """Closes ``chunks`` when the answer ends, however it does: not when the collector comes by."""

    def __init__(self, chunks: AsyncGenerator[bytes], *, media_type: str, headers: dict[str, str]) -> None:
        super().__init__(chunks, headers={"content-type": media_type, **headers})
        self._chunks = chunks

    def to_asgi_response(self, *given: Any, **named: Any) -> ASGIResponse:
        return _Closing(super().to_asgi_response(*given, **named), self._chunks)


class _Closing(ASGIResponse):
    def __init__(self, answer: ASGIResponse, chunks: AsyncGenerator[bytes]) -> None:
        super().__init__()
        self._answer = answer
        self._chunks = chunks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._chunks):
            await self._answer(scope, receive, send)
