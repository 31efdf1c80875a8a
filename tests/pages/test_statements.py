"""Statements from the merchant's pages: chosen days, each kind of file, without scripts, and nobody else's."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from gateway import payments
from gateway.cards import Card, Cvv, Pan
from gateway.merchants import Merchant
from tests.pages.browser import DESK, PHONE, assert_accessible, looking
from tests.pages.shop import GOOD, Shop
from tests.reports import readers


@pytest.fixture(scope="module")
def merchant(shop: Shop) -> Merchant:
    merchant = shop.merchant()
    for amount in (10_000, 2_500):
        payment = shop.payment(merchant, amount, "INR", reference=f"ORD-{amount}")
        card = Card(Pan(GOOD), "3912", Cvv("123"))
        shop.run(payments.confirm(shop.gateway, merchant.id, payment.id, card))
    return merchant


@pytest.fixture(scope="module")
def credentials(shop: Shop, merchant: Merchant) -> tuple[str, str]:
    return shop.client(merchant)


def open_account(page: Page, merchant: Merchant, credentials: tuple[str, str], name: str = "Pending") -> None:
    page.goto("/merchant")
    page.get_by_label("Client id").fill(credentials[0])
    page.get_by_label("Client secret").fill(credentials[1])
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Balances")
    page.goto(f"/merchant/accounts/INR/Liabilities:Merchant:{merchant.owner}:{name}")


@pytest.mark.parametrize("script", [True, False])
def test_a_statement_of_chosen_days_comes_as_each_kind_of_file(
    shop: Shop, browser: Browser, merchant: Merchant, credentials: tuple[str, str], script: bool
) -> None:
    with looking(browser, shop.url, script=script) as page:
        open_account(page, merchant, credentials)
        page.get_by_label("From").fill("2020-01-01")
        read = {"CSV": readers.read_csv, "camt.053": readers.read_camt, "PDF": readers.read_pdf}
        found = []
        for button, reader in read.items():
            with page.expect_download() as download:
                page.get_by_role("button", name=button, exact=True).click()
            found.append(reader(Path(download.value.path()).read_bytes(), "INR"))
            assert download.value.suggested_filename.startswith("Liabilities-Merchant-")
        assert found[0] == found[1] == found[2]
        assert found[0].opening == 0
        assert found[0].closing == sum(found[0].amounts) > 0


def test_the_print_view_is_a_page_that_complains_of_nothing(
    shop: Shop, browser: Browser, merchant: Merchant, credentials: tuple[str, str]
) -> None:
    with looking(browser, shop.url) as page:
        open_account(page, merchant, credentials)
        for size in (PHONE, DESK):
            page.set_viewport_size(size)  # type: ignore[arg-type]
            assert_accessible(page)
        page.get_by_role("button", name="Print view").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Account statement")
        assert readers.read_html(page.content().encode(), "INR").opening == 0
        assert_accessible(page)


def test_days_the_wrong_way_round_are_told_and_lead_back(
    shop: Shop, browser: Browser, merchant: Merchant, credentials: tuple[str, str]
) -> None:
    with looking(browser, shop.url) as page:
        open_account(page, merchant, credentials)
        page.get_by_label("From").fill("2026-11-02")
        page.get_by_label("To", exact=True).fill("2026-11-01")
        page.get_by_role("button", name="CSV").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("There is no such statement")
        page.get_by_role("link", name="Back to the account").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Pending, INR")


def test_what_is_no_day_is_told_how_to_write_one_and_leads_back(
    shop: Shop, browser: Browser, merchant: Merchant, credentials: tuple[str, str]
) -> None:
    with looking(browser, shop.url) as page:
        open_account(page, merchant, credentials)
        account = f"/merchant/accounts/INR/Liabilities:Merchant:{merchant.owner}:Pending"
        for day in ("22/11/2026", ""):
            told = page.request.get(f"{shop.url}{account}/statement?from={day}&to=2026-11-30&format=csv")
            assert told.status == 422
            assert "A day is written 2026-11-22." in told.text()
            assert "Back to the account" in told.text()


def test_a_statement_of_another_merchants_account_is_like_a_missing_one(
    shop: Shop, browser: Browser, merchant: Merchant, credentials: tuple[str, str]
) -> None:
    other = shop.merchant()
    with looking(browser, shop.url) as page:
        open_account(page, merchant, credentials)
        for account in (f"Liabilities:Merchant:{other.owner}:Pending", "Liabilities:Merchant:nobody:Pending"):
            page.goto(f"/merchant/accounts/INR/{account}/statement?from=2026-11-01&to=2026-11-30&format=csv")
            expect(page.get_by_role("heading", level=1)).to_have_text("There is no such page")


def test_an_account_in_no_currency_is_not_found(
    shop: Shop, browser: Browser, merchant: Merchant, credentials: tuple[str, str]
) -> None:
    with looking(browser, shop.url) as page:
        open_account(page, merchant, credentials)
        account = f"Liabilities:Merchant:{merchant.owner}:Pending"
        period = "statement?from=2026-11-01&to=2026-11-30&format=csv"
        for currency in ("%00", "inr", "XYZ"):
            for path in (account, f"{account}/{period}"):
                told = page.request.get(f"{shop.url}/merchant/accounts/{currency}/{path}")
                assert told.status == 404, path
