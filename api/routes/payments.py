"""Payments and refunds of a merchant. What they do is the gateway's; here they are asked for and shown."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from litestar import Response, get, post
from litestar.params import FromPath

from api.answers import as_answer
from api.books import merchant_asked
from api.errors import NotFound
from api.operation import ApiRequest, changes, reads
from api.paths import public_in
from api.policy import Audience, Scope
from api.schemas.payments import (
    CaptureBody,
    ConfirmBody,
    NewPaymentBody,
    PaymentList,
    PaymentsQuery,
    PaymentView,
    RefundBody,
    RefundView,
    VoidBody,
)
from gateway import captures, events, idempotency, ids, payments, refunds, voids
from gateway.idempotency import Idem
from gateway.model import CaptureMethod, Payment, Refund
from gateway.payments import NewPayment

_TAG = "Payments"
_MERCHANT = Audience.MERCHANT
Work = Callable[[Idem], Awaitable[Payment | Refund]]


def merchant_of(request: ApiRequest) -> UUID:
    """The merchant of a client whose route is for merchants."""
    merchant_id = request.auth.merchant_id
    if merchant_id is None:
        raise NotFound
    return merchant_id


def described(result: Payment | Refund, now: datetime) -> dict[str, Any]:
    """As it is also told in events."""
    return events.describe(result, now) if isinstance(result, Payment) else events.describe_refund(result)


async def once(
    request: ApiRequest, route: str, work: Work, *, status: int = 200, claims_first: bool = False
) -> Response[bytes]:
    """Run ``work`` once for the request's Idempotency-Key and answer with what it gives, or gave."""
    deps, now = request.deps, request.deps.clock()
    digest = deps.secrets.request_hash(request.method, request.url.path, await request.body())

    def render(result: Payment | Refund) -> tuple[int, bytes]:
        return status, orjson.dumps(described(result, now))

    idem = Idem(request.idempotency_key(), digest, render, route)
    merchant_id = merchant_of(request)
    answer = await idempotency.answered(
        deps.gateway, merchant_id, idem, lambda: work(idem), claims_first=claims_first
    )
    return as_answer(answer.body, status=answer.status)


@post(
    "/v1/payments",
    **changes(
        *(Scope.PAYMENTS_WRITE, "Create a payment", _TAG, PaymentView, NewPaymentBody),
        audience=_MERCHANT,
        status=201,
        problems=(404, 409),
    ),
)
async def create_payment(request: ApiRequest) -> Response[bytes]:
    """Without an instrument it waits for one: confirm it, or send the customer to a checkout session."""
    body = await request.read(NewPaymentBody)
    new = NewPayment(
        amount=body.amount,
        currency=body.currency,
        capture_method=CaptureMethod(body.capture_method),
        tolerance_bps=body.tolerance_bps,
        hold_valid_s=body.authorization_valid_s,
        reference=body.reference,
        description=body.description,
        metadata=body.metadata,
    )
    card = body.given()

    async def work(idem: Idem) -> Payment:
        return await payments.create(request.deps.gateway, merchant_of(request), new, idem, card=card)

    return await once(request, "payment_create", work, status=201, claims_first=True)


@get(
    "/v1/payments",
    **reads(
        *(Scope.PAYMENTS_READ, "A merchant's payments, newest first", _TAG, PaymentList),
        query=PaymentsQuery,
        problems=(404,),
    ),
)
async def list_payments(request: ApiRequest) -> Response[bytes]:
    """A page; go on with `before` = the page's `next`. A platform client names the merchant (else 422
    `merchant_required`)."""
    asked = request.asked(PaymentsQuery)
    before = None if asked.before is None else public_in(ids.PAYMENT, asked.before)
    deps = request.deps
    # Payments are found by their merchant: over all of them there is no index, and no page without reading history.
    merchant_id = await merchant_asked(deps, request.auth, asked.merchant)
    page = await payments.list_payments(deps.gateway, merchant_id, before=before, limit=asked.limit)
    now = deps.clock()
    following = page[-1].public_id if len(page) == asked.limit else None
    return as_answer(orjson.dumps({"data": [described(p, now) for p in page], "next": following}))


