"""Answers are bytes made once, so that what is kept for a replay is what was sent."""

from __future__ import annotations

from collections.abc import Mapping

from litestar import Response

from api.schemas.base import View

JSON = "application/json"


def as_answer(
    body: bytes, *, status: int = 200, media_type: str = JSON, headers: Mapping[str, str] | None = None
) -> Response[bytes]:
    """``body`` as it is."""
    return Response(body, status_code=status, media_type=media_type, headers=dict(headers or {}))


def view(model: View) -> Response[bytes]:
    return as_answer(model.json_bytes())
