"""Payments, refunds and checkout sessions as merchants write and read them.

What is read is made by ``gateway.events.describe``, the same for answers and for events; the views here say
what that is (a test holds them together).
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from api.schemas.base import Amount, Closed, CurrencyCode, Description, Instant, Metadata, View
from api.schemas.ledger import MerchantId
from gateway.cards import Card, Cvv, Pan

Reference = Annotated[
    str,
    StringConstraints(pattern=r"^[!-~]{0,64}$"),
    Field(description="The merchant's own name for it, e.g. an order number", examples=["order-1001"]),
]
ID_BODY = r"[0-7][0-9a-hjkmnp-tv-z]{25}$"  # gateway.ids
PaymentId = Annotated[str, StringConstraints(pattern=r"^pay_" + ID_BODY)]
_CARD_NUMBER = Field(
    json_schema_extra={"pattern": "^[0-9][0-9 -]{10,22}[0-9]$", "examples": ["4111 1111 1111 1111"]},
    min_length=12,
    max_length=24,
    description="12 to 19 digits; spaces and hyphens are ignored",
)


class CardBody(Closed):
    """A card as it was typed. It goes to the vault and the bank; `cvv` is stored nowhere."""

    number: Annotated[SecretStr, _CARD_NUMBER]
    expiry_month: Annotated[int, Field(ge=1, le=12, examples=[12])]
    expiry_year: Annotated[int, Field(ge=2000, le=2099, examples=[2029])]
    cvv: Annotated[
        SecretStr | None,
        Field(description="3 or 4 digits", json_schema_extra={"examples": ["123"]}),
    ] = None

    def card(self) -> Card:
        """Raises ``CardInvalid``, which names the field and repeats nothing."""
        expiry = f"{self.expiry_year % 100:02}{self.expiry_month:02}"
        cvv = None if self.cvv is None else Cvv(self.cvv.get_secret_value())
        return Card(Pan(self.number.get_secret_value()), expiry, cvv)


class Instrument(Closed):
    """A card, or the token of one that this merchant has used before."""

    card: CardBody | None = None
    card_token: Annotated[str, StringConstraints(pattern=r"^card_" + ID_BODY)] | None = None

    def given(self) -> Card | str | None:
        """Raises ``CardInvalid``."""
        return self.card.card() if self.card is not None else self.card_token

    @model_validator(mode="after")
    def _one_at_most(self) -> Self:
        if self.card is not None and self.card_token is not None:
            raise PydanticCustomError("one_instrument", "give a card or a token, not both")
        return self


class NewPaymentBody(Instrument):
    """What is to be paid; with an instrument, it is confirmed in the same request.

    With `automatic` the whole amount is captured as soon as it is authorized. Captures may exceed the amount by
    `tolerance_bps` in 10 000ths, as far as agreed with the merchant.
    """

    amount: Amount
    currency: CurrencyCode
    capture_method: Literal["automatic", "manual"] = "automatic"
    tolerance_bps: Annotated[int, Field(ge=0, le=10_000)] = 0
    authorization_valid_s: Annotated[
        int | None,
        Field(
            ge=1, le=604_800, description="How long an authorization holds, in seconds", examples=[604_800]
        ),
    ] = None
    reference: Reference = ""
    description: Description = ""
    metadata: Metadata = Field(default_factory=dict)


class ConfirmBody(Instrument):
    """How it is paid."""

    @model_validator(mode="after")
    def _one_at_least(self) -> Self:
        if self.card is None and self.card_token is None:
            raise PydanticCustomError("one_instrument", "give a card or a token")
        return self


class CaptureBody(Closed):
    """Without `amount`: all that is left. `final` gives the rest back to the customer."""

    amount: Amount | None = None
    final: bool = False


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
    merchant: MerchantId | None = None
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

    payment_id: str
    url: Annotated[str, Field(examples=["https://pay.example/pay/…"])]
    return_url: str
    expires_at: Instant
