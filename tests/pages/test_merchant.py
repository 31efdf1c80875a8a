"""The merchant's pages in a browser: signing in, figures that open what they are made of, with and without scripts."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from gateway import payments, refunds
from gateway.cards import Card, Cvv, Pan
from gateway.merchants import Merchant
from gateway.model import Payment
from tests.pages.browser import DESK, PHONE, assert_accessible, looking
from tests.pages.shop import GOOD, LOST_ANSWER, MANUAL, NO_MONEY, Shop


@dataclass
class Trade:
    """A merchant with a history, and the credentials of its client."""

    merchant: Merchant
    paid: Payment
    client_id: str
    secret: str


def card(number: str = GOOD) -> Card:
    return Card(Pan(number), "3912", Cvv("123"))


def pay(shop: Shop, payment: Payment, number: str = GOOD) -> Payment:
    return shop.run(payments.confirm(shop.gateway, payment.merchant_id, payment.id, card(number)))


@pytest.fixture(scope="module")
def trade(shop: Shop) -> Trade:
    merchant = shop.merchant()
    for amount, currency in ((249_900, "INR"), (1_500, "JPY"), (12_345, "KWD")):
        pay(shop, shop.payment(merchant, amount, currency, reference=f"ORD-{amount}"))
    paid = pay(shop, shop.payment(merchant, 10_000_000, reference="ORD-1042"))
    shop.run(refunds.refund(shop.gateway, merchant.id, paid.id, 1_000_000, "one tin dented"))
    pay(shop, shop.payment(merchant, 88_000, reference="ORD-1043", **MANUAL))
    pay(shop, shop.payment(merchant, 50_000, reference="ORD-1044"), NO_MONEY)
    pay(shop, shop.payment(merchant, 60_000, reference="ORD-1045"), LOST_ANSWER)
    shop.payment(merchant, 70_000, reference="")
    client_id, secret = shop.client(merchant)
    return Trade(merchant, shop.now(paid), client_id, secret)


def sign_in(page: Page, trade: Trade) -> None:
    page.goto("/merchant")
    page.get_by_label("Client id").fill(trade.client_id)
    page.get_by_label("Client secret").fill(trade.secret)
    page.get_by_role("button", name="Sign in").click()
    arrived(page)


def arrived(page: Page) -> None:
    """Signed in, and the scripts have run: before they have, a link loads its page whole and moves no focus."""
    expect(page.get_by_role("heading", level=1)).to_have_text("Balances")
    page.wait_for_load_state()


def minor_units(text: str) -> int:
    """``−₹1,00,000.00`` is −10000000: the digits are the amount, whatever the currency."""
    return int(re.sub(r"\D", "", text)) * (-1 if "\u2212" in text else 1)


def money(place: Locator) -> int:
    return minor_units(place.locator(".money").first.inner_text())


def assert_statement_explains(page: Page, figure: int) -> None:
    """Opening balance and entries come to the closing balance, which is the figure that was followed."""
    opening = money(page.locator("[data-row=opening]"))
    closing = money(page.locator("[data-row=closing]"))
    balance = opening
    for line in page.locator("[data-row=line]").all():
        shown = [minor_units(text) for text in line.locator(".number .money").all_inner_texts()]
        balance += shown[0] if line.get_attribute("data-layer") == "posted" else 0
        assert shown[1] == balance
    assert balance == closing == figure


@pytest.mark.parametrize("script", [True, False], ids=["with scripts", "without scripts"])
def test_every_balance_opens_the_entries_it_is_made_of(
    shop: Shop, browser: Browser, trade: Trade, script: bool
) -> None:
    with looking(browser, shop.url, script=script, size=DESK) as page:
        sign_in(page, trade)
        links = page.locator(".balances .amount a")
        assert links.count() == 15, "five accounts in three currencies"
        figures = [(link.inner_text(), link.get_attribute("href")) for link in links.all()]
        assert sum(minor_units(text) != 0 for text, _ in figures) == 3
        for text, href in figures:
            page.locator(f'.balances a[href="{href}"]').click()
            expect(page.get_by_role("heading", level=1)).not_to_have_text("Balances")
            expect(page.locator(".lead-money")).to_have_text(text)
            if minor_units(text):
                assert_statement_explains(page, minor_units(text))
            else:
                expect(page.locator(".empty")).to_contain_text("Nothing has been booked on this account")
            page.get_by_role("link", name="Balances").last.click()
            expect(page.get_by_role("heading", level=1)).to_have_text("Balances")


def test_a_statement_line_opens_its_journal_which_balances(
    shop: Shop, browser: Browser, trade: Trade
) -> None:
    with looking(browser, shop.url, size=DESK) as page:
        sign_in(page, trade)
        page.evaluate("window.stayed = true")
        page.locator('.balances a[href*="/INR/"][href$=":Pending"]').click()
        page.locator("[data-row=line] a").first.click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("Payment captured, no.")
        expect(page.get_by_role("heading", level=1)).to_be_focused()
        assert page.evaluate("window.stayed"), "the page was loaded again"
        assert_journals_balance(page)
        page.get_by_role("link", name="Open the payment").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("ORD-249900")
        page.go_back()
        expect(page.get_by_role("heading", level=1)).to_contain_text("Payment captured, no.")


def assert_journals_balance(page: Page) -> None:
    for journal in page.locator(".journal").all():
        sums = {"debit": 0, "credit": 0}
        for line in journal.locator("tbody tr").all():
            for side, cell in zip(sums, line.locator(".number").all(), strict=True):
                sums[side] += money(cell) if cell.locator(".money").count() else 0
        assert sums["debit"] == sums["credit"]
        totals = [minor_units(text) for text in journal.locator("tfoot .money").all_inner_texts()]
        assert totals[0::2] == totals[1::2]


def test_a_payment_shows_its_figures_messages_and_journals(
    shop: Shop, browser: Browser, trade: Trade
) -> None:
    with looking(browser, shop.url, size=DESK) as page:
        sign_in(page, trade)
        page.get_by_role("navigation").get_by_role("link", name="Payments").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Payments")
        row = page.get_by_role("row").filter(has_text="ORD-1042")
        expect(row.locator(".badge")).to_have_text("Paid")
        row.get_by_role("link").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("ORD-1042")
        shown = dict(
            zip(
                page.locator(".figure dt").all_inner_texts(),
                page.locator(".figure .money").all_inner_texts(),
                strict=True,
            )
        )
        assert shown == {
            "Captured": "₹1,00,000.00",
            "Authorized": "₹1,00,000.00",
            "Fee": "₹2,000.00",
            "GST on the fee": "₹360.00",
            "Refunded": "₹10,000.00",
            "For you": "₹87,640.00",
        }
        for link in page.locator(".figure a").all():
            target = link.get_attribute("href") or ""
            assert target.startswith("#journal")
            expect(page.locator(target)).to_have_count(1)
        assert_journals_balance(page)
        assert page.locator(".journal").count() == 4
        page.locator(".figure a").first.click()
        expect(page.locator(".journal:target")).to_be_in_viewport()


def test_an_unanswered_payment_says_so(shop: Shop, browser: Browser, trade: Trade) -> None:
    with looking(browser, shop.url) as page:
        sign_in(page, trade)
        row = page.get_by_role("row").filter(has_text="ORD-1045")
        expect(row.locator(".badge")).to_have_text("No answer yet")
        row.get_by_role("link").click()
        expect(page.get_by_role("status")).to_contain_text("The bank has not answered yet.")


def test_journals_of_all_accounts_are_listed(shop: Shop, browser: Browser, trade: Trade) -> None:
    with looking(browser, shop.url, script=False) as page:
        sign_in(page, trade)
        page.get_by_role("navigation").get_by_role("link", name="Journals").click()
        expect(page.locator(".journal")).to_have_count(5)
        assert_journals_balance(page)


def test_signing_out_ends_the_session_on_our_side(shop: Shop, browser: Browser, trade: Trade) -> None:
    with looking(browser, shop.url) as page:
        sign_in(page, trade)
        held = page.context.cookies()
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
        page.context.add_cookies(held)  # type: ignore[arg-type]
        page.goto("/merchant")
        expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")


def test_a_session_that_ends_while_looking_leads_to_the_sign_in_page(
    shop: Shop, browser: Browser, trade: Trade
) -> None:
    with looking(browser, shop.url) as page:
        sign_in(page, trade)
        shop.alter("DELETE FROM api.web_session")
        page.get_by_role("link", name="All payments").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
        assert page.url.endswith("/merchant/sign-in")


def test_the_keyboard_reaches_everything(shop: Shop, browser: Browser, trade: Trade) -> None:
    with looking(browser, shop.url, size=DESK) as page:
        page.goto("/merchant")
        expect(page.get_by_label("Client id")).to_be_focused()
        page.keyboard.type(trade.client_id)
        page.keyboard.press("Tab")
        page.keyboard.type(trade.secret)
        page.keyboard.press("Enter")
        arrived(page)
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        expect(page.locator(".balances .amount a").first).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_be_focused()


def test_every_page_is_accessible(shop: Shop, browser: Browser, trade: Trade) -> None:
    owner = trade.merchant.owner
    with looking(browser, shop.url) as page:
        page.goto("/merchant/sign-in")
        both_ways(page)
        page.get_by_label("Client id").fill("cli_nobody")
        page.get_by_label("Client secret").fill("wrong")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_be_visible()
        both_ways(page)
        sign_in(page, trade)
        for path in (
            "/merchant",
            "/merchant/payments",
            f"/merchant/payments/{trade.paid.public_id}",
            f"/merchant/accounts/INR/Liabilities:Merchant:{owner}:Pending",
            f"/merchant/accounts/INR/Liabilities:Merchant:{owner}:Reserve",
            "/merchant/journals",
        ):
            page.goto(path)
            both_ways(page)
        page.locator(".journal-title a").first.click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("no.")
        both_ways(page)


def both_ways(page: Page) -> None:
    for size, scheme in ((PHONE, "light"), (DESK, "dark")):
        page.set_viewport_size(size)  # type: ignore[arg-type]
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        assert_accessible(page)
