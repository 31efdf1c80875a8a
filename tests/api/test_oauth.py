"""Tokens: how they are got, what they say, what is refused."""

from __future__ import annotations

import asyncio
import base64
from datetime import timedelta
from typing import Any

import orjson
import pytest
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from joserfc import jws, jwt
from joserfc.jwk import ECKey, KeySet, RSAKey

from api.oauth import keys as signing
from api.oauth.authenticate import ASSERTION_TYPE, LOCKOUT, MOST_FAILURES
from api.policy import Scope
from tests.api.conftest import Api

AUDIENCE = "https://pay.example.test/oauth/token"
FORM = {"grant_type": "client_credentials"}
READ = frozenset({Scope.PAYMENTS_READ, Scope.ACCOUNTS_READ})


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
async def test_an_ordinary_oauth_client_gets_a_token_and_uses_it(api: Api, method: str) -> None:
    client_id, secret = await api.register(None, READ)

    def story() -> None:
        with OAuth2Session(client_id, secret, token_endpoint_auth_method=method) as client:
            token = client.fetch_token(f"{api.url}/oauth/token", grant_type="client_credentials")
            assert token["token_type"] == "Bearer"
            assert token["expires_in"] == 600
            assert set(token["scope"].split()) == READ
            assert client.get(f"{api.url}/v1/accounts").status_code == 200

    await asyncio.to_thread(story)


async def test_a_client_may_prove_itself_with_a_signed_assertion(api: Api) -> None:
    key = RSAKey.generate_key(2048, parameters={"kid": "c1"})
    client_id, _ = await api.register(None, READ, public_keys={"keys": [key.as_dict(private=False)]})

    def story() -> None:
        with OAuth2Session(client_id, key.as_dict(private=True)) as client:
            client.register_client_auth_method(PrivateKeyJWT(AUDIENCE, headers={"kid": "c1"}, alg="PS256"))
            client.token_endpoint_auth_method = "private_key_jwt"
            assert client.fetch_token(f"{api.url}/oauth/token", grant_type="client_credentials")["scope"]

    await asyncio.to_thread(story)


async def test_an_assertion_is_good_once(api: Api) -> None:
    key = ECKey.generate_key("P-256")
    client_id, _ = await api.register(None, READ, public_keys={"keys": [key.as_dict(private=False)]})
    assertion = jwt.encode({"alg": "ES256"}, _claims(api, client_id, AUDIENCE), key)
    form = FORM | {"client_assertion": assertion, "client_assertion_type": ASSERTION_TYPE}
    assert (await api.http.post("/oauth/token", data=form)).status_code == 200
    assert (await api.http.post("/oauth/token", data=form)).json()["error"] == "invalid_client"


@pytest.mark.parametrize(
    "wrong",
    [
        {"aud": "https://somebody.else"},
        {"sub": "cli_other"},
        {"exp": -10},
        {"exp": 7200},
        {"exp": 10**17},  # no calendar has that year
        {"jti": None},
    ],
)
async def test_an_assertion_that_is_not_for_us_now_is_refused(api: Api, wrong: dict[str, Any]) -> None:
    key = ECKey.generate_key("P-256")
    client_id, _ = await api.register(None, READ, public_keys={"keys": [key.as_dict(private=False)]})
    claims = _claims(api, client_id, AUDIENCE) | wrong
    if isinstance(wrong.get("exp"), int):
        claims["exp"] = int(api.clock().timestamp()) + wrong["exp"] - 60 * (wrong["exp"] < 0)
    assertion = jwt.encode({"alg": "ES256"}, {k: v for k, v in claims.items() if v is not None}, key)
    form = FORM | {
        "client_assertion": assertion,
        "client_assertion_type": ASSERTION_TYPE,
    }
    answer = await api.http.post("/oauth/token", data=form)
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


def _claims(api: Api, client_id: str, audience: str) -> dict[str, Any]:
    now = int(api.clock().timestamp())
    return {"iss": client_id, "sub": client_id, "aud": audience, "iat": now, "exp": now + 60, "jti": "one"}


async def test_an_access_token_is_what_rfc_9068_says(api: Api) -> None:
    merchant = await api.merchant()
    caller = await api.caller(merchant)
    keys = KeySet.import_key_set((await api.http.get("/.well-known/jwks.json")).json())
    header = jws.extract_compact(caller.token.encode()).headers()
    assert header == {"alg": "ES256", "typ": "at+jwt", "kid": header["kid"]}
    claims = jwt.decode(caller.token, keys, algorithms=["ES256"]).claims
    assert claims["iss"] == claims["aud"] == "https://pay.example.test"
    assert claims["sub"] == claims["client_id"] == caller.client_id
    assert claims["exp"] - claims["iat"] == 600
    assert claims["merchant"] == str(merchant.id)
    assert claims["jti"]


