"""Statements to keep: a form on each account's page, and the files it answers with."""

from __future__ import annotations

from datetime import date
from typing import Any

from litestar import Response, get
from litestar.params import FromPath

from api.books import Sight
from api.documents.formats import FORMATS
from api.errors import NotFound, RateLimited, StatementTooLong
from api.operation import ApiRequest
from api.pages import books
from api.pages.render import page
from api.pages.viewer import viewer_of
from api.paths import currency_in
from api.policy import public
from api.routes.statements import statement_file
from ledger.reports.errors import NotRepresentable, PeriodInvalid

_BUSY = "Other statements are still being written. Try again in a moment."
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
    try:
        period = (_day(asked.get("from", "")), _day(asked.get("to", "")))
        return await statement_file(
            *(request.deps, Sight(viewer.book_id, viewer.owner), account, currency_in(currency), period),
            format=format,
            name=lambda path: books.counter_name(path, viewer.owner),
        )
    except (PeriodInvalid, StatementTooLong, NotRepresentable) as refusal:
        return _refused(f"{refusal}.", books.account_href(account, currency))
    except RateLimited as refusal:
        answer = _refused(_BUSY, books.account_href(account, currency), status=429)
        answer.headers["Retry-After"] = str(refusal.retry_after_s)
        return answer


def _day(text: str) -> date:
    """A day as a date field sends it, or a person where there is no such field. Raises ``PeriodInvalid``."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise PeriodInvalid("A day is written 2026-11-22") from None


def _refused(sentence: str, back: str, status: int = 422) -> Response[bytes]:
    return page(
        "message.html",
        status=status,
        heading="There is no such statement" if status == 422 else "One moment",
        sentence=sentence,
        link={"href": back, "text": "Back to the account"},
        request_id="",
    )


routes = (get_file,)
