"""Errors as pages instead of problem documents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from litestar import Request, Response

from api.errors import SignedOut
from api.operation import ApiRequest
from api.pages.render import page, see_other
from api.problems import document, report, request_id_of

SIGN_IN = "/merchant/sign-in"


@dataclass(frozen=True, slots=True)
class _Said:
    heading: str
    sentence: str


_SAID = {
    400: _Said("We could not read that", "Go back, load the page again and repeat what you did."),
    403: _Said("That form is out of date", "Go back, load the page again and repeat what you did."),
    404: _Said("There is no such page", "The link may be old, or a letter of it may be missing."),
    410: _Said("This page has expired", "Go back to where you came from and start again."),
    413: _Said("That is too much", "What was sent is larger than any form of ours."),
    429: _Said("Too many tries", "Wait a while, then try again."),
    503: _Said(
        "We will be back in a moment", "Something we need is not there just now. Load the page again shortly."
    ),
}
_BROKEN = _Said("Something went wrong", "It is our fault, and it has been written down.")


def answer_page(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """The exception handler of every page: the statuses and the log are those of the API."""
    if isinstance(error, SignedOut):
        return _to_sign_in(ApiRequest(request.scope))
    request_id = request_id_of(request.scope)
    status, _, headers = document(error, request_id)
    if status >= 500:
        report(error, request_id, status)
    said = _SAID.get(status, _SAID[400] if status < 500 else _BROKEN)
    kept = {name: value for name, value in headers.items() if name in ("Retry-After", "Allow")}
    return page(
        "message.html",
        status=status,
        headers=kept,
        heading=said.heading,
        sentence=said.sentence,
        link=None,
        request_id=request_id if status >= 500 else "",
    )


def _to_sign_in(request: ApiRequest) -> Response[bytes]:
    answer = see_other(SIGN_IN)
    if request.headers.get("hx-request"):
        # htmx would put the sign-in page into this one; the browser itself must go there.
        answer.status_code = 200
        answer.headers = {**answer.headers, "HX-Redirect": SIGN_IN}
        answer.headers.pop("Location")
    return answer
