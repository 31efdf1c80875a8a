"""Payments: made by a merchant, confirmed with a card, read and listed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from banks.outcomes import Approved, Outcome
from banks.references import BankReference
from gateway import captures, doors, entries, events, exchange, idempotency, ids, store, tables
from gateway.cards import Card
from gateway.core import Gateway
from gateway.doors import Step
from gateway.errors import (
    Contended,
    IdempotencyInFlight,
    Invalid,
    OutcomeUnknown,
    PaymentExpired,
    StateConflict,
)
from gateway.idempotency import Idem
from gateway.merchants import Merchant, load_merchant
from gateway.model import Attempt, CaptureMethod, Kind, Operation, Payment
from gateway.opening import Opened, Opening
from gateway.states import AttemptState, OperationState, PaymentStatus
from gateway.store import Row
from gateway.terms import Terms, forget, terms_of
from ledger.model import MAX_AMOUNT

MAX_METADATA = 20


@dataclass(frozen=True, slots=True)
class NewPayment:
    """``amount`` in minor units of ``currency``. ``tolerance_bps``: by how much captures may exceed it, at most
    what the merchant has agreed with us. ``hold_valid_s``: how long an authorization holds, at most (and by
    default) as long as our policy. ``reference``: the merchant's own name for it.
    """

    amount: int
    currency: str
    capture_method: CaptureMethod = CaptureMethod.AUTOMATIC
    tolerance_bps: int = 0
    hold_valid_s: int | None = None
    reference: str = ""
    description: str = ""
    metadata: Mapping[str, str] = field(default_factory=lambda: MappingProxyType[str, str]({}))

    def __post_init__(self) -> None:
        if type(self.amount) is not int or not 0 < self.amount <= MAX_AMOUNT:
            raise Invalid("amount", f"an integer between 1 and {MAX_AMOUNT}")
        if len(self.reference) > 64 or not self.reference.isprintable():
            raise Invalid("reference", "at most 64 printable characters")
        if len(self.description) > 500 or not self.description.isprintable():
            raise Invalid("description", "at most 500 printable characters")
        if len(self.metadata) > MAX_METADATA or any(
            len(k) > 40 or len(v) > 500 or "\x00" in k + v for k, v in self.metadata.items()
        ):
            raise Invalid("metadata", f"at most {MAX_METADATA} keys of 40 characters, values of 500")


async def create(
    gw: Gateway,
    merchant_id: UUID,
    new: NewPayment,
    idem: Idem | None = None,
    *,
    card: Card | str | None = None,
) -> Payment:
    """Make a payment; with ``card`` (or its token) confirm it in the same request.

    Raises ``MerchantNotFound``, ``CurrencyUnknown``, ``Invalid``, ``TokenNotFound``, ``CardInvalid``,
    ``BankUnavailable``, and ``IdempotencyInFlight`` if the key is someone else's: then nothing was written.
    """
    id = gw.ids()
    for _ in range(doors.TRIES):
        terms = await terms_of(gw, merchant_id, new.currency)
        made, known, sealed = _new_payment(gw, terms, new, id), None, ()
        if card is not None:
            made, known, sealed = await _first_attempt(gw, terms.merchant, made, card)
        match await gw.openings(_opening(gw, terms, made, idem, sealed)):
            case Opened.STANDS:
                return made if known is None else await _authorize(gw, terms.merchant, made, known, idem)
            case Opened.KEY_TAKEN:
                assert idem is not None
                raise IdempotencyInFlight(idem.key, 1)
            case Opened.STALE:
                forget(gw, terms, new.currency)
    raise Contended(ids.public(ids.PAYMENT, id))


def _new_payment(gw: Gateway, terms: Terms, new: NewPayment, id: UUID) -> Payment:
    merchant = terms.merchant
    if not 0 <= new.tolerance_bps <= merchant.tolerance_bps:
        raise Invalid("tolerance_bps", f"between 0 and {merchant.tolerance_bps}")
    longest_s = int(gw.policy.hold_valid.total_seconds())
    if new.hold_valid_s is not None and not 1 <= new.hold_valid_s <= longest_s:
        raise Invalid("authorization_valid_s", f"between 1 and {longest_s}")
    now = gw.clock()
    return Payment(
        id=id,
        merchant_id=merchant.id,
        book_id=merchant.book_id,
        amount=new.amount,
        currency=new.currency,
        capture_method=new.capture_method,
        plan=terms.plan,
        created_at=now,
        expires_at=now + gw.policy.payment_valid,
        fee_returned=merchant.fee_returned,
        tolerance_bps=new.tolerance_bps,
        max_attempts=gw.policy.max_attempts,
        hold_valid_s=new.hold_valid_s or longest_s,
        reference=new.reference,
        description=new.description,
        metadata=dict(new.metadata),
    )


async def _first_attempt(
    gw: Gateway, merchant: Merchant, payment: Payment, card: Card | str
) -> tuple[Payment, Card, tuple[Row, ...]]:
    """The payment about to be sent, the card to send, and the vault's row if it is new to it."""
    gw.rail(merchant.bank)
    now, sealed = gw.clock(), ()
    if isinstance(card, str):
        token = card
        async with gw.engine.connect() as conn:
            card = await gw.vault.reveal(conn, merchant.id, token)
    else:
        token = ids.public(ids.CARD, gw.ids())
        sealed = (gw.vault.row(merchant.id, token, card, now=now),)
    ref = await exchange.next_reference(gw, now=now)
    return _with_attempt(gw, merchant, payment, token, card, ref, now=now), card, sealed


