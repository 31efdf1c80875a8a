"""The hosted checkout in a browser: every state, with JavaScript, without it, and with the keyboard alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, Page, expect

from gateway import recovery
from gateway.model import Payment
from gateway.states import PaymentStatus
from tests.pages.browser import DESK, PHONE, assert_accessible, looking
from tests.pages.shop import GOOD, LOST_ANSWER, MANUAL, NO_MONEY, RETURN_URL, Shop


def fill(page: Page, number: str = GOOD, expiry: str = "12/39", cvc: str = "123") -> None:
    page.get_by_label("Card number").fill(number)
    page.get_by_label("Expires").fill(expiry)
    page.get_by_label("Security code").fill(cvc)


def press_pay(page: Page) -> None:
    page.get_by_role("button", name="Pay").click()


def heading(page: Page, text: str) -> None:
    expect(page.get_by_role("heading", level=1)).to_have_text(text)


def holds_no_card(page: Page, number: str) -> bool:
    kept = page.content() + " ".join(field.input_value() for field in page.locator("input").all())
    return number not in kept.replace(" ", "") and 'value="123"' not in kept


def test_a_declined_card_can_be_followed_by_one_that_pays(shop: Shop, browser: Browser) -> None:
    link, payment = shop.checkout()
    with looking(browser, shop.url) as page:
        page.goto(link)
        expect(page.locator(".amount")).to_contain_text("₹1,00,000.00")
        expect(page.get_by_text("Chaipatti Tea House", exact=True)).to_be_visible()
        expect(page.get_by_text("ORD-1042")).to_be_visible()
        page.evaluate("window.stayed = true")
        fill(page, NO_MONEY)
        press_pay(page)
        expect(page.get_by_role("alert")).to_contain_text("There is not enough money on this card.")
        assert holds_no_card(page, NO_MONEY)
        fill(page)
        press_pay(page)
        heading(page, "Paid")
        assert holds_no_card(page, GOOD)
        expect(page.get_by_text("Visa ending 1111")).to_be_visible()
        expect(page.get_by_role("link", name="Return to Chaipatti")).to_have_attribute("href", RETURN_URL)
        assert page.evaluate("window.stayed"), "the page was loaded again"
        assert page.title() == "Paid · Chaipatti Tea House"
        page.reload()
        heading(page, "Paid")
    paid = shop.now(payment)
    assert paid.status is PaymentStatus.SUCCEEDED
    assert len(paid.attempts) == 2


def test_everything_works_without_javascript(shop: Shop, browser: Browser) -> None:
    link, payment = shop.checkout()
    with looking(browser, shop.url, script=False) as page:
        page.goto(link)
        page.get_by_label("Card number").fill("4111 1111 1111 1112")
        press_pay(page)
        number = page.get_by_label("Card number")
        expect(number).to_be_focused()
        expect(number).to_have_attribute("aria-invalid", "true")
        expect(number).to_have_value("")
        expect(number).to_have_accessible_description("This is not a card number: check its digits")
        expect(page.get_by_text("Enter the expiry date", exact=True)).to_be_visible()
        fill(page, NO_MONEY)
        press_pay(page)
        expect(page.get_by_role("alert")).to_contain_text("There is not enough money on this card.")
        fill(page, "4111 1111 1111 1111", "12 / 2039")
        press_pay(page)
        heading(page, "Paid")
        assert page.url == link
    assert shop.now(payment).status is PaymentStatus.SUCCEEDED


def time_passes(shop: Shop, payment: Payment) -> None:
    """The lease of the unanswered operation is over, and recovery runs until the bank has answered the reversal."""
    for _ in range(20):
        shop.run(recovery.recover_due(shop.gateway))
        if not shop.now(payment).unknown:
            return
    pytest.fail("the outcome stayed unknown")


def test_no_answer_is_told_as_such_until_the_try_is_called_off(shop: Shop, browser: Browser) -> None:
    link, payment = shop.checkout()
    with looking(browser, shop.url) as page:
        page.goto(link)
        fill(page, LOST_ANSWER)
        press_pay(page)
        heading(page, "We are asking the bank")
        expect(page.get_by_text("Do not pay again.")).to_be_visible()
        expect(page.get_by_label("Card number")).to_have_count(0)
        assert shop.now(payment).outcome == "unknown"
        time_passes(shop, payment)
        # Nobody touches the page: it asks by itself.
        expect(page.get_by_role("alert")).to_contain_text("we have called that try off")
        fill(page)
        press_pay(page)
        heading(page, "Paid")
    paid = shop.now(payment)
    assert paid.status is PaymentStatus.SUCCEEDED
    assert paid.totals.captured == payment.amount


def test_without_javascript_the_browser_itself_asks_again(shop: Shop, browser: Browser) -> None:
    link, payment = shop.checkout()
    with looking(browser, shop.url, script=False) as page:
        page.goto(link)
        fill(page, LOST_ANSWER)
        press_pay(page)
        heading(page, "We are asking the bank")
        time_passes(shop, payment)
        expect(page.get_by_role("alert")).to_contain_text("called that try off", timeout=8_000)


def test_the_keyboard_is_enough(shop: Shop, browser: Browser) -> None:
    link, payment = shop.checkout()
    with looking(browser, shop.url, size=DESK) as page:
        page.goto(link)
        page.keyboard.press("Tab")
        expect(page.get_by_label("Card number")).to_be_focused()
        page.keyboard.type("41111111111111112")
        page.keyboard.press("Enter")
        # What is wrong is said here, before anything is sent, and what was typed stays.
        expect(page.get_by_label("Card number")).to_be_focused()
        expect(page.get_by_label("Card number")).to_have_value("4111 1111 1111 1111 2")
        expect(page.get_by_text("This is not a card number: check its digits")).to_be_visible()
        page.keyboard.press("Backspace")
        expect(page.get_by_text("This is not a card number: check its digits")).to_have_count(0)
        page.keyboard.press("Tab")
        page.keyboard.type("1239")
        expect(page.get_by_label("Expires")).to_have_value("12 / 39")
        page.keyboard.press("Tab")
        page.keyboard.type("123")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        heading(page, "Paid")
        expect(page.get_by_role("heading", level=1)).to_be_focused()
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Return to Chaipatti")).to_be_focused()
    assert shop.now(payment).status is PaymentStatus.SUCCEEDED


def test_while_the_bank_is_asked_the_button_cannot_be_pressed(shop: Shop, browser: Browser) -> None:
    link, payment = shop.checkout()
    shop.acquirer.post("/settings", {"latency_ms": 700})
    try:
        with looking(browser, shop.url) as page:
            page.goto(link)
            fill(page)
            press_pay(page)
            button = page.get_by_role("button")
            expect(button).to_be_disabled()
            expect(button).to_have_text("Asking your bank…", use_inner_text=True)
            heading(page, "Paid")
    finally:
        shop.acquirer.post("/settings", {"latency_ms": 0})
    assert len(shop.now(payment).attempts) == 1


def test_digits_typed_in_the_middle_stay_where_they_were_typed(shop: Shop, browser: Browser) -> None:
    link, _ = shop.checkout()
    with looking(browser, shop.url) as page:
        page.goto(link)
        number = page.get_by_label("Card number")
        number.press_sequentially("41111111")
        for _ in range(5):
            page.keyboard.press("ArrowLeft")
        page.keyboard.type("99")
        expect(number).to_have_value("4111 9911 11")
        number.fill("")
        number.press_sequentially("378282246310005")
        expect(number).to_have_value("3782 822463 10005")


@pytest.mark.parametrize(
    ("amount", "currency", "shown"),
    [(10_000_000, "INR", "₹1,00,000.00"), (1500, "JPY", "¥1,500"), (12_345, "KWD", "KWD\u00a012.345")],
)
def test_amounts_have_the_decimals_of_their_currency(
    shop: Shop, browser: Browser, amount: int, currency: str, shown: str
) -> None:
    link, _ = shop.checkout(amount, currency)
    with looking(browser, shop.url) as page:
        page.goto(link)
        expect(page.locator(".order .money")).to_have_text(shown)
        expect(page.get_by_role("button")).to_have_accessible_name(f"Pay {shown}".replace("\u00a0", " "))


def unknown(shop: Shop, page: Page) -> None:
    link, _ = shop.checkout()
    page.goto(link)
    fill(page, LOST_ANSWER)
    press_pay(page)
    heading(page, "We are asking the bank")


def confirmed(shop: Shop, page: Page) -> None:
    link, _ = shop.checkout(**MANUAL)
    page.goto(link)
    fill(page)
    press_pay(page)
    heading(page, "Payment confirmed")


def declined(shop: Shop, page: Page) -> None:
    link, _ = shop.checkout(description="Two kilos of second flush Darjeeling")
    page.goto(link)
    fill(page, NO_MONEY)
    press_pay(page)
    expect(page.get_by_role("alert")).to_be_visible()


def invalid(shop: Shop, page: Page) -> None:
    link, _ = shop.checkout()
    page.goto(link)
    press_pay(page)
    expect(page.get_by_text("Enter the card number")).to_be_visible()


def expired(shop: Shop, page: Page) -> None:
    link, payment = shop.checkout()
    shop.alter(
        "UPDATE gateway.checkout_session SET created_at = now() - interval '1 hour',"
        " expires_at = now() - interval '1 minute' WHERE payment_id = %s",
        payment.id,
    )
    page.goto(link)
    heading(page, "This page has expired")


def missing(shop: Shop, page: Page) -> None:
    page.goto("/pay/no-such-token")
    heading(page, "There is no such page")


@pytest.mark.parametrize("state", [invalid, declined, unknown, confirmed, expired, missing])
def test_every_state_is_accessible(shop: Shop, browser: Browser, state: Callable[[Shop, Page], None]) -> None:
    with looking(browser, shop.url) as page:
        state(shop, page)
        for size, scheme in ((PHONE, "light"), (DESK, "dark")):
            page.set_viewport_size(size)  # type: ignore[arg-type]
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            assert_accessible(page)
