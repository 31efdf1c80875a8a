"""Templates to answers: one environment, one set of headers for every page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from litestar import Response

from api.pages.assets import asset
from api.pages.money import money

HTML = "text/html; charset=utf-8"
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self';"
    " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# What a form or a state answers with is shown in its place; anything else is an error (checkout.js, merchant.js).
HTMX_CONFIG = json.dumps(
    {
        "includeIndicatorStyles": False,
        # htmx focuses what has autofocus when it settles: a moment later would take the focus from who pressed Tab.
        "defaultSettleDelay": 0,
        "allowEval": False,
        "allowScriptTags": False,
        "selfRequestsOnly": True,
        "historyCacheSize": 0,
        "refreshOnHistoryMiss": True,
        "responseHandling": [
            {"code": "204", "swap": False},
            {"code": "2..", "swap": True},
            {"code": "410|422", "swap": True},
            {"code": "...", "swap": False, "error": True},
        ],
    }
)
_HEADERS = {
    "Content-Security-Policy": CSP,
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    # The same address answers htmx with a part of the page.
    "Vary": "HX-Request",
}


def when(at: datetime) -> str:
    """``22 Nov 2026, 14:05 UTC``."""
    utc = at.astimezone(UTC)
    return f"{utc.day} {utc:%b %Y, %H:%M} UTC"


def instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds")


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    filters, names = cast(dict[str, Any], made.filters), cast(dict[str, Any], made.globals)
    filters.update(money=money, when=when, instant=instant)
    names.update(asset=asset, htmx_config=HTMX_CONFIG)
    return made


_TEMPLATES = _environment()


def page(
    template: str, *, status: int = 200, headers: Mapping[str, str] | None = None, **context: Any
) -> Response[bytes]:
    """``template`` with ``context``; a value the template names and nobody gave is an error, not a blank."""
    body = _TEMPLATES.get_template(template).render(context).encode()
    return Response(body, status_code=status, headers={"Content-Type": HTML, **_HEADERS, **(headers or {})})


def see_other(url: str) -> Response[bytes]:
    """After a form: look there, with GET."""
    return Response(b"", status_code=303, headers={"Content-Type": HTML, **_HEADERS, "Location": url})


def unchanged() -> Response[None]:
    """To htmx: what is shown still holds."""
    return Response(None, status_code=204, headers=_HEADERS)
