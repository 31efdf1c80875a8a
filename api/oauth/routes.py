"""The token endpoint, the key set and the server's metadata (RFC 6749, 7517, 8414).

The endpoint is our own ~100 lines and not authlib's: see docs/adr/0010-oauth-in-our-own-code.md.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import parse_qsl, unquote_plus

import orjson
from litestar import Response, get, post

from api.answers import JSON, as_answer
from api.errors import OAuthError
from api.oauth.authenticate import (
    ASSERTION_ALGORITHMS,
    ASSERTION_TYPE,
    Assertion,
    Proof,
    Secret,
    authenticate,
    claimed_client,
)
from api.oauth.keys import TOKEN_LIFETIME
from api.oauth.tokens import issue
from api.operation import ApiRequest, Operation, declares
from api.policy import Policy, Principal, Scope
from api.problems import mark_denied, note_claim
from api.schemas.oauth import KeySetView, ServerMetadata, TokenAnswer, TokenForm

TOKEN_PATH = "/oauth/token"  # noqa: S105
GRANT = "client_credentials"
_FORM = "application/x-www-form-urlencoded"
_NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}


def read_form(content_type: str, body: bytes) -> dict[str, str]:
    """The form of a token request. A parameter given twice is refused (RFC 6749 §3.2)."""
    if content_type.partition(";")[0].strip().lower() != _FORM:
        raise OAuthError("invalid_request", f"the body must be {_FORM}")
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=20)
    except ValueError as error:
        raise OAuthError("invalid_request", "the body is not a form") from error
    form = dict(pairs)
    if len(form) != len(pairs):
        raise OAuthError("invalid_request", "a parameter is given twice")
    return {name: value for name, value in form.items() if value}


def _basic(header: str) -> Secret:
    """``client_secret_basic``: both parts are form-encoded before they are base64-encoded (§2.3.1)."""
    scheme, _, encoded = header.partition(" ")
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise OAuthError("invalid_client", "the Authorization header is not Basic credentials") from error
    client_id, colon, secret = decoded.partition(":")
    if scheme.lower() != "basic" or not colon:
        raise OAuthError("invalid_client", "the Authorization header is not Basic credentials")
    return Secret(unquote_plus(client_id), unquote_plus(secret))


def proof_of(authorization: str | None, form: Mapping[str, str], audiences: tuple[str, ...]) -> Proof:
    """The one proof a request brings; more than one way at a time is refused (§2.3)."""
    ways = [authorization is not None, "client_secret" in form, "client_assertion" in form]
    if sum(ways) > 1:
        raise OAuthError("invalid_request", "use one way of client authentication")
    if authorization is not None:
        return _basic(authorization)
    if "client_secret" in form:
        return Secret(form.get("client_id", ""), form["client_secret"])
    if "client_assertion" in form and form.get("client_assertion_type") == ASSERTION_TYPE:
        return Assertion(form["client_assertion"], audiences)
    raise OAuthError("invalid_client", "the client did not authenticate")


def granted(wanted: str | None, allowed: frozenset[str]) -> frozenset[str]:
    """The scopes to grant: those asked for, or all that the client may have."""
    if wanted is None:
        return allowed
    scopes = frozenset(wanted.split())
    if not scopes or not scopes <= allowed:
        raise OAuthError("invalid_scope", "the client may not have all of these scopes")
    return scopes


def _refusal(request: ApiRequest, error: OAuthError) -> Response[bytes]:
    """RFC 6749 §5.2, which fixes the form: plain JSON, not a problem document."""
    unproved = error.error == "invalid_client"
    if unproved:
        mark_denied(request, error.error)
    return Response(
        orjson.dumps({"error": error.error, "error_description": error.description}),
        status_code=401 if unproved else 400,
        media_type=JSON,
        headers={**_NO_STORE, **({"WWW-Authenticate": 'Basic realm="khata"'} if unproved else {})},
    )


@post(
    TOKEN_PATH,
    exception_handlers={OAuthError: cast(Any, _refusal)},
    **declares(
        Policy(None),
        Operation("Get an access token", "OAuth", TokenAnswer, body=TokenForm, form=True, problems=(429,)),
        body_limit=16_384,
    ),
)
async def create_token(request: ApiRequest) -> Response[bytes]:
    """Client credentials grant (RFC 6749 §4.4). The client proves who it is with HTTP Basic, with
    `client_secret` in the form, or with a signed `client_assertion` (`private_key_jwt`, RFC 7523)."""
    deps, address = request.deps, request.address
    deps.token_rate.take(address)
    form = read_form(request.headers.get("content-type", ""), await request.body())
    if form.get("grant_type") != GRANT:
        raise OAuthError(
            "unsupported_grant_type" if "grant_type" in form else "invalid_request", f"use {GRANT}"
        )
    audiences = (deps.authority.issuer, f"{deps.authority.issuer}{TOKEN_PATH}")
    proof = proof_of(request.headers.get("authorization"), form, audiences)
    note_claim(request, proof.client_id if isinstance(proof, Secret) else claimed_client(proof.token))
    now = deps.clock()
    async with deps.pool.connection() as conn:
        client = await authenticate(conn, deps.secrets, proof, address=address, now=now)
    if client is None:
        raise OAuthError("invalid_client", "the client is unknown or its proof is wrong")
    scopes = granted(form.get("scope"), frozenset(client.scopes))
    if client.merchant_id is None:
        request.scope["auth"] = Principal(client.client_id, None, scopes)
        await deps.access.admit(request.scope)
    token = await issue(deps.keys, deps.authority, client, scopes, jti=deps.gateway.ids(), now=now)
    answer = {
        "access_token": token,
        "token_type": "Bearer",
        "expires_in": int(TOKEN_LIFETIME.total_seconds()),
        "scope": " ".join(sorted(scopes)),
    }
    return as_answer(orjson.dumps(answer), headers=_NO_STORE)


@get(
    "/.well-known/jwks.json",
    **declares(Policy(None), Operation("Public keys", "OAuth", KeySetView, problems=())),
)
async def get_keys(request: ApiRequest) -> Response[bytes]:
    """The keys that access tokens are signed with (RFC 7517); a key appears an hour before it signs."""
    keys = (await request.deps.keys.published()).values()
    body = orjson.dumps({"keys": [key.public() for key in keys]})
    return as_answer(body, headers={"Cache-Control": "public, max-age=300"})


@get(
    "/.well-known/oauth-authorization-server",
    **declares(Policy(None), Operation("Authorization server metadata", "OAuth", ServerMetadata)),
)
async def get_server_metadata(request: ApiRequest) -> Response[bytes]:
    """What this authorization server can do (RFC 8414)."""
    issuer = request.deps.authority.issuer
    body = {
        "issuer": issuer,
        "token_endpoint": f"{issuer}{TOKEN_PATH}",
        "jwks_uri": f"{issuer}/.well-known/jwks.json",
        "grant_types_supported": [GRANT],
        "response_types_supported": [],
        "scopes_supported": [scope.value for scope in Scope],
        "token_endpoint_auth_methods_supported": [
            "client_secret_basic",
            "client_secret_post",
            "private_key_jwt",
        ],
        "token_endpoint_auth_signing_alg_values_supported": list(ASSERTION_ALGORITHMS),
        "service_documentation": f"{issuer}/docs",
    }
    return as_answer(orjson.dumps(body), headers={"Cache-Control": "public, max-age=300"})


routes = (create_token, get_keys, get_server_metadata)
