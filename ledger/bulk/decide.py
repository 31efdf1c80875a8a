"""Judges a batch of transfers as a whole: either every row stands, or it is for ``ledger.decide`` to say which.

Both legs of every row in one array, stably sorted by account: running sums in an account's stretch are its balances
after each line, in the order of the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from ledger.bulk.book import Known
from ledger.bulk.transfers import Transfers
from ledger.state import SUM_MAX

_SHORT = 1 << 16  # 16-bit keys are sorted by radix, ten times as fast


@dataclass(frozen=True, slots=True)
class Legs:
    """What each row leaves its two accounts with: columns ``[:, 0]`` of the debited one, ``[:, 1]`` of the credited.

    ``account``: its number in ``Accounts``.
    """

    account: NDArray[np.int32]
    seq: NDArray[np.int64]
    posted: NDArray[np.int64]
    available: NDArray[np.int64]
    incoming: NDArray[np.int64]


def stand(known: Known, transfers: Transfers, recorded_at: datetime) -> Legs | None:
    """The legs if every row stands, and ``known`` has their balances then; None if some row might not.

    None changes nothing. It is no refusal: where a sum comes close to its bound, the answer is None too.
    """
    accounts, n = known.accounts, len(transfers)
    effective_at = transfers.effective_at or recorded_at
    if known.closed_through is not None and effective_at.date() <= known.closed_through:
        return None
    numbers = accounts.numbers(transfers.paths, transfers.currency)
    account = np.empty((n, 2), np.int32)
    account[:, 0], account[:, 1] = numbers[transfers.debit], numbers[transfers.credit]
    largest_sum = accounts.largest_sum + n * int(transfers.amount.max())
    if int(account.min()) < 0 or not accounts.plain[account].all() or largest_sum > SUM_MAX:
        return None
    sign = accounts.sign[account]
    change = np.empty((n, 2), np.int64)
    change[:, 0] = transfers.amount
    change[:, 1] = -transfers.amount
    change *= sign

    flat = account.reshape(-1)
    order = np.argsort(flat.astype(np.uint16) if accounts.count <= _SHORT else flat, kind="stable")
    ordered = flat[order]
    sums = np.cumsum(change.reshape(-1)[order])
    first = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    length = np.diff(first, append=2 * n)
    touched = ordered[first]
    before = np.zeros(len(first), np.int64)
    before[1:] = sums[first[1:] - 1]
    ordered_posted = sums + np.repeat(accounts.posted[touched] - before, length)
    ordered_seq = np.arange(1, 2 * n + 1) + np.repeat(accounts.seq[touched] - first, length)
    ordered_available = ordered_posted - np.repeat(accounts.outgoing[touched], length)
    if (ordered_available < np.repeat(accounts.floor[touched], length)).any():
        return None

    last = first + length - 1
    accounts.posted[touched] = ordered_posted[last]
    accounts.seq[touched] = ordered_seq[last]
    accounts.largest_sum = largest_sum
    return Legs(
        account,
        _by_row(ordered_seq, order),
        _by_row(ordered_posted, order),
        _by_row(ordered_available, order),
        accounts.incoming[account],
    )


def _by_row(ordered: NDArray[np.int64], order: NDArray[np.intp]) -> NDArray[np.int64]:
    flat = np.empty_like(ordered)
    flat[order] = ordered
    return flat.reshape(-1, 2)
