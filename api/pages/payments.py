"""Payments as the merchant's pages show them: pure functions of the payment and its journals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from api.pages import words
from api.pages.books import Figure
from api.pages.render import when
from api.pages.words import Word
from gateway.model import Operation, Payment
from ledger.read import JournalView


@dataclass(frozen=True, slots=True)
class Row:
    """A payment in a list. ``label``: the merchant's own name for it, or its id."""

    label: str
    href: str
    made_at: datetime
    card: str
    status: Word
    amount: int
    currency: str
    unknown_since: datetime | None
    next_check_at: datetime | None


def row(payment: Payment, *, now: datetime) -> Row:
    attempt = payment.current
    return Row(
        label=payment.reference or payment.public_id,
        href=f"/merchant/payments/{payment.public_id}",
        made_at=payment.created_at,
        card=words.card(attempt.brand, attempt.last4) if attempt else "",
        status=words.payment_status(payment.status_at(now), unknown=payment.outcome == "unknown"),
        amount=payment.amount,
        currency=payment.currency,
        unknown_since=payment.unknown_since,
        next_check_at=payment.next_check_at,
    )


def figures(payment: Payment, journals: Sequence[JournalView]) -> list[Figure]:
    """What became of the money; each figure opens the journals it was booked with."""
    sums = payment.totals
    charge = sums.charge - sums.charge_returned
    captures, refunds = ("capture",), ("refund", "refund_completion")
    shown = [
        ("Captured", sums.captured, captures, ""),
        ("Authorized", sums.authorized, ("authorization",), ""),
        ("Fee", charge.fee, captures, ""),
        ("GST on the fee", charge.tax, captures, ""),
        ("Refunded", sums.refunded, refunds, ""),
        (
            "For you",
            sums.captured - charge.total - sums.refunded,
            (*captures, *refunds),
            "after fees and refunds",
        ),
    ]
    always = ("Captured", "Authorized", "For you")
    return [
        Figure(label, amount, _explained_by(kinds, journals), hint)
        for label, amount, kinds, hint in shown
        if amount or label in always
    ]


def _explained_by(kinds: tuple[str, ...], journals: Sequence[JournalView]) -> str:
    """The place on the page of the one journal of these kinds; of all journals if there are several."""
    found = [journal.seq for journal in journals if journal.kind in kinds]
    if not found:
        return ""
    return f"#journal-{found[0]}" if len(found) == 1 else "#journals"


def facts(payment: Payment) -> list[tuple[str, str]]:
    attempt, sums = payment.current, payment.totals
    found = [
        ("Payment id", payment.public_id),
        ("Order reference", payment.reference),
        ("Description", payment.description),
        ("Made", when(payment.created_at)),
        ("Card", words.card(attempt.brand, attempt.last4) if attempt else ""),
        ("Bank", attempt.bank.capitalize() if attempt else ""),
        ("Capture", "automatic" if payment.capture_method.value == "automatic" else "by you"),
    ]
    if attempt is not None and attempt.hold_expires_at is not None and sums.remaining:
        found.append(("Capture before", when(attempt.hold_expires_at)))
    return [(label, value) for label, value in found if value]


@dataclass(frozen=True, slots=True)
class Exchange:
    """A message to the bank and its answer. ``rrn``: what the bank finds it by."""

    what: str
    at: datetime
    rrn: str
    outcome: Word
    reason: str
    amount: int


def exchanges(payment: Payment) -> list[Exchange]:
    """Newest first."""
    return [_exchange(op) for op in sorted(payment.operations, key=lambda op: op.id, reverse=True)]


def _exchange(op: Operation) -> Exchange:
    return Exchange(
        what=words.OPERATION[op.kind],
        at=op.created_at,
        rrn=op.reference.rrn,
        outcome=words.OUTCOME[op.state],
        reason=op.reason or "",
        amount=op.amount,
    )
