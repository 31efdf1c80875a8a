"""What a route of the API declares once: who may call it, what it reads and what it answers.

The guard, the readers below and the OpenAPI document all use the same declaration, so none can drift.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NotRequired, TypedDict, TypeVar, cast

from litestar import Request
from litestar.datastructures import State
from pydantic import BaseModel, ValidationError

from api.dependencies import AppDependencies
from api.errors import (
    FieldError,
    IdempotencyKeyMissing,
    MalformedRequest,
    MediaTypeUnsupported,
    ValidationFailed,
)
from api.policy import POLICY, Audience, Policy, Principal, Scope
from api.schemas.base import View

OPERATION = "operation"
JSON = "application/json"
LONGEST_KEY = 255
_KEY = re.compile(f"[!-~]{{1,{LONGEST_KEY}}}")
_MOST_ERRORS = 50
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Operation:
    """``body`` and ``query``: the models that judge them; ``answer``: a view, or the media types of raw bytes.

    ``problems``: the statuses beside those that every operation may answer with. ``form``: the body is a form.
    ``media_types``: of the other forms that the answer may be asked for in.
    """

    summary: str
    tag: str
    answer: type[View] | tuple[str, ...]
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    problems: tuple[int, ...] = ()
    form: bool = False
    idempotent: bool = False
    media_types: tuple[str, ...] = ()


class RouteArguments(TypedDict):
    """Keyword arguments of a route decorator."""

    opt: dict[str, Any]
    status_code: int
    request_max_body_size: NotRequired[int]


def declares(
    policy: Policy, operation: Operation, *, status: int = 200, body_limit: int = 65_536
) -> RouteArguments:
    return {
        "opt": {POLICY: policy, OPERATION: operation},
        "status_code": status,
        "request_max_body_size": body_limit,
    }


def reads(
    scope: Scope,
    summary: str,
    tag: str,
    answer: type[View] | tuple[str, ...],
    *,
    audience: Audience = Audience.ANY,
    query: type[BaseModel] | None = None,
    problems: tuple[int, ...] = (404,),
    media_types: tuple[str, ...] = (),
) -> RouteArguments:
    """A GET that changes nothing."""
    operation = Operation(summary, tag, answer, query=query, problems=problems, media_types=media_types)
    return declares(Policy(scope, audience), operation)


def changes(
    scope: Scope,
    summary: str,
    tag: str,
    answer: type[View],
    body: type[BaseModel],
    *,
    audience: Audience = Audience.ANY,
    status: int = 200,
    problems: tuple[int, ...] = (404, 409),
) -> RouteArguments:
    """A POST: it changes something, so it needs an Idempotency-Key."""
    operation = Operation(summary, tag, answer, body=body, problems=problems, idempotent=True)
    return declares(Policy(scope, audience), operation, status=status)


class ApiRequest(Request[None, Principal, State]):
    """A request with what the application stands on, and readers that judge by the route's declaration."""

    deps: AppDependencies

    @classmethod
    def on(cls, deps: AppDependencies) -> type[ApiRequest]:
        """The class of an application's requests."""
        return type(cls.__name__, (cls,), {"deps": deps})

    @property
    def address(self) -> str:
        """Of the caller, as the server saw it (uvicorn trusts forwarded headers only from where it is told)."""
        return self.client.host if self.client else "unknown"

    @property
    def operation(self) -> Operation:
        return cast(Operation, self.route_handler.opt[OPERATION])

    async def read(self, model: type[M]) -> M:
        """The JSON body; raises the error that says what is wrong with it."""
        assert self.operation.body is model, "the route declares another body"
        if self.header(b"content-type").partition(";")[0].strip().lower() != JSON:
            raise MediaTypeUnsupported(JSON)
        return read_body(model, await self.body())

    def asked(self, model: type[M]) -> M:
        """The query parameters. One given twice, or one nobody knows, is refused."""
        assert self.operation.query is model, "the route declares another query"
        if not self.scope["query_string"]:
            return nothing_asked(model)
        return read_query(model, list(self.query_params.multi_items()))

    def idempotency_key(self) -> str:
        """1 to 255 visible ASCII characters; raises ``IdempotencyKeyMissing``."""
        key = self.header(b"idempotency-key")
        if not _KEY.fullmatch(key):
            raise IdempotencyKeyMissing
        return key

    @property
    def content_length(self) -> int | None:
        """As Litestar's, which makes a dictionary of all headers for it."""
        text = self.header(b"content-length")
        if not text:
            return None
        if not (text.isascii() and text.isdigit()):
            raise MalformedRequest("The Content-Length is not a number")
        return int(text)

    def header(self, name: bytes) -> str:
        """The first of that name (in lower case), "" if there is none. One that is read once needs no dictionary."""
        for given, value in self.scope["headers"]:
            if given == name:
                return value.decode("latin-1")
        return ""


def pointer(location: tuple[str | int, ...]) -> str:
    """RFC 6901."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in location)


def field_errors(error: ValidationError, prefix: str = "") -> tuple[FieldError, ...]:
    # include_input=False: what was sent may be a card number.
    found = error.errors(include_url=False, include_context=False, include_input=False)[:_MOST_ERRORS]
    return tuple(FieldError(prefix + pointer(e["loc"]), e["type"], e["msg"]) for e in found)


def read_body(model: type[M], body: bytes) -> M:
    """``body`` as ``model``; ``MalformedRequest`` if it is not JSON, ``ValidationFailed`` if it is something else."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        errors = field_errors(error)
        if errors[0].code == "json_invalid":
            raise MalformedRequest("The body is not JSON, or is nested too deeply") from None
        # Not chained: pydantic's own message repeats what was sent.
        raise ValidationFailed(errors) from None


def _member(name: str) -> tuple[str, str | None]:
    """``metadata[order_id]`` is the member ``order_id`` of ``metadata`` (OpenAPI's style deepObject)."""
    inside, bracket, key = name.partition("[")
    return (inside, key[:-1]) if bracket and key.endswith("]") and len(key) > 1 else (name, None)


@lru_cache
def nothing_asked(model: type[M]) -> M:
    """What a request without a query asks; one for all, for they cannot be changed."""
    return read_query(model, [])


def read_query(model: type[M], items: list[tuple[str, Any]]) -> M:
    given: dict[str, Any] = {}
    for name, value in items:
        inside, key = _member(name)
        members = given if key is None else given.setdefault(inside, {})
        if not isinstance(members, dict) or (key or inside) in members:
            raise MalformedRequest("A query parameter is given twice")
        members[key or inside] = value
    try:
        return model.model_validate_strings(given)
    except ValidationError as error:
        raise ValidationFailed(field_errors(error, "query")) from None
