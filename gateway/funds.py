"""Merchants' funds: each capture's net, in Pending until it is settled and T+n has come, then payable.

The open funds of a merchant and currency always sum to its Pending account, so a release can never be refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from itertools import groupby
from typing import Any
from uuid import UUID

from sqlalchemy import text

from gateway import entries, store, tables
from gateway.core import Gateway, driver
from gateway.model import Fund
from gateway.store import insertion
from ledger import errors as ledger_errors
from ledger.model import Journal, Posted, Statement, Unit
from ledger.read import balance

_BATCH = 1000  # funds a release

_TAKE = """\
UPDATE gateway.fund SET taken = %(to_taken)s
 WHERE operation_id = %(was_id)s AND taken = %(was_taken)s AND release_id IS NULL"""
_RELEASE = """\
UPDATE gateway.fund f SET release_id = %(release_id)s
  FROM unnest(%(ids)s::uuid[], %(taken)s::bigint[]) AS seen(id, taken)
 WHERE f.operation_id = seen.id AND f.taken = seen.taken AND f.release_id IS NULL"""
_INSERT_RELEASE = insertion(tables.release)

_DUE = text("""
SELECT f.operation_id, f.net, f.taken, f.merchant_id, f.book_id, f.currency, m.owner
  FROM gateway.fund f
  JOIN gateway.merchant m ON m.id = f.merchant_id
  JOIN banks.settled_item s ON s.book_id = f.book_id AND s.operation_id = f.operation_id
 WHERE f.release_id IS NULL AND s.settled_on + m.settlement_days <= :on
 ORDER BY f.merchant_id, f.currency, f.operation_id""")


@dataclass(frozen=True, slots=True)
class Moved:
    """``amount`` taken from funds or given back to them, the funds ``after``, the statements that write it."""

    amount: int
    after: tuple[Fund, ...]
    statements: tuple[Statement, ...]


def take(funds: Sequence[Fund], amount: int) -> Moved:
    """Take up to ``amount`` out of what is left in Pending, newest first: it is payable last."""
    return _move(funds, amount, [(fund, fund.left) for fund in reversed(funds)], sign=1)


def give_back(funds: Sequence[Fund], amount: int) -> Moved:
    """Give back up to ``amount`` of what refunds had taken; nothing to funds that are payable since."""
    room = [(fund, 0 if fund.release_id else fund.taken) for fund in funds]
    return _move(funds, amount, room, sign=-1)


def _move(funds: Sequence[Fund], amount: int, room: Sequence[tuple[Fund, int]], *, sign: int) -> Moved:
    left, changed, statements = amount, dict[UUID, Fund](), list[Statement]()
    for fund, most in room:
        part = min(left, most)
        if part:
            taken = fund.taken + sign * part
            changed[fund.operation_id] = replace(fund, taken=taken)
            params = {"to_taken": taken, "was_id": fund.operation_id, "was_taken": fund.taken}
            statements.append(Statement(_TAKE, params))
            left -= part
    after = tuple(changed.get(fund.operation_id, fund) for fund in funds)
    return Moved(amount - left, after, tuple(statements))


@dataclass(frozen=True, slots=True)
class Due:
    """Funds of one merchant and currency that have become payable."""

    merchant_id: UUID
    owner: str
    book_id: int
    currency: str
    funds: tuple[Fund, ...]

    @property
    def amount(self) -> int:
        return sum(fund.left for fund in self.funds)


async def release_due(gw: Gateway, on: date) -> int:
    """Make payable what was settled ``settlement_days`` or more before ``on``; how many captures' funds.

    What the merchant owes us is paid out of it first. Safe to run twice or by two at once.
    """
    released = 0
    for due in await _due(gw, on):
        released += len(due.funds) if await _release(gw, due, on) else 0
    return released


async def _due(gw: Gateway, on: date) -> list[Due]:
    async with gw.engine.connect() as conn:
        rows = (await conn.execute(_DUE, {"on": on})).mappings().all()
    found: list[Due] = []
    for (merchant_id, currency), group in groupby(rows, key=lambda r: (r["merchant_id"], r["currency"])):
        mine = list(group)
        for first in range(0, len(mine), _BATCH):
            batch = mine[first : first + _BATCH]
            funds = tuple(Fund(r["operation_id"], r["net"], r["taken"]) for r in batch)
            found.append(Due(merchant_id, batch[0]["owner"], batch[0]["book_id"], currency, funds))
    return found


async def _release(gw: Gateway, due: Due, on: date) -> bool:
    """One journal, behind the funds as they were seen: False if a refund or another release was faster."""
    release_id, now = gw.ids(), gw.clock()
    statements = _statements(release_id, due, on, now)
    if due.amount == 0:
        return await _mark(gw, statements)
    owed = min(due.amount, await _debt(gw, due))
    # The second way is for a debt paid back meanwhile.
    for repaid in dict.fromkeys((owed, 0)):
        journal = entries.funds_released(
            gw.ids(), release_id, due.owner, due.currency, due.amount, debt_repaid=repaid
        )
        result = await _submit(gw, due.book_id, journal, statements)
        if not isinstance(result, ledger_errors.InsufficientFunds):
            return isinstance(result, Posted)
    return False


def _statements(release_id: UUID, due: Due, on: date, now: datetime) -> tuple[Statement, ...]:
    release = {
        "id": release_id,
        "merchant_id": due.merchant_id,
        "currency": due.currency,
        "amount": due.amount,
        "released_on": on,
        "created_at": now,
    }
    marks: dict[str, Any] = {
        "release_id": release_id,
        "ids": [fund.operation_id for fund in due.funds],
        "taken": [fund.taken for fund in due.funds],
    }
    return Statement(_INSERT_RELEASE, release, together=True), Statement(_RELEASE, marks, rows=len(due.funds))


async def _submit(gw: Gateway, book_id: int, journal: Journal, statements: tuple[Statement, ...]) -> object:
    return await gw.writers(book_id).submit(Unit((journal,), statements))


async def _mark(gw: Gateway, statements: tuple[Statement, ...]) -> bool:
    """Funds that refunds have used up: released without a journal, there is nothing to move."""
    async with gw.engine.connect() as conn:
        refused = await store.run(conn, statements)
        if refused is None:
            await conn.commit()
    return refused is None


async def _debt(gw: Gateway, due: Due) -> int:
    async with gw.engine.connect() as conn:
        found = await balance(await driver(conn), due.book_id, entries.debt(due.owner), due.currency)
    return max(0, found.available) if found else 0
