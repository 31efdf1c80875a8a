"""Payments, refunds and checkout sessions as merchants write and read them.

What is read is made by ``gateway.events.describe``, the same for answers and for events; the views here say
what that is (a test holds them together).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SecretStr, StringConstraints

from api.schemas.base import Amount, Closed, CurrencyCode, Description, Instant, Metadata, View

Reference = Annotated[
    str,
    StringConstraints(pattern=r"^[!-~]{0,64}$"),
    Field(description="The merchant's own name for it, e.g. an order number", examples=["order-1001"]),
]
PaymentId = Annotated[str, StringConstraints(pattern=r"^pay_[0-9a-z]{26}$")]
_CARD_NUMBER = Field(
    json_schema_extra={"pattern": "^[0-9][0-9 -]{10,22}[0-9]$", "examples": ["4111 1111 1111 1111"]},
    min_length=12,
    max_length=24,
    description="12 to 19 digits; spaces and hyphens are ignored",
)


class NewPaymentBody(Closed):
    """What is to be paid. With `automatic` the whole amount is captured as soon as it is authorized."""

    amount: Amount
    currency: CurrencyCode
    capture_method: Literal["automatic", "manual"] = "automatic"
    reference: Reference = ""
    description: Description = ""
    metadata: Metadata = Field(default_factory=dict)


class CardBody(Closed):
    """A card as it was typed. It goes to the vault and the bank; `cvv` is stored nowhere."""

    number: Annotated[SecretStr, _CARD_NUMBER]
    expiry_month: Annotated[int, Field(ge=1, le=12, examples=[12])]
    expiry_year: Annotated[int, Field(ge=2000, le=2099, examples=[2029])]
    cvv: Annotated[
        SecretStr | None,
        Field(description="3 or 4 digits", json_schema_extra={"examples": ["123"]}),
    ] = None


class ConfirmBody(Closed):
    """How it is paid: with a card, or with the token of one."""

    card: CardBody | None = None
    card_token: Annotated[str, StringConstraints(pattern=r"^[!-~]{1,64}$")] | None = None


class CaptureBody(Closed):
    """Without `amount`: all that is left. `final` gives the rest back to the customer."""

    amount: Amount | None = None
    final: bool = True


class VoidBody(Closed):
    """Without `amount`: all that is left."""

    amount: Amount | None = None


class RefundBody(Closed):
    """Without `amount`: all that was captured and not refunded yet."""

    amount: Amount | None = None
    reason: Description = ""


class CheckoutBody(Closed):
    """A hosted page on which a customer pays `payment_id`, and the page of yours to return to."""

    payment_id: PaymentId
    return_url: Annotated[str, StringConstraints(pattern=r"^https?://[!-~]+$", max_length=2000)]


class MethodView(View):
    type: Literal["card"]
    brand: str
    last4: str


class RefusalView(View):
    """The bank's last refusal, or why nothing could be sent."""

    code: str | None
    reason: str | None


class PaymentView(View):
    """A payment. While a bank has not answered: status `processing`, outcome `unknown`.

    The amounts below `capture_method` are what banks have confirmed, in minor units.
    """

    object: Literal["payment"]
    id: Annotated[str, Field(examples=["pay_01kb0n7d1ve2p9a4x8m3q6s5tz"])]
    merchant_id: str
    status: Literal[
        "requires_payment_method",
        "requires_action",
        "processing",
        "requires_capture",
        "partially_captured",
        "succeeded",
        "canceled",
        "expired",
        "failed",
    ]
    outcome: Literal["unknown"] | None
    unknown_since: Instant | None
    next_check_at: Instant | None
    amount: int
    currency: CurrencyCode
    capture_method: Literal["automatic", "manual"]
    authorized: int
    captured: int
    voided: int
    refunded: int
    disputed: int
    method: MethodView | None
    last_refusal: RefusalView | None
    reference: str
    description: str
    metadata: dict[str, str]
    created_at: Instant
    expires_at: Instant


class PaymentList(View):
    """Newest first. `next` is the `before` of the following page; null at the end."""

    data: list[PaymentView]
    next: str | None


class PaymentsQuery(Closed):
    before: Annotated[PaymentId | None, Field(description="Payments made before this one")] = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50


class RefundView(View):
    """Money going back to the customer. `pending` until the bank has answered."""

    object: Literal["refund"]
    id: Annotated[str, Field(examples=["re_01kb0n7d1ve2p9a4x8m3q6s5tz"])]
    payment_id: str
    merchant_id: str
    status: Literal["pending", "succeeded", "failed"]
    outcome: Literal["unknown"] | None
    amount: int
    currency: CurrencyCode
    reason: str
    last_refusal: RefusalView | None
    created_at: Instant


class CheckoutView(View):
    """`url` is where to send the customer; whoever has it can pay, and nothing else."""

    id: str
    payment_id: str
    url: str
    return_url: str
    expires_at: Instant
