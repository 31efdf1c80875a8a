"""The OpenAPI 3.1 document, made from what the routes declare (``api.operation``).

Not Litestar's own generator: it describes pydantic models by a converter of its own, which drops patterns and
strictness, and always serves documentation routes of its own beside it (docs/adr/0011-the-http-edge.md).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from litestar import Litestar
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from api.operation import LONGEST_KEY, OPERATION, Operation
from api.policy import POLICY, SCOPE_MEANING, Policy, routes_of
from api.problems import MEDIA_TYPE, PROBLEMS
from api.schemas.oauth import OAuthRefusal
from api.schemas.problem import ProblemDocument

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
SCHEME = "oauth"
_REF = "#/components/schemas/{model}"
_ALWAYS = (500, 503)
_GUARDED = (401, 403, 429)
_READING_BODY = (400, 413, 415, 422)
_PATH_PARAMETERS = {
    "transfer_id": ("Id of a transfer between books", "0195f3a1-2b4c-8d5e-8f60-718293a4b5c6"),
    "payment_id": ("The payment's id", "pay_01kb0n7d1ve2p9a4x8m3q6s5tz"),
    "refund_id": ("The refund's id", "re_01kb0n7d1ve2p9a4x8m3q6s5tz"),
    "hold_id": ("The hold's id", "019ab3e8-6f5a-7c21-9d04-3b7c55d1e0aa"),
    "journal_id": ("The journal's id", "019ab3e8-6f5a-7c21-9d04-3b7c55d1e0ab"),
    "proposal_id": ("The proposal's id", "019ab3e8-6f5a-7c21-9d04-3b7c55d1e0ac"),
    "account": ("The account's path", "Liabilities:Customer:c42:Wallet"),
    "book": ("The book's name", "main"),
    "level": ("Level of the tree, 0 the leaves; 0 to 63", "0"),
    "tile": (
        "The tile's number, three digits a segment, all but the last after an x; `.p/W` for the first W of it",
        "x001/x234/067",
    ),
}


def operations_of(app: Litestar) -> Iterable[tuple[str, str, HTTPRouteHandler, Policy, Operation]]:
    """(method, path, handler, policy, operation) of each route that belongs to the API."""
    for method, path, handler in routes_of(app):
        operation = handler.opt.get(OPERATION)
        if isinstance(handler, HTTPRouteHandler) and isinstance(operation, Operation):
            yield method, path, handler, handler.opt[POLICY], operation


def document(app: Litestar, *, issuer: str) -> dict[str, Any]:
    """The document as JSON values."""
    found = list(operations_of(app))
    paths: dict[str, dict[str, Any]] = {}
    for method, path, handler, policy, operation in found:
        paths.setdefault(path, {})[method.lower()] = _operation(path, handler, policy, operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Khata",
            "version": version("khata"),
            "description": "Payments on a double-entry ledger. Amounts are integers in the currency's minor unit.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": issuer}],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": _schemas(operation for *_, operation in found),
            "responses": {f"Problem{status}": _problem(status) for status in _statuses()},
            "parameters": {"IdempotencyKey": _IDEMPOTENCY_KEY},
            "headers": {
                "RequestId": {"description": "Finds the request in our log", "schema": {"type": "string"}}
            },
            "securitySchemes": {SCHEME: _scheme(issuer)},
        },
    }


_IDEMPOTENCY_KEY: Mapping[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": True,
    "description": "Chosen by the caller, new for each intention. The same key with the same request gives the first"
    " answer again, byte for byte; with another request, 422; while the first is still running, 409.",
    "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY, "pattern": "^[!-~]+$"},
    "example": "order-1001-attempt-1",
}


def _statuses() -> list[int]:
    return sorted({problem.status for problem in PROBLEMS.values()})


def _scheme(issuer: str) -> dict[str, Any]:
    scopes = {scope.value: meaning for scope, meaning in SCOPE_MEANING.items()}
    return {
        "type": "oauth2",
        "flows": {"clientCredentials": {"tokenUrl": f"{issuer}/oauth/token", "scopes": scopes}},
    }


def _problem(status: int) -> dict[str, Any]:
    codes = sorted(
        kind.__dict__["code"]
        for kind, p in PROBLEMS.items()
        if p.status == status and "code" in kind.__dict__
    )
    example = {
        "type": f"urn:khata:problem:{codes[0]}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": "A sentence about this occurrence",
        "code": codes[0],
        "instance": "urn:uuid:019ab3e8-6f5a-7c21-9d04-3b7c55d1e0aa",
    }
    content = {MEDIA_TYPE: {"schema": {"$ref": _REF.format(model="ProblemDocument")}, "example": example}}
    return {"description": f"{HTTPStatus(status).phrase}. Codes: {', '.join(codes)}", "content": content}


def _operation(path: str, handler: HTTPRouteHandler, policy: Policy, operation: Operation) -> dict[str, Any]:
    made: dict[str, Any] = {
        # One handler may answer for the platform's book and for any other.
        "operationId": _camel(handler.handler_name) + ("OfBook" if "{book" in path else ""),
        "summary": operation.summary,
        "description": _text(handler),
        "tags": [operation.tag],
        "parameters": _parameters(path, operation),
        "responses": _responses(handler, policy, operation),
        "security": [] if policy.scope is None else [{SCHEME: [policy.scope.value]}],
    }
    if operation.body is not None:
        schema = {"$ref": _REF.format(model=operation.body.__name__)}
        made["requestBody"] = {
            "required": True,
            "content": {FORM if operation.form else JSON: {"schema": schema}},
        }
    return made


def _camel(name: str) -> str:
    head, *rest = name.rpartition(".")[2].split("_")
    return head + "".join(word.title() for word in rest)


def _text(handler: BaseRouteHandler) -> str:
    return " ".join((handler.fn.__doc__ or "").split())


def _parameters(path: str, operation: Operation) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for name in re.findall(r"{(\w+)(?::\w+)?}", path):
        text, example = _PATH_PARAMETERS[name]
        schema = {"type": "string", "minLength": 1}
        found.append(
            {
                "name": name,
                "in": "path",
                "required": True,
                "description": text,
                "schema": schema,
                "example": example,
            }
        )
    if operation.query is not None:
        found += _query_parameters(operation.query)
    if operation.idempotent:
        found.append({"$ref": "#/components/parameters/IdempotencyKey"})
    return found


def _query_parameters(model: type[BaseModel]) -> Iterable[dict[str, Any]]:
    schema = model.model_json_schema(mode="validation")
    required = schema.get("required", [])
    for name, field in schema["properties"].items():
        text = field.pop("description", None)
        field.pop("title", None)
        parameter = {"name": name, "in": "query", "required": name in required, "schema": field}
        if field.get("type") == "object":
            parameter |= {"style": "deepObject", "explode": True}
        yield parameter | ({"description": text} if text else {})


def _responses(handler: HTTPRouteHandler, policy: Policy, operation: Operation) -> dict[str, Any]:
    statuses = {*_ALWAYS, *operation.problems}
    statuses |= set(_GUARDED) if policy.scope is not None else set()
    statuses |= set(_READING_BODY) if operation.body is not None else set()
    statuses |= {400, 422} if operation.query is not None else set()
    success = {"description": operation.summary, "content": _success(operation)}
    success["headers"] = {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}}
    found: dict[str, Any] = {str(handler.status_code): success}
    for status in sorted(statuses):
        found[str(status)] = {"$ref": f"#/components/responses/Problem{status}"}
    if operation.form:
        refusal = {JSON: {"schema": {"$ref": _REF.format(model=OAuthRefusal.__name__)}}}
        found |= {"400": {"description": "Not acceptable (RFC 6749 §5.2)", "content": refusal}}
        found |= {"401": {"description": "The client did not prove who it is", "content": refusal}}
        del found["415"], found["422"]
    return found


def _success(operation: Operation) -> dict[str, Any]:
    files = operation.answer if isinstance(operation.answer, tuple) else operation.media_types
    found: dict[str, Any] = {media_type: {"schema": {"type": "string"}} for media_type in files}
    if isinstance(operation.answer, tuple):
        return found
    return {JSON: {"schema": {"$ref": _REF.format(model=operation.answer.__name__)}}} | found


def _schemas(operations: Iterable[Operation]) -> dict[str, Any]:
    wanted: dict[tuple[type[BaseModel], JsonSchemaMode], None] = {
        (ProblemDocument, "serialization"): None,
        (OAuthRefusal, "serialization"): None,
    }
    for operation in operations:
        if operation.body is not None:
            wanted[operation.body, "validation"] = None
        if not isinstance(operation.answer, tuple):
            wanted[operation.answer, "serialization"] = None
    _, made = models_json_schema(list(wanted), ref_template=_REF)
    return made["$defs"]
