"""HTML forms as they arrive: small, flat, each field once."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl

from api.errors import MalformedRequest
from api.operation import ApiRequest

FORM = "application/x-www-form-urlencoded"
LIMIT = 8_192
_MOST_FIELDS = 20


async def read_form(request: ApiRequest) -> Mapping[str, str]:
    """The fields by name, without space around them; raises ``MalformedRequest``, which repeats no value."""
    if (request.headers.get("content-type") or "").partition(";")[0].strip().lower() != FORM:
        raise MalformedRequest("The body is not a form")
    try:
        pairs = parse_qsl(
            (await request.body()).decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS
        )
    except ValueError:
        # No "from": a decoding error carries the bytes it choked on.
        raise MalformedRequest("The body is not a form") from None
    form = {name: value.strip() for name, value in pairs}
    if len(form) != len(pairs):
        raise MalformedRequest("A field is given twice")
    return form
