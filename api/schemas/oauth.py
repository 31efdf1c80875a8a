"""Answers of the token endpoint and its two documents."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from api.schemas.base import Closed, JsonObject, View


class TokenForm(Closed):
    """RFC 6749 §4.4.2. The client authenticates with HTTP Basic instead of `client_id` and `client_secret`, with
    both, or with a `client_assertion` (RFC 7523)."""

    grant_type: Literal["client_credentials"]
    scope: (
        Annotated[str, Field(description="Space-separated; all that the client may have, if left out")] | None
    ) = None
    client_id: str | None = None
    client_secret: str | None = None
    client_assertion_type: str | None = None
    client_assertion: str | None = None


class TokenAnswer(View):
    """RFC 6749 §5.1."""

    access_token: str
    token_type: Literal["Bearer"]
    expires_in: int
    scope: str


class OAuthRefusal(View):
    """RFC 6749 §5.2."""

    error: Literal["invalid_request", "invalid_client", "invalid_scope", "unsupported_grant_type"]
    error_description: str


class KeySetView(View):
    """A JWKS (RFC 7517)."""

    keys: list[JsonObject]


class ServerMetadata(View):
    """RFC 8414."""

    issuer: str
    token_endpoint: str
    jwks_uri: str
    grant_types_supported: list[str]
    response_types_supported: list[str]
    scopes_supported: list[str]
    token_endpoint_auth_methods_supported: list[str]
    token_endpoint_auth_signing_alg_values_supported: list[str]
    service_documentation: str
