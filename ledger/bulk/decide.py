"""Judges a batch as a whole: either every row stands, or it is for ``ledger.decide`` to say which.

Both legs of every line in one array, stably sorted by account: running sums in an account's stretch are its balances
after each line, in the order of the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from ledger.bulk.batches import Batch, Captures, Places, Transfers
from ledger.bulk.book import Known, each, micros
from ledger.model import Layer
from ledger.state import SUM_MAX

PLACE, CAPTURE = 0, 2  # hold actions, as in ``ledger.canonical.HOLD_ACTIONS``
_SHORT = 1 << 16  # 16-bit keys are sorted by radix, ten times as fast
_SIDES = np.array([1, -1])


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines in the order of the rows, ``per_row`` of them each, and what each line leaves its two accounts with.

    ``account`` (numbers in ``Accounts``), ``seq``, ``posted``, ``available`` and ``incoming``: columns ``[:, 0]`` of
    the debited account, ``[:, 1]`` of the credited one. ``action``: of the holds ``hold_ids``, None if there are none.
    """

    per_row: int
    currency: str
    amount: NDArray[np.int64]
    layer: NDArray[np.int64]
    action: int | None
    hold_ids: NDArray[np.uint8] | None
    account: NDArray[np.int32]
    seq: NDArray[np.int64]
    posted: NDArray[np.int64]
    available: NDArray[np.int64]
    incoming: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Asked:
    """Lines to book, before it is known what they leave."""

    per_row: int
    currency: str
    amount: NDArray[np.int64]
    layer: NDArray[np.int64]
    account: NDArray[np.int32]
    action: int | None = None
    hold_ids: NDArray[np.uint8] | None = None


def stand(known: Known, batch: Batch, recorded_at: datetime) -> Lines | None:
    """The lines if every row stands, and ``known`` is what they leave then; None if some row might not.

    None changes nothing. It is no refusal: where a sum comes close to its bound, the answer is None too.
    """
    effective_at = batch.effective_at or recorded_at
    if known.closed_through is not None and effective_at.date() <= known.closed_through:
        return None
    match batch:
        case Transfers():
            asked = _Asked(
                1, batch.currency, batch.amount, _layers(batch, Layer.POSTED), _accounts(known, batch)
            )
        case Places():
            asked = _placed(known, batch, recorded_at)
        case Captures():
            asked = _captured(known, batch, recorded_at)
    lines = None if asked is None else _booked(known, asked)
    if lines is not None:
        _keep_holds(known, batch, lines)
    return lines


def _accounts(known: Known, batch: Transfers | Places) -> NDArray[np.int32]:
    numbers = known.accounts.numbers(batch.paths, batch.currency)
    return np.stack([numbers[batch.debit], numbers[batch.credit]], axis=1)


def _layers(batch: Batch, *layers: Layer) -> NDArray[np.int64]:
    return np.tile(np.array(layers, np.int64), len(batch))


def _placed(known: Known, batch: Places, recorded_at: datetime) -> _Asked | None:
    ids = each(batch.hold_ids)
    expired = micros(batch.expires_at) <= micros(recorded_at)
    if expired or len(set(ids)) < len(ids) or (known.holds.numbers(batch.hold_ids) >= 0).any():
        return None
    pending = _layers(batch, Layer.PENDING)
    account = _accounts(known, batch)
    return _Asked(1, batch.currency, batch.amount, pending, account, PLACE, batch.hold_ids)


def _captured(known: Known, batch: Captures, recorded_at: datetime) -> _Asked | None:
    """What is held, given back and booked: two lines on each hold's own pair."""
    holds = known.holds
    number = holds.numbers(batch.hold_ids)
    if (number < 0).any() or len(np.unique(number)) < len(number):
        return None
    expired = holds.expires_at[number] <= micros(recorded_at)
    if expired.any() or (holds.whole[number] != batch.amount).any():
        return None
    pair = np.stack([holds.debit[number], holds.credit[number]], axis=1)
    currencies = np.unique(known.accounts.currency[pair])
    if len(currencies) > 1:
        return None
    amount = np.stack([-batch.amount, batch.amount], axis=1).reshape(-1)
    layer = _layers(batch, Layer.PENDING, Layer.POSTED)
    twice = np.repeat(batch.hold_ids, 2, axis=0)
    return _Asked(2, currencies[0].decode(), amount, layer, np.repeat(pair, 2, axis=0), CAPTURE, twice)


