"""Checkout sessions: a link on which a customer pays one payment."""

from __future__ import annotations

from litestar import Response, post

from api.once import make_once, once_of
from api.operation import ApiRequest, changes
from api.paths import public_in
from api.policy import Audience, Scope
from api.routes.payments import merchant_of
from api.schemas.payments import CheckoutBody, CheckoutView
from gateway import checkout, ids


@post(
    "/v1/checkout_sessions",
    **changes(
        *(Scope.PAYMENTS_WRITE, "Open a checkout session", "Checkout", CheckoutView, CheckoutBody),
        audience=Audience.MERCHANT,
        status=201,
    ),
)
async def create_checkout_session(request: ApiRequest) -> Response[bytes]:
    """Send the customer to `url`; afterwards the page leads back to `return_url`."""
    body = await request.read(CheckoutBody)
    deps, merchant_id = request.deps, merchant_of(request)
    payment_id = public_in(ids.PAYMENT, body.payment_id)

    async def make() -> CheckoutView:
        session = await checkout.create_session(deps.gateway, merchant_id, payment_id, body.return_url)
        return CheckoutView(
            payment_id=body.payment_id,
            url=f"{deps.base_url}/pay/{session.token}",
            return_url=session.return_url,
            expires_at=session.expires_at,
        )

    once = await once_of(request, ids.public(ids.MERCHANT, merchant_id), "checkout_session_create")
    return await make_once(deps, once, make, status=201)


routes = (create_checkout_session,)
