"""Every journal the gateway books: pure functions of what happened (accounting.md, "Entries").

Amounts are minor units of one currency. Metadata and descriptions carry opaque ids only. The ledger holds an
account's floor after every line, so lines that bring money come before those that take it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from banks import accounts as bank_accounts
from gateway.fees import Charge
from gateway.model import Attempt, Operation, Payment
from ledger.model import Capture, Expire, Journal, NewAccount, Place, Posting, Release, Source

MEMO_AUTHORIZATIONS = "Equity:Memo:Authorizations"
MEMO_ISSUERS = "Equity:Memo:Issuers"
GST = "Liabilities:Tax:GST"


def fees(method: str) -> str:
    """What we earn on payments of this method."""
    return f"Income:Fees:{method}"


def pending(owner: str) -> str:
    """Captured for the merchant, not yet payable. ``owner``: its public id, as everywhere here."""
    return f"Liabilities:Merchant:{owner}:Pending"


def available(owner: str) -> str:
    """Payable to the merchant now."""
    return f"Liabilities:Merchant:{owner}:Available"


def debt(owner: str) -> str:
    """What the merchant owes us."""
    return f"Assets:Receivable:Merchant:{owner}"


def merchant_accounts(owner: str, currency: str) -> Iterator[NewAccount]:
    """A merchant's accounts; floor 0: none may be overdrawn, whatever the code above believes."""
    for path in (pending(owner), available(owner), debt(owner)):
        yield NewAccount(path, currency, floor=0, owner=owner)
    for name in ("Reserve", "Disputed"):
        yield NewAccount(f"Liabilities:Merchant:{owner}:{name}", currency, floor=0, owner=owner)


def platform_accounts(currency: str, methods: Iterable[str] = ("card",)) -> Iterator[NewAccount]:
    """The platform's own accounts that the journals here name."""
    for path in (MEMO_AUTHORIZATIONS, MEMO_ISSUERS, GST, *map(fees, methods)):
        yield NewAccount(path, currency)


@dataclass(frozen=True, slots=True)
class Split:
    """Of which accounts of the merchant a refund is made up; minor units, each zero or more."""

    pending: int
    available: int
    debt: int

    @property
    def total(self) -> int:
        return self.pending + self.available + self.debt

    def parts(self, owner: str) -> list[tuple[str, int]]:
        sums = ((pending(owner), self.pending), (available(owner), self.available), (debt(owner), self.debt))
        return [(path, amount) for path, amount in sums if amount]


def pair(debits: list[tuple[str, int]], credits: list[tuple[str, int]], currency: str) -> tuple[Posting, ...]:
    """Postings that debit and credit these sums, in order; both sides must come to the same total."""
    left, right, postings = list(debits), list(credits), list[Posting]()
    while left and right:
        (debit, out), (credit, into) = left[0], right[0]
        amount = min(out, into)
        postings.append(Posting(debit, credit, amount, currency))
        left[:1] = [(debit, out - amount)] if out > amount else []
        right[:1] = [(credit, into - amount)] if into > amount else []
    if left or right:
        raise ValueError("the sides differ")
    return tuple(postings)


def _journal(
    id: UUID,
    kind: str,
    payment: Payment,
    op: Operation,
    event: str,
    *,
    postings: tuple[Posting, ...] = (),
    hold: Place | Capture | Release | Expire | None = None,
) -> Journal:
    assert payment.current is not None
    return Journal(
        id=id,
        kind=kind,
        source=Source("operation", str(op.id), event),
        postings=postings,
        hold=hold,
        metadata=metadata(payment, payment.current, op),
    )


def metadata(payment: Payment, attempt: Attempt, op: Operation | None = None) -> dict[str, str]:
    facts = {"payment_id": payment.public_id, "merchant_id": payment.owner, "bank": attempt.bank}
    return facts | ({"operation_id": op.public_id, "rrn": op.reference.rrn} if op else {})


def authorized(id: UUID, payment: Payment, op: Operation, *, expires_at: datetime) -> Journal:
    """The issuer holds the money for us: off balance, on the memo pair."""
    place = Place(
        hold_id=op.attempt_id,
        debit=MEMO_AUTHORIZATIONS,
        credit=MEMO_ISSUERS,
        amount=op.amount,
        currency=payment.currency,
        expires_at=expires_at,
        tolerance_bps=payment.tolerance_bps,
    )
    return _journal(id, "authorization", payment, op, "approved", hold=place)


def captured(id: UUID, payment: Payment, op: Operation, charge: Charge) -> Journal:
    """The bank owes us, we owe the merchant, the merchant owes the fee and its GST."""
    assert payment.current is not None
    capture = Capture(
        hold_id=op.attempt_id,
        amount=op.amount,
        final=op.final,
        debit=bank_accounts.receivable(payment.current.bank),
        credit=pending(payment.owner),
    )
    lines = charge_lines(payment, op.amount, charge)
    return _journal(id, "capture", payment, op, "approved", postings=lines, hold=capture)