def _keep_holds(known: Known, batch: Batch, lines: Lines) -> None:
    if isinstance(batch, Places):
        expires_at = np.full(len(batch), micros(batch.expires_at))
        debit, credit = lines.account.T
        known.holds.add(each(batch.hold_ids), debit, credit, batch.amount, expires_at)
    elif isinstance(batch, Captures):
        known.holds.whole[known.holds.numbers(batch.hold_ids)] = 0


@dataclass(frozen=True, slots=True)
class _Stretches:
    """Legs sorted by account, stably: ``order``; where each account's legs begin there, and how many there are."""

    order: NDArray[np.intp]
    touched: NDArray[np.int32]
    first: NDArray[np.intp]
    length: NDArray[np.intp]

    def spread(self, of_account: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.repeat(of_account, self.length)

    def running(self, start: NDArray[np.int64], change: NDArray[np.int64]) -> NDArray[np.int64]:
        """From each account's ``start``, after every leg."""
        sums = np.cumsum(change.reshape(-1)[self.order])
        before = np.zeros(len(self.first), np.int64)
        before[1:] = sums[self.first[1:] - 1]
        return sums + self.spread(start[self.touched] - before)

    def last(self, ordered: NDArray[np.int64]) -> NDArray[np.int64]:
        return ordered[self.first + self.length - 1]

    def by_line(self, ordered: NDArray[np.int64]) -> NDArray[np.int64]:
        flat = np.empty_like(ordered)
        flat[self.order] = ordered
        return flat.reshape(-1, 2)


def _stretches(account: NDArray[np.int32], count: int) -> _Stretches:
    flat = account.reshape(-1)
    order = np.argsort(flat.astype(np.uint16) if count <= _SHORT else flat, kind="stable")
    ordered = flat[order]
    first = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    return _Stretches(order, ordered[first], first, np.diff(first, append=len(flat)))


def _booked(known: Known, asked: _Asked) -> Lines | None:
    """Books the lines, if every account may take its own and is at its floor or above after each."""
    accounts, account, amount = known.accounts, asked.account, asked.amount
    largest_sum = accounts.largest_sum + len(amount) * int(np.abs(amount).max())
    if int(account.min()) < 0 or not accounts.plain[account].all() or largest_sum > SUM_MAX:
        return None
    legs = _stretches(account, accounts.count)
    change = (
        amount[:, None] * _SIDES * accounts.sign[account]
    )  # > 0 raises the balance, of what is not negative
    seq = np.arange(1, account.size + 1) + legs.spread(accounts.seq[legs.touched] - legs.first)
    if asked.action is None:
        posted = legs.running(accounts.posted, change)
        outgoing = legs.spread(accounts.outgoing[legs.touched])
        incoming = legs.spread(accounts.incoming[legs.touched])
    else:
        pending = asked.layer[:, None] == Layer.PENDING
        inward = _SIDES * accounts.sign[account] > 0
        posted = legs.running(accounts.posted, np.where(pending, 0, change))
        outgoing = legs.running(accounts.outgoing, np.where(pending & ~inward, amount[:, None], 0))
        incoming = legs.running(accounts.incoming, np.where(pending & inward, amount[:, None], 0))
    available = posted - outgoing
    if (available < legs.spread(accounts.floor[legs.touched])).any():
        return None
    accounts.largest_sum = largest_sum
    for of_accounts, ordered in (
        (accounts.seq, seq),
        (accounts.posted, posted),
        (accounts.outgoing, outgoing),
        (accounts.incoming, incoming),
    ):
        of_accounts[legs.touched] = legs.last(ordered)
    return Lines(
        asked.per_row,
        asked.currency,
        amount,
        asked.layer,
        asked.action,
        asked.hold_ids,
        account,
        *(legs.by_line(ordered) for ordered in (seq, posted, available, incoming)),
    )