@get(
    "/v1/payments/{payment_id:str}",
    **reads(Scope.PAYMENTS_READ, "One payment", _TAG, PaymentView),
)
async def get_payment(request: ApiRequest, payment_id: FromPath[str]) -> Response[bytes]:
    """As it is now: what time has ended is shown as ended. A merchant sees its own, a platform client any."""
    id_ = public_in(ids.PAYMENT, payment_id)
    found = await payments.get(request.deps.gateway, request.auth.merchant_id, id_)
    return as_answer(orjson.dumps(described(found, request.deps.clock())))


@post(
    "/v1/payments/{payment_id:str}/confirm",
    **changes(
        *(Scope.PAYMENTS_WRITE, "Confirm a payment", _TAG, PaymentView, ConfirmBody), audience=_MERCHANT
    ),
)
async def confirm_payment(request: ApiRequest, payment_id: FromPath[str]) -> Response[bytes]:
    """Pay it with a card. A decline, or a bank that does not answer, is told by the payment itself."""
    card = (await request.read(ConfirmBody)).given()
    id_ = public_in(ids.PAYMENT, payment_id)
    assert card is not None

    async def work(idem: Idem) -> Payment:
        return await payments.confirm(request.deps.gateway, merchant_of(request), id_, card, idem)

    return await once(request, "payment_confirm", work)


@post(
    "/v1/payments/{payment_id:str}/capture",
    **changes(
        *(Scope.PAYMENTS_WRITE, "Capture a payment", _TAG, PaymentView, CaptureBody), audience=_MERCHANT
    ),
)
async def capture_payment(request: ApiRequest, payment_id: FromPath[str]) -> Response[bytes]:
    """All or part of what is authorized, several times if need be."""
    body = await request.read(CaptureBody)
    id_ = public_in(ids.PAYMENT, payment_id)

    async def work(idem: Idem) -> Payment:
        deps = request.deps
        return await captures.capture(deps.gateway, merchant_of(request), id_, body.amount, body.final, idem)

    return await once(request, "payment_capture", work)


@post(
    "/v1/payments/{payment_id:str}/void",
    **changes(*(Scope.PAYMENTS_WRITE, "Void a payment", _TAG, PaymentView, VoidBody), audience=_MERCHANT),
)
async def void_payment(request: ApiRequest, payment_id: FromPath[str]) -> Response[bytes]:
    """Give back what is authorized and not captured; a payment nobody has paid is canceled."""
    body = await request.read(VoidBody)
    id_ = public_in(ids.PAYMENT, payment_id)

    async def work(idem: Idem) -> Payment:
        return await voids.void(request.deps.gateway, merchant_of(request), id_, body.amount, idem)

    return await once(request, "payment_void", work)


@post(
    "/v1/payments/{payment_id:str}/refunds",
    **changes(
        *(Scope.REFUNDS_WRITE, "Refund a payment", "Refunds", RefundView, RefundBody),
        audience=_MERCHANT,
        status=201,
    ),
)
async def create_refund(request: ApiRequest, payment_id: FromPath[str]) -> Response[bytes]:
    """To the card that paid."""
    body = await request.read(RefundBody)
    id_ = public_in(ids.PAYMENT, payment_id)

    async def work(idem: Idem) -> Refund:
        deps = request.deps
        return await refunds.refund(deps.gateway, merchant_of(request), id_, body.amount, body.reason, idem)

    return await once(request, "refund_create", work, status=201)


@get(
    "/v1/refunds/{refund_id:str}",
    **reads(Scope.PAYMENTS_READ, "One refund", "Refunds", RefundView),
)
async def get_refund(request: ApiRequest, refund_id: FromPath[str]) -> Response[bytes]:
    """Pending until the bank has answered. A merchant sees its own, a platform client any."""
    id_ = public_in(ids.REFUND, refund_id)
    found = await refunds.get_refund(request.deps.gateway, request.auth.merchant_id, id_)
    return as_answer(orjson.dumps(described(found, request.deps.clock())))


routes = (
    *(create_payment, list_payments, get_payment, confirm_payment, capture_payment, void_payment),
    *(create_refund, get_refund),
)
