"""The merchant's pages: balances whose figures open their entries, payments, journals."""

from __future__ import annotations

from litestar import Response, get
from litestar.params import FromPath

from api.errors import NotFound
from api.operation import ApiRequest
from api.pages import books, statements
from api.pages import payments as shown
from api.pages.render import page, when
from api.pages.viewer import Viewer, viewer_of
from api.paths import currency_in, public_in, uuid_in
from api.payment_journals import journals_of
from api.policy import public
from gateway import ids, payments
from ledger import read
from ledger.errors import InvalidEntry
from ledger.search import search

_LATEST = 8
_PAYMENTS_A_PAGE = 25
_ENTRIES_A_PAGE = 50
_JOURNALS_A_PAGE = 20


@get("/merchant", **public())
async def show_balances(request: ApiRequest) -> Response[bytes]:
    """What is available, pending, reserved, disputed and owed, in each currency; and the latest payments."""
    viewer, deps = await viewer_of(request), request.deps
    async with deps.pool.connection() as conn:
        found = await read.balances(conn, viewer.book_id, owner=viewer.owner)
    latest = await payments.list_payments(deps.gateway, viewer.merchant_id, limit=_LATEST)
    return page(
        "merchant/balances.html",
        section="balances",
        viewer=viewer,
        groups=books.balance_figures(viewer.owner, found),
        payments=[shown.row(payment, now=deps.clock()) for payment in latest],
    )


@get("/merchant/payments", **public())
async def show_payments(request: ApiRequest) -> Response[bytes]:
    """Newest first, by pages."""
    viewer, deps = await viewer_of(request), request.deps
    asked = request.query_params.get("before")
    before = None if asked is None else public_in(ids.PAYMENT, asked)
    found = await payments.list_payments(
        deps.gateway, viewer.merchant_id, before=before, limit=_PAYMENTS_A_PAGE + 1
    )
    rows = [shown.row(payment, now=deps.clock()) for payment in found[:_PAYMENTS_A_PAGE]]
    last = found[_PAYMENTS_A_PAGE - 1].public_id if len(found) > _PAYMENTS_A_PAGE else None
    return page(
        "merchant/payments.html",
        section="payments",
        viewer=viewer,
        payments=rows,
        newer=None if before is None else "/merchant/payments",
        older=last and f"/merchant/payments?before={last}",
    )


@get("/merchant/payments/{payment_id:str}", **public())
async def show_payment(request: ApiRequest, payment_id: FromPath[str]) -> Response[bytes]:
    """A payment, what was said to the bank, and every journal booked for it."""
    viewer, deps = await viewer_of(request), request.deps
    payment = await payments.get(deps.gateway, viewer.merchant_id, public_in(ids.PAYMENT, payment_id))
    async with deps.pool.connection() as conn:
        journals = await journals_of(conn, payment)
    return page(
        "merchant/payment.html",
        section="payments",
        viewer=viewer,
        payment=shown.row(payment, now=deps.clock()),
        figures=shown.figures(payment, journals),
        facts=shown.facts(payment),
        operations=shown.exchanges(payment),
        journals=[books.journal(journal, viewer.owner) for journal in journals],
    )


@get("/merchant/accounts/{currency:str}/{account:str}", **public())
async def show_account(
    request: ApiRequest, currency: FromPath[str], account: FromPath[str]
) -> Response[bytes]:
    """A statement: the opening balance, each entry with the balance after it, the closing balance."""
    viewer, deps = await viewer_of(request), request.deps
    place = next((place for place in books.places(viewer.owner) if place.path == account), None)
    if place is None:
        raise NotFound
    async with deps.pool.connection() as conn:
        now = await read.balance(conn, viewer.book_id, account, currency_in(currency), owner=viewer.owner)
        if now is None:
            raise NotFound
        after, before = request.query_params.get("after"), request.query_params.get("before")
        try:
            found = await read.statement(
                *(conn, viewer.book_id, account, currency),
                after=after,
                # Without a wish, the entries that end in the figure the viewer has just seen.
                before=before or (None if after else read.END),
                limit=_ENTRIES_A_PAGE,
                owner=viewer.owner,
            )
        except InvalidEntry:
            raise NotFound from None
    if found is None:
        raise NotFound
    href = books.account_href(account, currency)
    return page(
        "merchant/account.html",
        section="balances",
        viewer=viewer,
        place=place,
        currency=currency,
        balance=now,
        opening=found.opening,
        closing=found.closing,
        lines=[books.entry(line, currency, viewer.owner) for line in found.lines],
        earlier=f"{href}?before={found.previous}" if found.previous else None,
        later=f"{href}?after={found.next}" if found.next else None,
        statement=statements.form(currency, account, deps.clock().date()),
    )


@get("/merchant/journals", **public())
async def show_journals(request: ApiRequest) -> Response[bytes]:
    """Every journal on the merchant's accounts, newest first, by pages."""
    viewer, deps = await viewer_of(request), request.deps
    before = _number(request, "before", 0)
    async with deps.pool.connection() as conn:
        found = await search(
            *(conn, viewer.book_id),
            before_seq=before or None,
            limit=_JOURNALS_A_PAGE,
            owner=viewer.owner,
        )
    older = found.next_before_seq
    return page(
        "merchant/journals.html",
        section="journals",
        viewer=viewer,
        journals=[books.journal(journal, viewer.owner) for journal in found.journals],
        newest="/merchant/journals" if before else None,
        older=older and f"/merchant/journals?before={older}",
    )


@get("/merchant/journals/{journal_id:str}", **public())
async def show_journal(request: ApiRequest, journal_id: FromPath[str]) -> Response[bytes]:
    """One journal: its lines, what caused it, and the hash it is sealed with."""
    viewer, deps = await viewer_of(request), request.deps
    async with deps.pool.connection() as conn:
        found = await read.journal_by_id(conn, viewer.book_id, uuid_in(journal_id))
    if found is None or not books.concerns(found, viewer.owner):
        raise NotFound
    payment = found.metadata.get("payment_id")
    return page(
        "merchant/journal.html",
        section="journals",
        viewer=viewer,
        journal=books.journal(found, viewer.owner),
        facts=_journal_facts(found, viewer),
        payment_href=payment and f"/merchant/payments/{payment}",
    )


def _journal_facts(found: read.JournalView, viewer: Viewer) -> list[tuple[str, str]]:
    own = {place.path: place.label for place in books.places(viewer.owner)}
    touched = [path for posting in found.postings for path in (posting.debit, posting.credit) if path in own]
    facts = [
        ("Counts from", when(found.effective_at)),
        ("Recorded", when(found.recorded_at)),
        ("Your accounts", ", ".join(dict.fromkeys(own[path] for path in touched))),
        ("Caused by", found.source),
        ("Bank reference", found.metadata.get("rrn", "")),
        ("Reverses", "" if found.reverses is None else f"no. {found.reverses}"),
    ]
    return [(label, value) for label, value in facts if value]


def _number(request: ApiRequest, name: str, default: int) -> int:
    """A sequence number out of the query; anything else was not written by us."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise NotFound
    return int(text)


routes = (show_balances, show_payments, show_payment, show_account, show_journals, show_journal)
