"""Who looks at the merchant's pages, and the forms it may send."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from api.errors import FormForged, SignedOut
from api.operation import ApiRequest
from api.pages import sessions
from api.pages.cookies import token_of
from api.pages.forms import read_form
from api.policy import Scope
from gateway.merchants import get_merchant

# All of them are on every page: a client that lacks one signs in nowhere.
NEEDED = frozenset({Scope.PAYMENTS_READ, Scope.ACCOUNTS_READ, Scope.JOURNALS_READ})


@dataclass(frozen=True, slots=True)
class Viewer:
    """``owner``: the merchant's public id, as in account paths. ``csrf``: goes into every form."""

    merchant_id: UUID
    merchant_name: str
    owner: str
    book_id: int
    csrf: str = field(repr=False)


async def viewer_of(request: ApiRequest) -> Viewer:
    """Raises ``SignedOut`` unless a merchant is signed in whose client may still read."""
    token = token_of(request)
    async with request.deps.pool.connection() as conn:
        session = await sessions.find(conn, token, now=request.deps.clock())
    if session is None or not set(session.scopes) >= NEEDED:
        raise SignedOut
    merchant = await get_merchant(request.deps.gateway, session.merchant_id)
    return Viewer(
        merchant_id=merchant.id,
        merchant_name=merchant.name,
        owner=merchant.owner,
        book_id=merchant.book_id,
        csrf=sessions.csrf_token(token),
    )


async def guarded_form(request: ApiRequest) -> dict[str, str]:
    """The form, if it was made for the browser that sends it; raises ``FormForged``."""
    form = dict(await read_form(request))
    token = token_of(request)
    if not sessions.is_token(token) or not sessions.is_csrf_token(token, form.pop("csrf", "")):
        raise FormForged
    return form
