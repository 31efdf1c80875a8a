"""Who gets in, with what cookie, and what nobody else can do with it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta

import httpx
import psycopg
import pytest

from api.clients import disable_client
from api.pages import cookies
from api.policy import Scope
from gateway.merchants import Merchant
from tests.pages.shop import Shop

Open = Callable[[], httpx.Client]
_CSRF = re.compile(r'name="csrf" value="([^"]+)"')


@pytest.fixture
def browsers(shop: Shop) -> Iterator[Open]:
    """Any number of browsers, each with its own cookies."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(httpx.Client(base_url=shop.url, timeout=30))


@pytest.fixture
def merchant(shop: Shop) -> Merchant:
    return shop.merchant()


def csrf_on(http: httpx.Client, path: str) -> str:
    found = _CSRF.search(http.get(path).text)
    assert found is not None
    return found[1]


def sign_in(http: httpx.Client, client: tuple[str, str]) -> httpx.Response:
    csrf = csrf_on(http, "/merchant/sign-in")
    form = {"client_id": client[0], "client_secret": client[1], "csrf": csrf}
    return http.post("/merchant/sign-in", data=form)


def test_the_token_changes_at_sign_in_and_only_its_hash_is_kept(
    shop: Shop, browsers: Open, merchant: Merchant
) -> None:
    http = browsers()
    http.get("/merchant/sign-in")
    before = http.cookies["khata"]
    answer = sign_in(http, shop.client(merchant))
    assert answer.status_code == 303
    after = http.cookies["khata"]
    assert before != after
    attributes = answer.headers["set-cookie"].lower()
    assert "httponly" in attributes
    assert "samesite=strict" in attributes
    with psycopg.connect(shop.database.owner_dsn) as conn:
        dumped = str(conn.execute("SELECT * FROM api.web_session").fetchall())
    assert after not in dumped
    # What the browser held before is worth nothing.
    stranger = browsers()
    stranger.cookies.set("khata", before)
    assert stranger.get("/merchant").headers["location"] == "/merchant/sign-in"


def test_who_does_not_get_in_stands_in_the_access_log(shop: Shop, browsers: Open, merchant: Merchant) -> None:
    http, (client_id, _) = browsers(), shop.client(merchant)
    assert sign_in(http, (client_id, "a-wrong-secret")).status_code == 422
    with psycopg.connect(shop.database.audit_dsn) as conn:
        query = "SELECT person, route, code, subject FROM api.access_entry ORDER BY entry_id DESC LIMIT 1"
        found = conn.execute(query).fetchone()
    assert found == (None, "/merchant/sign-in", "invalid_client", client_id)


def test_with_tls_the_cookie_is_bound_to_this_host(shop: Shop) -> None:
    from dataclasses import replace

    deps = replace(shop.deps, base_url="https://pay.example.test")
    header = cookies.holding(deps, "t").to_header(header="")
    assert header.strip().startswith("__Host-khata=t")
    assert {"HttpOnly", "Path=/", "Secure"} <= {part.strip() for part in header.split(";")}


def test_ten_wrong_secrets_close_the_door_even_to_the_right_one(
    shop: Shop, browsers: Open, merchant: Merchant
) -> None:
    http, client = browsers(), shop.client(merchant)
    for _ in range(10):
        answer = sign_in(http, (client[0], "khs_wrong"))
        assert answer.status_code == 422
        assert "The client id or the secret is wrong." in answer.text
        assert "khs_wrong" not in answer.text
    answer = sign_in(http, client)
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 0
    shop.clock.ahead += timedelta(minutes=16)
    try:
        assert sign_in(http, client).status_code == 303
    finally:
        shop.clock.ahead = timedelta()


def test_an_unknown_client_is_told_what_a_wrong_secret_is_told(shop: Shop, browsers: Open) -> None:
    answer = sign_in(browsers(), ("cli_" + "a" * 26, "khs_x"))
    assert answer.status_code == 422
    assert "The client id or the secret is wrong." in answer.text


