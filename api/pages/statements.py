"""Statements to keep: a form on each account's page, and the files it answers with."""

from __future__ import annotations

from datetime import date
from typing import Any

from litestar import Response, get
from litestar.params import FromPath

from api.books import Sight
from api.documents.formats import FORMATS
from api.errors import NotFound, StatementTooLong
from api.operation import ApiRequest
from api.pages import books
from api.pages.render import page
from api.pages.viewer import viewer_of
from api.paths import currency_in
from api.policy import public
from api.routes.statements import statement_file
from ledger.reports.errors import NotRepresentable, PeriodInvalid

# In the order of the buttons; the first is what Enter in a field asks for.
BUTTONS = (("pdf", "PDF"), ("html", "Print view"), ("csv", "CSV"), ("camt.053", "camt.053"))


def form(currency: str, account: str, today: date) -> dict[str, Any]:
    """What the form begins with: this month until today."""
    return {
        "action": f"{books.account_href(account, currency)}/statement",
        "first": today.replace(day=1).isoformat(),
        "last": today.isoformat(),
        "buttons": BUTTONS,
    }


@get("/merchant/accounts/{currency:str}/{account:str}/statement", **public())
async def get_file(request: ApiRequest, currency: FromPath[str], account: FromPath[str]) -> Response[Any]:
    """The statement of one of the merchant's accounts between two days, as a file."""
    viewer = await viewer_of(request)
    asked = request.query_params
    format = asked.get("format", "")
    if account not in {place.path for place in books.places(viewer.owner)} or format not in FORMATS:
        raise NotFound
    period = (_day(asked.get("from", "")), _day(asked.get("to", "")))
    try:
        return await statement_file(
            *(request.deps, Sight(viewer.book_id, viewer.owner), account, currency_in(currency), period),
            format=format,
            name=lambda path: books.counter_name(path, viewer.owner),
        )
    except (PeriodInvalid, StatementTooLong, NotRepresentable) as refusal:
        return _refused(refusal, books.account_href(account, currency))


def _day(text: str) -> date:
    """A day as a date field sends it; anything else was not written by us."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise NotFound from None


def _refused(refusal: Exception, back: str) -> Response[bytes]:
    return page(
        "message.html",
        status=422,
        heading="There is no such statement",
        sentence=f"{refusal}.",
        link={"href": back, "text": "Back to the account"},
        request_id="",
    )


routes = (get_file,)
