"""What the checkout refuses and what it never says, seen without a browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from api.pages.form_key import is_key_of, new_key
from gateway.states import PaymentStatus
from tests.pages.shop import GOOD, NO_MONEY, RETURN_URL, Shop

_KEY = re.compile(r'name="key" value="([^"]+)"')


@pytest.fixture
def http(shop: Shop) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=shop.url, timeout=30) as client:
        yield client


def form(key: str, number: str = GOOD, **more: str) -> dict[str, str]:
    return {"number": number, "expiry": "12/39", "cvc": "123", "key": key} | more


def key_on(http: httpx.Client, link: str) -> str:
    found = _KEY.search(http.get(link).text)
    assert found is not None
    return found[1]


def test_one_form_sent_twice_at_once_tries_the_card_once(shop: Shop, http: httpx.Client) -> None:
    link, payment = shop.checkout()
    key = key_on(http, link)
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: http.post(link, data=form(key)), range(4)))
    assert {answer.status_code for answer in answers} == {303}
    assert {answer.headers["location"] for answer in answers} == {link.removeprefix(shop.url)}
    assert len(shop.now(payment).attempts) == 1
    assert shop.now(payment).status is PaymentStatus.SUCCEEDED
    assert len(shop.acquirer.entries(rrn=shop.now(payment).operations[0].reference.rrn)) == 1


def test_a_refused_form_sent_again_is_not_tried_again(shop: Shop, http: httpx.Client) -> None:
    link, payment = shop.checkout()
    key = key_on(http, link)
    for _ in range(3):
        assert http.post(link, data=form(key, NO_MONEY)).status_code == 303
    # Another card under the old key is the old answer too: the button was pressed for the first one.
    assert http.post(link, data=form(key)).status_code == 303
    assert len(shop.now(payment).attempts) == 1


def test_a_key_of_another_session_is_not_accepted(shop: Shop, http: httpx.Client) -> None:
    link, payment = shop.checkout()
    other, _ = shop.checkout()
    for key in (key_on(http, other), "", "x" * 43, "é"):
        answer = http.post(link, data=form(key))
        assert answer.status_code == 422
        assert "This form was out of date." in answer.text
        assert GOOD not in answer.text
    assert shop.now(payment).attempts == ()


def test_a_key_is_good_for_its_own_session_only() -> None:
    key = new_key("session", lambda n: bytes(n))
    assert is_key_of("session", key)
    assert not is_key_of("another", key)
    assert not any(is_key_of("session", key[:i] + "-" + key[i + 1 :]) for i in range(42) if key[i] != "-")


def test_a_paid_payment_takes_no_more_money(shop: Shop, http: httpx.Client) -> None:
    link, payment = shop.checkout()
    first, second = key_on(http, link), key_on(http, link)
    http.post(link, data=form(first))
    assert http.post(link, data=form(second)).status_code == 303
    assert "Paid" in http.get(link).text
    assert shop.now(payment).totals.captured == payment.amount
    assert len(shop.now(payment).attempts) == 1


def test_tries_run_out(shop: Shop, http: httpx.Client) -> None:
    link, payment = shop.checkout()
    for _ in range(payment.max_attempts):
        http.post(link, data=form(key_on(http, link), NO_MONEY))
    page = http.get(link)
    assert "Too many tries did not go through. Nothing was charged." in page.text
    assert "<form" not in page.text
    assert shop.now(payment).status is PaymentStatus.FAILED


def test_an_expired_session_takes_no_card(shop: Shop, http: httpx.Client) -> None:
    link, payment = shop.checkout()
    key = key_on(http, link)
    shop.alter(
        "UPDATE gateway.checkout_session SET created_at = now() - interval '1 hour',"
        " expires_at = now() - interval '1 second' WHERE payment_id = %s",
        payment.id,
    )
    assert http.post(link, data=form(key)).status_code == 303
    page = http.get(link)
    assert page.status_code == 410
    assert RETURN_URL in page.text
    assert shop.now(payment).attempts == ()


def test_pages_carry_strict_headers_and_nothing_inline(shop: Shop, http: httpx.Client) -> None:
    link, _ = shop.checkout()
    answer = http.get(link)
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "font-src": "'self'",
        "connect-src": "'self'",
        "form-action": "'self'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "set-cookie" not in answer.headers
    assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son[a-z]+=", answer.text)
    scripts = re.findall(r"<(?:script|link rel=\"stylesheet\")[^>]+>", answer.text)
    assert scripts
    assert all("integrity=" in tag for tag in scripts)


@pytest.mark.parametrize(
    ("number", "expiry", "cvc"),
    [
        ("4111111111111112", "12/39", "123"),
        (GOOD, "13/39", "123"),
        (GOOD, "01/20", "123"),
        (GOOD, "12/39", "12a"),
        ("<script>alert(1)</script>", "\u0661/39", "\u0661\u0662\u0663"),
        ("4" * 5000, "", ""),
    ],
)
def test_what_was_typed_is_never_repeated(
    shop: Shop, http: httpx.Client, number: str, expiry: str, cvc: str
) -> None:
    link, payment = shop.checkout()
    answer = http.post(link, data=form(key_on(http, link), number, expiry=expiry, cvc=cvc))
    assert answer.status_code == 422
    assert 'aria-invalid="true"' in answer.text
    for typed in (number, expiry, cvc):
        assert not typed or f'value="{typed}"' not in answer.text
    assert number not in answer.text
    assert shop.now(payment).attempts == ()


def test_htmx_gets_only_the_half_that_changes(shop: Shop, http: httpx.Client) -> None:
    link, _ = shop.checkout()
    part = http.get(link, headers={"HX-Request": "true"})
    assert "<html" not in part.text
    assert 'id="checkout"' in part.text
    assert "HX-Request" in part.headers["vary"]


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"number=1&number=2", "application/x-www-form-urlencoded", 400),
        (b"\xff\xfe=1", "application/x-www-form-urlencoded", 400),
        (b"{}", "application/json", 400),
        (b"number=" + b"4" * 20_000, "application/x-www-form-urlencoded", 413),
    ],
)
def test_what_is_no_form_of_ours_is_answered_with_a_page(
    shop: Shop, http: httpx.Client, body: bytes, kind: str, status: int
) -> None:
    link, _ = shop.checkout()
    answer = http.post(link, content=body, headers={"content-type": kind})
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/html")


def test_names_and_references_are_text_and_never_markup(shop: Shop, http: httpx.Client) -> None:
    hostile = "<script>alert(1)</script> {merchant} \"'&"
    merchant = shop.merchant(hostile)
    payment = shop.payment(merchant, reference=hostile, description=hostile)
    link = shop.link(payment)
    for page in (http.get(link), http.post(link, data=form(key_on(http, link))), http.get(link)):
        assert "<script>alert" not in page.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; {merchant}" in http.get(link).text