def test_a_client_that_may_not_read_signs_in_nowhere(shop: Shop, browsers: Open, merchant: Merchant) -> None:
    client = shop.client(merchant, frozenset({Scope.PAYMENTS_WRITE}))
    answer = sign_in(browsers(), client)
    assert answer.status_code == 422
    assert "This client cannot sign in here." in answer.text


@pytest.mark.parametrize("csrf", ["", "0" * 64, "é"])
def test_a_form_that_was_not_made_for_the_browser_is_refused(
    shop: Shop, browsers: Open, merchant: Merchant, csrf: str
) -> None:
    http, client = browsers(), shop.client(merchant)
    form = {"client_id": client[0], "client_secret": client[1], "csrf": csrf}
    assert http.post("/merchant/sign-in", data=form).status_code == 403
    http.get("/merchant/sign-in")
    assert http.post("/merchant/sign-in", data=form).status_code == 403
    other = csrf_on(browsers(), "/merchant/sign-in")
    assert http.post("/merchant/sign-in", data=form | {"csrf": other}).status_code == 403
    sign_in(http, client)
    assert http.post("/merchant/sign-out", data={"csrf": csrf}).status_code == 403
    assert http.get("/merchant").status_code == 200


@pytest.mark.parametrize("minutes", [31, 13 * 60])
def test_a_session_ends_by_itself(shop: Shop, browsers: Open, merchant: Merchant, minutes: int) -> None:
    http = browsers()
    sign_in(http, shop.client(merchant))
    assert http.get("/merchant").status_code == 200
    try:
        # Looked at every twenty minutes it stays, but not beyond its longest time.
        for _ in range(minutes // 20):
            shop.clock.ahead += timedelta(minutes=20)
            http.get("/merchant")
        if minutes < 60:
            assert http.get("/merchant").status_code == 200
            shop.clock.ahead += timedelta(minutes=minutes)
        assert http.get("/merchant").headers["location"] == "/merchant/sign-in"
    finally:
        shop.clock.ahead = timedelta()


def test_a_disabled_client_is_out_at_once(shop: Shop, browsers: Open, merchant: Merchant) -> None:
    http, client = browsers(), shop.client(merchant)
    sign_in(http, client)

    async def disable() -> None:
        async with shop.deps.pool.connection() as conn:
            assert await disable_client(conn, client[0])

    shop.run(disable())
    assert http.get("/merchant").headers["location"] == "/merchant/sign-in"


def test_what_belongs_to_another_merchant_is_missing(shop: Shop, browsers: Open, merchant: Merchant) -> None:
    other = shop.merchant("Dosa Corner")
    theirs = shop.payment(other)
    http = browsers()
    sign_in(http, shop.client(merchant))
    for path in (
        f"/merchant/payments/{theirs.public_id}",
        f"/merchant/accounts/INR/Liabilities:Merchant:{other.owner}:Pending",
        "/merchant/accounts/INR/Assets:Bank:meridian:Escrow",
        f"/merchant/accounts/USD/Liabilities:Merchant:{merchant.owner}:Pending",
        f"/merchant/accounts/INR/Liabilities:Merchant:{merchant.owner}:Pending?after=-1",
        "/merchant/payments/pay_nonsense",
        "/merchant/payments?before=nonsense",
        "/merchant/journals/nonsense",
        "/merchant/journals/019ab3e8-6f5a-7c21-9d04-3b7c55d1e0aa",
        "/merchant/journals?before=99999999999999999999",
    ):
        answer = http.get(path)
        assert answer.status_code == 404, path
        assert "There is no such page" in answer.text


def test_nobody_sees_anything_without_signing_in(shop: Shop, browsers: Open) -> None:
    http = browsers()
    for path in ("/merchant", "/merchant/payments", "/merchant/journals", "/merchant/payments/pay_x"):
        answer = http.get(path)
        assert (answer.status_code, answer.headers["location"]) == (303, "/merchant/sign-in")
    boosted = http.get("/merchant", headers={"HX-Request": "true"})
    assert boosted.headers["hx-redirect"] == "/merchant/sign-in"
