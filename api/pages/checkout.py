"""The hosted checkout: ``/pay/{token}`` shows where a payment stands and takes a card for it.

The token in the address is the only key to the page, so there is no cookie and nothing to forge a request with. What
is typed goes to the gateway and nowhere else: not back into a page, not into a log, not into a stored answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from litestar import Response, get, post
from litestar.params import FromPath

from api.operation import ApiRequest
from api.pages import checkout_view
from api.pages.card_form import FIELDS, read_card
from api.pages.checkout_view import State, View
from api.pages.form_key import is_key_of, new_key
from api.pages.forms import LIMIT, read_form
from api.pages.render import page, see_other, unchanged
from api.policy import public
from gateway import checkout, idempotency, merchants
from gateway.cards import Card
from gateway.checkout import Session
from gateway.errors import (
    CardInvalid,
    Contended,
    IdempotencyInFlight,
    OutcomeUnknown,
    PaymentExpired,
    SessionExpired,
    StateConflict,
)
from gateway.idempotency import Idem
from gateway.model import Payment, Refund

_ROUTE = "checkout"
# The page itself tells each of these, from the payment as it stands.
_TOLD_BY_THE_PAGE = (
    Contended,
    IdempotencyInFlight,
    OutcomeUnknown,
    PaymentExpired,
    SessionExpired,
    StateConflict,
)


@get("/pay/{token:str}", **public())
async def show_checkout(request: ApiRequest, token: FromPath[str]) -> Response[bytes] | Response[None]:
    """Where the payment stands. To a page that waits (``seen``), only what has changed."""
    view, _ = await _load(request, token)
    if view.waiting and request.query_params.get("seen") == view.state:
        return unchanged()
    return _answer(request, view, 410 if view.state is State.EXPIRED else 200)


@post("/pay/{token:str}", status_code=303, request_max_body_size=LIMIT, **public())
async def pay(request: ApiRequest, token: FromPath[str]) -> Response[bytes]:
    """Try to pay with the card in the form; whatever comes of it, the page then tells."""
    form = await read_form(request)
    view, session = await _load(request, token)
    if not view.takes_card:
        return see_other(view.url)
    if not is_key_of(token, form.get("key", "")):
        return _answer(request, view.stale(), 422)
    read = read_card(form, today=request.deps.clock().date())
    if not isinstance(read, Card):
        return _answer(request, view.complaining(read), 422)
    try:
        await _pay_once(request, session, read, form["key"])
    except CardInvalid as refused:
        return _answer(request, view.complaining(_wrong(refused)), 422)
    except _TOLD_BY_THE_PAGE:
        pass
    return see_other(view.url)


async def _pay_once(request: ApiRequest, session: Session, card: Card, key: str) -> None:
    """A form that comes twice pays once: the second answer waits for, or repeats, the first."""
    gw = request.deps.gateway
    # Of the session, never of the card: a hash of card data is card data.
    asked = hashlib.sha256(session.token.encode()).digest()
    idem = Idem(key, asked, _nothing_to_keep, _ROUTE)
    work = lambda: checkout.pay(gw, session.token, card, idem)  # noqa: E731
    await idempotency.answered(gw, session.merchant_id, idem, work)


def _nothing_to_keep(result: Payment | Refund) -> tuple[int, bytes]:
    return 200, b""


def _wrong(refused: CardInvalid) -> Mapping[str, str]:
    name = "cvc" if refused.field == "cvv" else refused.field
    return {name: FIELDS[name].wrong}


async def _load(request: ApiRequest, token: str) -> tuple[View, Session]:
    """The present view; raises ``SessionNotFound``."""
    gw = request.deps.gateway
    session, payment = await checkout.load_session(gw, token)
    merchant = await merchants.get_merchant(gw, session.merchant_id)
    key = new_key(token, gw.random)
    view = checkout_view.view(session, payment, merchant=merchant.name, key=key, now=gw.clock())
    return view, session


def _answer(request: ApiRequest, view: View, status: int) -> Response[bytes]:
    """The whole page; to htmx, the half that changes."""
    fragment = "hx-request" in request.headers
    template = "checkout/panel.html" if fragment else "checkout/page.html"
    return page(template, status=status, view=view, words=FIELDS, fragment=fragment)


routes = (show_checkout, pay)
