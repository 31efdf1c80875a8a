"""RFC 9457 problem documents as they are described to callers (``api.problems`` makes them)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from api.schemas.base import View


class ProblemField(View):
    pointer: Annotated[
        str, Field(description="JSON pointer into the body, or query/NAME", examples=["/amount"])
    ]
    code: Annotated[str, Field(examples=["int_type"])]
    detail: str


class ProblemDocument(View):
    """RFC 9457. Branch on `code`: it never changes; `title` and `detail` are for people."""

    type: Annotated[str, Field(examples=["urn:khata:problem:validation_failed"])]
    title: str
    status: int
    detail: str
    code: str
    instance: Annotated[str, Field(description="The request's id, also in X-Request-Id")]
    errors: Annotated[list[ProblemField] | None, Field(description="What is wrong, value by value")] = None