def captured_late(id: UUID, payment: Payment, op: Operation, charge: Charge, *, held: bool) -> Journal:
    """As ``captured``, when the hold's time has passed but the bank has booked the capture all the same.

    The money has moved, so it is booked in ``posted``; ``held``: the hold has not been booked out yet.
    """
    assert payment.current is not None
    receivable = bank_accounts.receivable(payment.current.bank)
    taken = Posting(receivable, pending(payment.owner), op.amount, payment.currency)
    lines = (taken, *charge_lines(payment, op.amount, charge))
    hold = Expire(op.attempt_id) if held else None
    return _journal(id, "capture", payment, op, "approved", postings=lines, hold=hold)


def charge_lines(payment: Payment, amount: int, charge: Charge) -> tuple[Posting, ...]:
    """Fee and GST out of the captured ``amount``; what it does not cover the merchant owes."""
    owed = max(0, charge.total - amount)
    sources = [(pending(payment.owner), charge.total - owed), (debt(payment.owner), owed)]
    targets = [(fees(payment.method), charge.fee), (GST, charge.tax)]
    return pair([s for s in sources if s[1]], [t for t in targets if t[1]], payment.currency)


def net(amount: int, charge: Charge) -> int:
    """What a capture leaves in the merchant's pending funds."""
    return max(0, amount - charge.total)


def voided(id: UUID, payment: Payment, op: Operation) -> Journal:
    """The issuer frees ``op.amount`` of what it held."""
    return _journal(id, "void", payment, op, "approved", hold=Release(op.attempt_id, op.amount))


def voided_late(id: UUID, payment: Payment, op: Operation) -> Journal:
    """As ``voided``, when the hold's time has passed: all that was left has expired."""
    return _journal(id, "void", payment, op, "approved", hold=Expire(op.attempt_id))


def expired(id: UUID, payment: Payment, attempt: Attempt) -> Journal:
    """The hold's own time has passed; what was not captured is free again."""
    return Journal(
        id=id,
        kind="expiry",
        source=Source("attempt", str(attempt.id), "expired"),
        hold=Expire(attempt.id),
        metadata=metadata(payment, attempt),
    )


def refund_sent(id: UUID, payment: Payment, op: Operation, split: Split) -> Journal:
    """The merchant's money is on its way back to the customer. ``split.total`` is the refund's amount."""
    assert payment.current is not None
    transit = bank_accounts.refunds_in_transit(payment.current.bank)
    lines = pair(split.parts(payment.owner), [(transit, op.amount)], payment.currency)
    return _journal(id, "refund", payment, op, "sent", postings=lines)


def refund_completed(
    id: UUID, payment: Payment, op: Operation, returned: Charge, *, debt_repaid: int
) -> Journal:
    """The bank has paid the customer and keeps it back from what it owes us.

    ``returned``: fee and GST we hand back by policy; ``debt_repaid`` of it makes good what the merchant owes.
    """
    assert payment.current is not None
    bank, owner = payment.current.bank, payment.owner
    transit, receivable = bank_accounts.refunds_in_transit(bank), bank_accounts.receivable(bank)
    sources = [(fees(payment.method), returned.fee), (GST, returned.tax)]
    targets = [(debt(owner), debt_repaid), (available(owner), returned.total - debt_repaid)]
    given = pair([s for s in sources if s[1]], [t for t in targets if t[1]], payment.currency)
    lines = (Posting(transit, receivable, op.amount, payment.currency), *given)
    return _journal(id, "refund_completion", payment, op, "approved", postings=lines)


def refund_failed(id: UUID, payment: Payment, op: Operation, split: Split) -> Journal:
    """The bank has not paid the customer: the money goes back to where it was taken from.

    ``split`` says where that is now: what came from funds that have become payable since goes to Available.
    """
    assert payment.current is not None
    transit = bank_accounts.refunds_in_transit(payment.current.bank)
    lines = pair([(transit, op.amount)], split.parts(payment.owner), payment.currency)
    return _journal(id, "refund_failure", payment, op, "failed", postings=lines)


def funds_released(
    id: UUID, release_id: UUID, owner: str, currency: str, amount: int, *, debt_repaid: int
) -> Journal:
    """Settled funds become payable (T+n); ``debt_repaid`` of them makes good what the merchant owes us."""
    lines = [Posting(pending(owner), available(owner), amount, currency)]
    if debt_repaid:
        lines.append(Posting(available(owner), debt(owner), debt_repaid, currency))
    return Journal(
        id=id,
        kind="funds_release",
        source=Source("release", str(release_id), "released"),
        postings=tuple(lines),
        metadata={"merchant_id": owner},
    )
