"""The accounts each bank brings into a book (accounting.md, "Chart"), named in one place.

``bank`` is the bank's code, such as ``meridian``.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from psycopg import AsyncConnection

from ledger.books import open_accounts
from ledger.model import NewAccount

INPUT_CREDIT = "Assets:Tax:InputCredit"


def escrow(bank: str) -> str:
    """Customers' and merchants' money at the bank."""
    return f"Assets:Bank:{bank}:Escrow"


def operating(bank: str) -> str:
    """The company's own money at the bank."""
    return f"Assets:Bank:{bank}:Operating"


def receivable(bank: str) -> str:
    """Captured, not yet settled by the bank. Must return to zero."""
    return f"Assets:Receivable:{bank}"


def bank_cost(bank: str) -> str:
    """What the bank keeps for its work, before tax."""
    return f"Expenses:Bank:{bank}"


def refunds_in_transit(bank: str) -> str:
    """Refunds sent to the bank, not confirmed. Must return to zero."""
    return f"Liabilities:InTransit:Refunds:{bank}"


def payouts_in_transit(bank: str) -> str:
    """Payouts sent to the bank, not confirmed. Must return to zero."""
    return f"Liabilities:InTransit:Payouts:{bank}"


def uncaptured(bank: str) -> str:
    """Paid by a customer at the bank, not captured yet."""
    return f"Liabilities:Uncaptured:{bank}"


_OF_EACH_BANK = (escrow, operating, receivable, bank_cost, refunds_in_transit, payouts_in_transit, uncaptured)


async def open_bank_accounts(
    conn: AsyncConnection, book_id: int, bank: str, currencies: Iterable[str], *, now: datetime
) -> None:
    """Open every account of ``bank`` in each currency; those that exist are left as they are."""
    paths = [path(bank) for path in _OF_EACH_BANK] + [INPUT_CREDIT]
    accounts = [NewAccount(path, currency) for currency in currencies for path in paths]
    await open_accounts(conn, book_id, accounts, now=now)