def _opening(
    gw: Gateway, terms: Terms, payment: Payment, idem: Idem | None, sealed: tuple[Row, ...]
) -> Opening:
    """All rows of the payment's beginning; with the request's answer if nothing follows."""
    now = payment.created_at
    key = idempotency.claim_row(
        idem, terms.merchant.id, "payment", payment.id, now=now, lease_until=now + gw.policy.lease
    )
    if payment.current is None:
        answers = idempotency.answer(idem, payment.merchant_id, payment)
        key = tuple(claimed | answer for claimed, answer in zip(key, answers, strict=True))
    event = events.of_payment(None, payment, id=gw.ids, now=gw.clock())
    return Opening(payment, terms.version, event, key, sealed)


async def confirm(
    gw: Gateway, merchant_id: UUID, payment_id: UUID, card: Card | str, idem: Idem | None = None
) -> Payment:
    """Try to pay with ``card`` or the token of a stored one; automatic payments are captured at once.

    A decline or an unknown outcome is part of the payment returned. Raises ``PaymentNotFound``,
    ``TokenNotFound``, ``CardInvalid``, ``PaymentExpired``, ``OutcomeUnknown``, ``StateConflict``.
    """
    async with gw.engine.begin() as conn:
        merchant = await load_merchant(conn, merchant_id)
        before = await store.load(conn, payment_id, merchant_id, lock=True)
        require_confirmable(before, gw.clock())
        after, known = await _begin_attempt(gw, conn, merchant, before, card)
        claimed = doors.claim(gw, idem, merchant_id, "payment", payment_id)
        step = await doors.write(gw, conn, before, Step(after, last=False), idem=idem, claimed=claimed)
    return await _authorize(gw, merchant, step.payment, known, idem)


def require_confirmable(payment: Payment, now: datetime) -> None:
    """Raises unless a new attempt may start."""
    if payment.status_at(now) is PaymentStatus.EXPIRED and payment.authorization is None:
        raise PaymentExpired(payment.public_id, payment.expires_at)
    if payment.expires_at <= now and not payment.totals.authorized:
        raise PaymentExpired(payment.public_id, payment.expires_at)
    if payment.status in (PaymentStatus.REQUIRES_PAYMENT_METHOD, PaymentStatus.REQUIRES_ACTION):
        return
    if reversal_queued(payment) and payment.attempts_used < payment.max_attempts:
        return
    if payment.unknown:
        raise OutcomeUnknown(payment.public_id, payment.unknown_since, payment.next_check_at)
    raise StateConflict(payment.public_id, payment.status, "confirm")


def reversal_queued(payment: Payment) -> bool:
    """The current authorization's outcome is unknown, but it will not stand: its reversal is durably queued."""
    if payment.attempt_state not in (AttemptState.UNKNOWN, AttemptState.CONFLICTED):
        return False
    first = payment.authorization
    return first is not None and any(
        op.kind is Kind.REVERSAL and op.target_id == first.id for op in payment.operations
    )


async def _begin_attempt(
    gw: Gateway, conn: AsyncConnection, merchant: Merchant, payment: Payment, card: Card | str
) -> tuple[Payment, Card]:
    """The payment with a new attempt about to be sent, and the card to send."""
    gw.rail(merchant.bank)
    now = gw.clock()
    if isinstance(card, str):
        token, known = card, await gw.vault.reveal(conn, merchant.id, card)
    else:
        token, known = await gw.vault.tokenise(conn, merchant.id, card, id=gw.ids(), now=now), card
    ref = await exchange.reference(conn, merchant.bank, now=now)
    return _with_attempt(gw, merchant, payment, token, known, ref, now=now), known


