"""Ageing of clearing accounts: how long what has not cleared yet has been standing open.

A clearing account must return to zero (accounting.md, "Chart"): what goes in on one day is taken out by what clears it
later. Which line clears which is decided first in, first out, by day of effect: the oldest open amount is the first
to go. That is a choice. Matching by reference would be finer where both lines carry one, but the ledger knows no
common reference of a capture and its settlement (that is the bank's word, and ``banks.reconcile`` uses it), a
settlement may come in parts, and what was cleared under a wrong reference would look open twice.

First in, first out has a use: what is open at the end is always the newest that went in, as much of it as the balance
comes to, whatever cleared the rest and in which order. So the open amounts by age follow from the gross sums of the
account as of five days, and no line has to be read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from ledger.as_of import BalanceAsOf

# Accounts at or below these clear; of the receivables only a bank's own (Assets:Receivable:{bank}): a merchant's
# debt and a dispute have no day by which they are gone.
CLEARING_PREFIXES = (
    *("Assets:Receivable", "Assets:Suspense", "Assets:Clearing"),
    *("Liabilities:InTransit", "Liabilities:Suspense", "Liabilities:Clearing"),
)
# Youngest and oldest age of each bucket, in days of effect before the day of the report; the last has no end.
BUCKETS: tuple[tuple[int, int | None], ...] = ((0, 1), (2, 3), (4, 7), (8, 30), (31, None))
BUCKET_NAMES = ("0-1", "2-3", "4-7", "8-30", ">30")


@dataclass(frozen=True, slots=True)
class Ageing:
    """One account. ``open``: its posted balance, signed by its normal side; below zero, more came out than went in.
    ``buckets``: the parts of ``open`` by age (``BUCKET_NAMES``), of its sign; their sum is ``open``."""

    path: str
    currency: str
    open: int
    buckets: tuple[int, ...]


def clears(path: str) -> bool:
    """Is this an account that must return to zero?"""
    if path.startswith("Assets:Receivable:"):
        return path.count(":") == 2
    return any(path == prefix or path.startswith(f"{prefix}:") for prefix in CLEARING_PREFIXES)


def boundaries(on: date) -> tuple[date, ...]:
    """The days whose balances ``ageing`` wants: ``on``, then the day before each bucket's oldest day, newest first."""
    return (on, *(on - timedelta(days=oldest + 1) for _, oldest in BUCKETS if oldest is not None))


def ageing(as_of: Sequence[BalanceAsOf]) -> Ageing | None:
    """One account's ageing from its balances as of each of ``boundaries``, in that order; None: nothing is open."""
    now = as_of[0]
    if now.posted == 0:
        return None
    sums = [_gone_in(balance, inward=now.posted > 0) for balance in as_of]
    fresh = [newer - older for newer, older in zip(sums, [*sums[1:], 0], strict=True)]
    left, buckets = abs(now.posted), list[int]()
    for amount in fresh:
        buckets.append(min(left, amount))
        left -= buckets[-1]
    sign = 1 if now.posted > 0 else -1
    return Ageing(now.path, now.currency, now.posted, tuple(sign * part for part in buckets))


def _gone_in(balance: BalanceAsOf, *, inward: bool) -> int:
    """Gross sum of the lines that raise the account (``inward``) or of those that lower it."""
    return balance.posted_debits if balance.type.debit_normal == inward else balance.posted_credits
