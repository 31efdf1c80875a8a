"""Accounts and journals of a merchant as its pages show them: pure functions of what the ledger says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from api.pages import words
from api.pages.money import name
from gateway import entries
from ledger.read import Balance, JournalView, StatementLine

SOMEBODY_ELSE: Final = "Another party"
_OF_SOMEBODY = ("Liabilities:Merchant", "Liabilities:Customer", "Assets:Receivable:Merchant")


@dataclass(frozen=True, slots=True)
class Place:
    """An account of the merchant in words."""

    path: str
    label: str
    hint: str


def places(owner: str) -> tuple[Place, ...]:
    """The merchant's accounts in the order of the page, what can be paid out first."""
    return (
        Place(entries.available(owner), "Available", "Payable to you now"),
        Place(entries.pending(owner), "Pending", "Captured, not payable yet"),
        Place(f"Liabilities:Merchant:{owner}:Reserve", "Reserve", "Kept back for a while"),
        Place(f"Liabilities:Merchant:{owner}:Disputed", "Disputed", "Held for open disputes"),
        Place(entries.debt(owner), "Owed to Khata", "Taken from your next funds"),
    )


def account_href(path: str, currency: str) -> str:
    return f"/merchant/accounts/{currency}/{path}"


@dataclass(frozen=True, slots=True)
class Figure:
    """Minor units, and the page or place on it that explains them; ``href`` empty: nothing was booked."""

    label: str
    amount: int
    href: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class CurrencyFigures:
    currency: str
    name: str
    figures: tuple[Figure, ...]


def balance_figures(owner: str, balances: Iterable[Balance]) -> list[CurrencyFigures]:
    """A group for each currency, by its code; each figure opens the statement it is the end of."""
    found = {(b.currency, b.path): b for b in balances}
    return [
        CurrencyFigures(
            currency,
            name(currency),
            tuple(
                Figure(place.label, found[key].posted, account_href(place.path, currency), place.hint)
                for place in places(owner)
                if (key := (currency, place.path)) in found
            ),
        )
        for currency in sorted({currency for currency, _ in found})
    ]


@dataclass(frozen=True, slots=True)
class Line:
    """One side of a posting: ``debit`` or ``credit``, the other is None. ``href``: only for the viewer's own."""

    account: str
    href: str
    layer: str
    currency: str
    debit: int | None = None
    credit: int | None = None


@dataclass(frozen=True, slots=True)
class Sum:
    layer: str
    currency: str
    debit: int
    credit: int


@dataclass(frozen=True, slots=True)
class Journal:
    seq: int
    href: str
    title: str
    effective_at: datetime
    recorded_at: datetime
    description: str
    source: str
    leaf_hash: str
    lines: tuple[Line, ...]
    totals: tuple[Sum, ...]


def journal(view: JournalView, owner: str) -> Journal:
    """Each posting as its debit line and its credit line, and what both sides come to."""
    lines: list[Line] = []
    for posting in view.postings:
        layer, currency, amount = posting.layer, posting.currency, posting.amount
        lines.append(Line(*_account(posting.debit, currency, owner), layer, currency, debit=amount))
        lines.append(Line(*_account(posting.credit, currency, owner), layer, currency, credit=amount))
    return Journal(
        seq=view.seq,
        href=f"/merchant/journals/{view.id}",
        title=words.journal(view.kind),
        effective_at=view.effective_at,
        recorded_at=view.recorded_at,
        description=view.description,
        source=view.source,
        leaf_hash=view.leaf_hash.hex(),
        lines=tuple(lines),
        totals=_totals(lines),
    )


def _totals(lines: Sequence[Line]) -> tuple[Sum, ...]:
    keys = dict.fromkeys((line.layer, line.currency) for line in lines)
    return tuple(
        Sum(
            layer,
            currency,
            sum(line.debit or 0 for line in lines if (line.layer, line.currency) == (layer, currency)),
            sum(line.credit or 0 for line in lines if (line.layer, line.currency) == (layer, currency)),
        )
        for layer, currency in keys
    )


def _account(path: str, currency: str, owner: str) -> tuple[str, str]:
    """What to call the account, and the link to it if it is the viewer's own."""
    if path in {place.path for place in places(owner)}:
        return path, account_href(path, currency)
    return counter_name(path, owner), ""


def counter_name(path: str, owner: str) -> str:
    """What to call an account on the other side of the merchant's."""
    # A journal of this merchant names no other one; if one ever does, this page is not where it is told.
    return SOMEBODY_ELSE if path.startswith(_OF_SOMEBODY) and owner not in path.split(":") else path


def concerns(view: JournalView, owner: str) -> bool:
    """May the merchant see this journal? It touches an account of it, or was booked for it (a card hold)."""
    own = {place.path for place in places(owner)}
    touched = {path for posting in view.postings for path in (posting.debit, posting.credit)}
    return bool(own & touched) or view.metadata.get("merchant_id") == owner


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of a statement; ``amount`` signed by the account's normal side, ``posted`` the balance after it."""

    title: str
    href: str
    effective_at: datetime
    counter: str
    amount: int
    layer: str
    posted: int


def entry(line: StatementLine, currency: str, owner: str) -> Entry:
    return Entry(
        title=words.journal(line.kind),
        href=f"/merchant/journals/{line.journal_id}",
        effective_at=line.effective_at,
        counter=counter_name(line.counter_account, owner),
        amount=line.amount,
        layer=line.layer,
        posted=line.posted,
    )