async def test_published_keys_carry_no_private_part(api: Api) -> None:
    (key,) = (await api.http.get("/.well-known/jwks.json")).json()["keys"]
    assert set(key) == {"kty", "crv", "x", "y", "kid", "use", "alg"}


async def test_metadata_names_the_endpoints(api: Api) -> None:
    metadata = (await api.http.get("/.well-known/oauth-authorization-server")).json()
    assert metadata["issuer"] == "https://pay.example.test"
    assert metadata["token_endpoint"] == "https://pay.example.test/oauth/token"
    assert metadata["grant_types_supported"] == ["client_credentials"]


@pytest.mark.parametrize(
    ("form", "status", "error"),
    [
        ({}, 400, "invalid_request"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"grant_type": "authorization_code"}, 400, "unsupported_grant_type"),
        (FORM | {"scope": "payments:read admin"}, 400, "invalid_scope"),
        (FORM | {"scope": "holds:write"}, 400, "invalid_scope"),
        (FORM | {"client_secret": "x"}, 400, "invalid_request"),
    ],
)
async def test_refusals_are_those_of_rfc_6749(
    api: Api, form: dict[str, str], status: int, error: str
) -> None:
    auth = await api.register(None, READ)
    answer = await api.http.post("/oauth/token", data=form or {"a": "b"}, auth=auth)
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"


async def test_a_parameter_given_twice_is_refused(api: Api) -> None:
    auth = await api.register(None, READ)
    body = "grant_type=client_credentials&grant_type=client_credentials"
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await api.http.post("/oauth/token", content=body, headers=kind, auth=auth)
    assert answer.json()["error"] == "invalid_request"


async def test_a_narrower_scope_can_be_asked_for(api: Api) -> None:
    auth = await api.register(None, READ)
    answer = await api.http.post("/oauth/token", data=FORM | {"scope": "accounts:read"}, auth=auth)
    assert answer.json()["scope"] == "accounts:read"


@pytest.mark.parametrize(
    "header", ["Basic !!!", "Basic " + base64.b64encode(b"nocolon").decode(), "Bearer x"]
)
async def test_broken_basic_credentials_are_refused(api: Api, header: str) -> None:
    answer = await api.http.post("/oauth/token", data=FORM, headers={"Authorization": header})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Basic")


@pytest.mark.parametrize("client_id", ["cli_" + "a" * 26, "", "a\x00b", "é"])
async def test_an_unknown_client_is_refused_like_a_wrong_secret(api: Api, client_id: str) -> None:
    known, _ = await api.register(None, READ)
    post = {"client_secret": "khs_wrong"}
    unknown = await api.http.post("/oauth/token", data=FORM | post | {"client_id": client_id})
    wrong = await api.http.post("/oauth/token", data=FORM | post | {"client_id": known})
    assert unknown.status_code == wrong.status_code == 401
    assert unknown.content == wrong.content


async def test_ten_wrong_secrets_lock_the_address_out_for_a_while(api: Api) -> None:
    client_id, secret = await api.register(None, READ)
    for _ in range(MOST_FAILURES):
        assert (await api.http.post("/oauth/token", data=FORM, auth=(client_id, "no"))).status_code == 401
    locked = await api.http.post("/oauth/token", data=FORM, auth=(client_id, secret))
    assert (locked.status_code, locked.json()["code"]) == (429, "client_locked")
    assert 0 < int(locked.headers["retry-after"]) <= LOCKOUT.total_seconds()
    api.clock.ahead += LOCKOUT + timedelta(seconds=1)
    assert (await api.http.post("/oauth/token", data=FORM, auth=(client_id, secret))).status_code == 200


async def test_a_disabled_client_gets_no_token(api: Api) -> None:
    from api.clients import disable_client

    client_id, secret = await api.register(None, READ)
    async with api.deps.pool.connection() as conn:
        assert await disable_client(conn, client_id)
    answer = await api.http.post("/oauth/token", data=FORM, auth=(client_id, secret))
    assert answer.status_code == 401


async def test_a_secret_can_be_changed_while_the_old_one_still_works(api: Api) -> None:
    from api.clients import add_secret

    client_id, old = await api.register(None, READ)
    async with api.deps.pool.connection() as conn:
        new = await add_secret(conn, api.deps.secrets, client_id, now=api.clock(), overlap=timedelta(hours=1))
    for secret in (old, new):
        await api.token(client_id, secret)
    api.clock.ahead += timedelta(hours=2)
    await api.token(client_id, new)
    assert (await api.http.post("/oauth/token", data=FORM, auth=(client_id, old))).status_code == 401