def _with_attempt(
    gw: Gateway,
    merchant: Merchant,
    payment: Payment,
    token: str,
    card: Card,
    ref: BankReference,
    *,
    now: datetime,
) -> Payment:
    card.require_unexpired(now.date())
    attempt = Attempt(
        id=gw.ids(),
        number=len(payment.attempts) + 1,
        bank=merchant.bank,
        method="card",
        token=token,
        brand=card.pan.brand,
        last4=card.pan.last4,
        created_at=now,
    )
    op = exchange.sending(gw, Kind.AUTHORIZE, attempt.id, ref, payment.amount)
    return payment.with_operation(op, attempt=attempt)


async def _authorize(
    gw: Gateway, merchant: Merchant, payment: Payment, card: Card, idem: Idem | None
) -> Payment:
    op, rail = payment.authorization, gw.rail(merchant.bank)
    assert op is not None
    if exchange.lease_passed(op, gw.clock()):
        # It is recovery's now: a message sent after its own reversal might stand at the bank for ever.
        return await doors.conclude(gw, payment.id, idem)
    outcome = await rail.authorize(
        op.reference,
        amount=op.amount,
        currency=payment.currency,
        pan=card.pan.reveal(),
        expiry=card.expiry,
        cvv=card.cvv.reveal() if card.cvv else None,
        merchant_id=merchant.acceptor_id,
        terminal_id=merchant.terminal_id,
        tolerance_bps=payment.tolerance_bps,
    )
    return await authorization_answered(gw, payment, op.id, outcome, idem)


async def authorization_answered(
    gw: Gateway, payment: Payment, op_id: UUID, outcome: Outcome, idem: Idem | None = None
) -> Payment:
    """Write what the bank said; place the hold if it approved, and go on to capture an automatic payment."""
    if not isinstance(outcome, Approved):
        return await doors.change(gw, payment.id, lambda p: _not_approved(gw, p, op_id, outcome), idem=idem)
    automatic = payment.capture_method is CaptureMethod.AUTOMATIC
    ref = await exchange.next_reference(gw, now=gw.clock()) if automatic else None
    step = await doors.book(gw, payment, lambda p: _approved(gw, p, op_id, outcome, ref), idem=idem)
    if step is None:  # recovery took over: a late approval does not revive it
        return await doors.conclude(gw, payment.id, idem)
    if ref is None:
        return step.payment
    capture = next(op for op in step.payment.operations if op.reference == ref)
    return await captures.send(gw, step.payment, capture, idem)


def _not_approved(gw: Gateway, payment: Payment, op_id: UUID, outcome: Outcome) -> tuple[Step, ...]:
    op = payment.operation(op_id)
    if op.state is not OperationState.SENDING:
        return ()
    after = exchange.answered(op, outcome, now=gw.clock(), policy=gw.policy)
    return (Step(payment.with_operation(after)),)


def _approved(
    gw: Gateway, payment: Payment, op_id: UUID, outcome: Approved, capture: BankReference | None
) -> tuple[Step, ...]:
    """Place the hold; with ``capture``, its reference, the capture is on its way in the same transaction."""
    op, attempt = payment.operation(op_id), payment.current
    if op.state is not OperationState.SENDING or attempt is None or attempt.id != op.attempt_id:
        return ()
    now = gw.clock()
    expires_at = now + timedelta(seconds=payment.hold_valid_s)
    op = exchange.answered(op, outcome, now=now, policy=gw.policy)
    made = () if capture is None else (_automatic_capture(gw, op, capture),)
    after = payment.with_operation(op, *made, attempt=replace(attempt, hold_expires_at=expires_at))
    journal = entries.authorized(gw.ids(), after, op, expires_at=expires_at)
    return (Step(after, journal, last=capture is None),)


def _automatic_capture(gw: Gateway, authorized: Operation, ref: BankReference) -> Operation:
    amount, id = authorized.amount, authorized.id
    return exchange.sending(gw, Kind.CAPTURE, authorized.attempt_id, ref, amount, target=id, final=True)


async def get(gw: Gateway, merchant_id: UUID | None, payment_id: UUID) -> Payment:
    """``merchant_id`` None: whosever it is. Raises ``PaymentNotFound``."""
    async with gw.engine.connect() as conn:
        return await store.load(conn, payment_id, merchant_id)


async def list_payments(
    gw: Gateway, merchant_id: UUID, *, before: UUID | None = None, limit: int = 50
) -> list[Payment]:
    """A merchant's payments, newest first; ``before``: the id of the last one of the page before."""
    p = tables.payment
    query = select(p).where(p.c.merchant_id == merchant_id).order_by(p.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(p.c.id < before)
    async with gw.engine.connect() as conn:
        return await store.payments(conn, query)


def parse_id(text: str) -> UUID:
    """The UUID of ``pay_…``; raises ``IdInvalid``."""
    return ids.parse(ids.PAYMENT, text)
