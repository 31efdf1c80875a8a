"""What the checkout shows: a pure function of the session, its payment and the time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from api.pages import words
from gateway.checkout import Session
from gateway.model import Payment
from gateway.payments import reversal_queued
from gateway.states import AttemptState, PaymentStatus


class State(StrEnum):
    """Where the customer is; ``seen=`` in the address that asks whether it has changed."""

    READY = "ready"
    DECLINED = "declined"
    CALLED_OFF = "called_off"
    WORKING = "working"
    UNKNOWN = "unknown"
    APPROVED = "approved"
    PAID = "paid"
    CANCELED = "canceled"
    FAILED = "failed"
    EXPIRED = "expired"


TAKES_CARD: Final = frozenset({State.READY, State.DECLINED, State.CALLED_OFF})
WAITING: Final = frozenset({State.WORKING, State.UNKNOWN})

_BY_STATUS: Final[Mapping[PaymentStatus, State]] = MappingProxyType(
    {
        PaymentStatus.REQUIRES_ACTION: State.WORKING,
        PaymentStatus.REQUIRES_CAPTURE: State.APPROVED,
        PaymentStatus.PARTIALLY_CAPTURED: State.PAID,
        PaymentStatus.SUCCEEDED: State.PAID,
        PaymentStatus.CANCELED: State.CANCELED,
        PaymentStatus.FAILED: State.FAILED,
        PaymentStatus.EXPIRED: State.EXPIRED,
    }
)


def state_of(session: Session, payment: Payment, now: datetime) -> State:
    """Also when no job has run yet: what time alone has ended is over."""
    over = session.expires_at <= now or payment.expires_at <= now
    status = payment.status_at(now)
    if status is PaymentStatus.PROCESSING:
        return _processing(payment, over=over)
    if status is PaymentStatus.REQUIRES_PAYMENT_METHOD:
        return State.EXPIRED if over else _before_paying(payment)
    return _BY_STATUS[status]


def _processing(payment: Payment, *, over: bool) -> State:
    if payment.totals.captured:
        return State.PAID
    if payment.attempt_state is AttemptState.CAPTURING:
        # The bank holds the money for this payment; only the taking of it is on its way.
        return State.APPROVED
    if reversal_queued(payment) and payment.attempts_used < payment.max_attempts and not over:
        return State.CALLED_OFF
    return State.UNKNOWN if payment.unknown else State.WORKING


def _before_paying(payment: Payment) -> State:
    if payment.last_refusal is not None:
        return State.DECLINED
    return State.CALLED_OFF if payment.attempt_state is AttemptState.REVERSED else State.READY


@dataclass(frozen=True, slots=True)
class _Said:
    """``title`` and ``sentences`` may name the ``{merchant}``; ``tone`` colours the sign."""

    title: str
    sentences: tuple[str, ...] = ()
    tone: str = ""
    icon: str = ""


_SAID: Final[Mapping[State, _Said]] = MappingProxyType(
    {
        State.READY: _Said("Pay by card"),
        State.DECLINED: _Said("Pay by card"),
        State.CALLED_OFF: _Said(
            "Pay by card",
            (
                "Your bank did not answer, so we have called that try off.",
                "If it set money aside, it will release it. You can try again.",
            ),
        ),
        State.WORKING: _Said(
            "Asking your bank", ("This takes a few seconds. Please do not pay again.",), tone="wait"
        ),
        State.UNKNOWN: _Said(
            "We are asking the bank",
            (
                "Your bank has not answered yet, so we do not know whether it accepted the payment.",
                "Do not pay again. If it did not go through, nothing will be taken from your card.",
            ),
            tone="wait",
        ),
        State.APPROVED: _Said(
            "Payment confirmed",
            ("Your bank has approved it, and {merchant} knows. There is nothing more to do.",),
            tone="good",
            icon="check",
        ),
        State.PAID: _Said(
            "Paid",
            ("{merchant} has your payment. Opening this page again charges nothing.",),
            tone="good",
            icon="check",
        ),
        State.CANCELED: _Said(
            "Payment canceled",
            ("{merchant} has canceled this payment.", "Nothing is taken from your card."),
            icon="cross",
        ),
        State.FAILED: _Said(
            "Not paid",
            (
                "Too many tries did not go through. Nothing was charged.",
                "Go back to {merchant} to start again.",
            ),
            tone="bad",
            icon="cross",
        ),
        State.EXPIRED: _Said(
            "This page has expired",
            ("Nothing was charged.", "Go back to {merchant} to start again."),
            icon="clock",
        ),
    }
)


@dataclass(frozen=True, slots=True)
class View:
    """One rendering. ``errors`` by field; ``focus``: the field, or ``title``, that gets the focus; ``key``: makes
    sending the form twice harmless."""

    state: State
    url: str
    key: str
    merchant: str
    amount: int
    currency: str
    reference: str
    description: str
    return_url: str
    title: str
    sentences: tuple[str, ...]
    tone: str = ""
    icon: str = ""
    card: str = ""
    focus: str = ""
    errors: Mapping[str, str] = field(default_factory=lambda: MappingProxyType[str, str]({}))

    @property
    def takes_card(self) -> bool:
        return self.state in TAKES_CARD

    @property
    def waiting(self) -> bool:
        return self.state in WAITING

    def complaining(self, errors: Mapping[str, str]) -> View:
        """The form again, with what is wrong beside each field. What the bank said before is past."""
        return replace(self, errors=errors, focus=next(iter(errors)), sentences=())

    def stale(self) -> View:
        """The form again, because its key was not ours."""
        return replace(
            self, sentences=("This form was out of date.", "Please enter the card again."), focus="title"
        )


def view(session: Session, payment: Payment, *, merchant: str, key: str, now: datetime) -> View:
    state = state_of(session, payment, now)
    said, refusal, attempt = _SAID[state], payment.last_refusal, payment.current
    sentences = tuple(sentence.format(merchant=merchant) for sentence in said.sentences)
    if state is State.DECLINED and refusal is not None:
        told = words.refusal(refusal)
        sentences = (told.text, told.advice)
    started = attempt is not None and state not in TAKES_CARD | {State.EXPIRED}
    return View(
        state=state,
        url=f"/pay/{session.token}",
        key=key,
        merchant=merchant,
        amount=payment.amount,
        currency=payment.currency,
        reference=payment.reference,
        description=payment.description,
        return_url=session.return_url,
        title=said.title,
        sentences=sentences,
        tone=said.tone,
        icon=said.icon,
        card=words.card(attempt.brand, attempt.last4) if attempt is not None and started else "",
        focus="title" if sentences else "",
    )