async def test_the_database_holds_no_secret_in_the_clear(api: Api) -> None:
    _, secret = await api.register(None, READ)
    async with api.deps.pool.connection() as conn:
        rows = await (await conn.execute("SELECT secret_mac::text FROM api.client_secret")).fetchall()
        (sealed,) = await (await conn.execute("SELECT sealed_private FROM api.signing_key")).fetchone() or ()
    assert all(secret.encode().hex() not in row[0] and secret not in row[0] for row in rows)
    assert b'"d"' not in sealed


async def test_tokens_outlive_a_rotation_and_new_keys_are_published_before_they_sign(api: Api) -> None:
    caller = await api.caller(None)
    before = jws.extract_compact(caller.token.encode()).headers()["kid"]
    async with api.deps.pool.connection() as conn:
        added = await signing.rotate(conn, api.deps.secrets, now=api.clock())
    api.clock.ahead += timedelta(minutes=2)
    published = {k["kid"] for k in (await api.http.get("/.well-known/jwks.json")).json()["keys"]}
    assert published == {before, added}
    fresh = await api.token(caller.client_id, caller.secret)
    assert jws.extract_compact(fresh.encode()).headers()["kid"] == before
    api.clock.ahead += signing.LEAD
    later = await api.token(caller.client_id, caller.secret)
    assert jws.extract_compact(later.encode()).headers()["kid"] == added
    api.clock.ahead += timedelta(minutes=12)
    assert {k["kid"] for k in (await api.http.get("/.well-known/jwks.json")).json()["keys"]} == {added}


async def test_an_old_key_is_rotated_by_itself_at_start(api: Api) -> None:
    api.clock.ahead += signing.KEY_AGE + timedelta(hours=1)
    async with api.deps.pool.connection() as conn:
        assert await signing.rotate_if_due(conn, api.deps.secrets, now=api.clock())
        assert not await signing.rotate_if_due(conn, api.deps.secrets, now=api.clock())


def _forged(api: Api, token: str, **changed: Any) -> dict[str, str]:
    """Tokens that must not be accepted, by what is wrong with them."""
    head, body, sign = token.split(".")
    stranger = ECKey.generate_key("P-256")
    header = orjson.loads(base64.urlsafe_b64decode(head + "=="))
    claims = orjson.loads(base64.urlsafe_b64decode(body + "=="))

    def encoded(value: object) -> str:
        return base64.urlsafe_b64encode(orjson.dumps(value)).decode().rstrip("=")

    secret = orjson.dumps(stranger.as_dict(private=False))
    from joserfc.jwk import OctKey

    return {
        "another key": jwt.encode(header, claims, stranger, algorithms=["ES256"], default_type=None),
        "none": f"{encoded(header | {'alg': 'none'})}.{body}.",
        "hmac with the public key": jwt.encode(header | {"alg": "HS256"}, claims, OctKey.import_key(secret)),
        "claims changed": f"{head}.{encoded(claims | {'scope': 'exports:read'})}.{sign}",
        "unknown kid": jwt.encode(header | {"kid": "x"}, claims, stranger, default_type=None),
        "no kid": jwt.encode({"alg": "ES256", "typ": "at+jwt"}, claims, stranger, default_type=None),
        "kid not a string": f"{encoded(header | {'kid': ['x']})}.{body}.{sign}",
        "header not an object": f"W10.{body}.{sign}",
        "garbage": "a.b.c",
        "too long": token + "A" * 5000,
    }


async def test_forged_tokens_are_refused(api: Api) -> None:
    caller = await api.caller(None)
    for wrong, token in _forged(api, caller.token).items():
        answer = await api.http.get("/v1/accounts", headers={"Authorization": f"Bearer {token}"})
        assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid"), wrong
        assert "invalid_token" in answer.headers["www-authenticate"]


@pytest.mark.parametrize(
    "claims", [{"aud": "https://else"}, {"iss": "https://else"}, {"exp": None}, {"typ": "JWT"}]
)
async def test_a_token_of_ours_for_something_else_is_refused(api: Api, claims: dict[str, Any]) -> None:
    caller = await api.caller(None)
    key = await api.deps.keys.signing()
    said = jwt.decode(caller.token, key.private, algorithms=["ES256"]).claims | claims
    header = {"alg": "ES256", "kid": key.kid, "typ": said.pop("typ", "at+jwt")}
    token = jwt.encode(
        header, {k: v for k, v in said.items() if v is not None}, key.private, default_type=None
    )
    answer = await api.http.get("/v1/accounts", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 401


async def test_a_token_ends_after_ten_minutes_also_when_it_is_remembered(api: Api) -> None:
    caller = await api.caller(None)
    assert (await caller.get("/v1/accounts")).status_code == 200
    api.clock.ahead += timedelta(minutes=10, seconds=1)
    answer = await caller.get("/v1/accounts")
    assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid")
