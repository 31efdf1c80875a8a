"""Payments in and out of the database. Every change of a state passes through ``changes``, the one door.

A payment's row is changed first and behind its version, so changes of one payment are in line, and locks are
taken in one order: payment, attempt, operation, the rest. The statements run in a plain transaction or with a
journal in the ledger's (``gateway.doors``); their texts are constant, so the writer can group them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Select, Table, bindparam, insert, select, update
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql import ClauseElement

from banks.references import BankReference
from gateway import ids, tables
from gateway.errors import PaymentNotFound, RefundNotFound
from gateway.fees import Charge, FeePlan
from gateway.model import (
    Attempt,
    CaptureMethod,
    Ended,
    Fund,
    Kind,
    Operation,
    Payment,
    Refund,
    attempt_state,
)
from gateway.states import INITIAL, AttemptState, OperationState, PaymentStatus, move
from ledger.model import Statement

AnyRow = RowMapping | Mapping[str, Any]  # SQLAlchemy's, or psycopg's dict

_DIALECT = PGDialect_psycopg(paramstyle="pyformat")


def sql(clause: ClauseElement) -> str:
    """The text of a Core statement with ``%(name)s`` parameters, as ``ledger.model.Statement`` wants it."""
    return str(clause.compile(dialect=_DIALECT))


def insertion(table: Table) -> str:
    return sql(insert(table).values({c.name: bindparam(c.name, type_=c.type) for c in table.columns}))


def alteration(table: Table, changed: Sequence[str], guards: Sequence[str]) -> str:
    """UPDATE of ``changed`` by primary key, if each of ``guards`` still is what parameter ``was_…`` says."""
    clause = update(table).values(
        {name: bindparam(f"to_{name}", type_=table.c[name].type) for name in changed}
    )
    for name in ("id", *guards):
        clause = clause.where(table.c[name] == bindparam(f"was_{name}", type_=table.c[name].type))
    return sql(clause)


_TOTALS = ("authorized", "capturing", "captured", "voiding", "voided", "refunding", "refunded")
_PAYMENT = ("status", "ended", *_TOTALS, "unknown_since", "next_check_at", "updated_at", "version")
_ATTEMPT = ("state", "hold_expires_at", "expired_at")
_OPERATION = (
    *("state", "authorization_code", "response_code", "reason", "retryable", "conflicted", "fee", "tax"),
    *("tries", "unknown_since", "next_check_at", "review", "ended_at"),
)
INSERT_PAYMENT = insertion(tables.payment)
INSERT_ATTEMPT = insertion(tables.attempt)
INSERT_OPERATION = insertion(tables.operation)
INSERT_REFUND = insertion(tables.refund)
UPDATE_PAYMENT = alteration(tables.payment, _PAYMENT, ("version", "status"))
UPDATE_ATTEMPT = alteration(tables.attempt, _ATTEMPT, ("state",))
UPDATE_OPERATION = alteration(tables.operation, _OPERATION, ("state",))


def changes(before: Payment | None, after: Payment, *, now: datetime) -> tuple[Statement, ...]:
    """The statements that turn ``before`` (None: nothing yet) into ``after``, each hitting exactly one row.

    Raises ``IllegalTransition`` for an edge that is in no table.
    """
    move(before.status if before else PaymentStatus.REQUIRES_PAYMENT_METHOD, after.status)
    row = payment_row(after) | {"updated_at": now, "version": before.version + 1 if before else 0}
    if before is None:
        first = Statement(INSERT_PAYMENT, row)
    else:
        first = _altered(UPDATE_PAYMENT, _PAYMENT, row, version=before.version, status=before.status)
    return (first, *_attempt_changes(before, after), *_operation_changes(before, after))


def _altered(text: str, changed: Sequence[str], row: Mapping[str, Any], **guards: Any) -> Statement:
    was = {"was_id": row["id"]} | {f"was_{name}": value for name, value in guards.items()}
    return Statement(text, {f"to_{name}": row[name] for name in changed} | was)


def _attempt_changes(before: Payment | None, after: Payment) -> Iterator[Statement]:
    known = {a.id: a for a in before.attempts} if before else {}
    for attempt in after.attempts:
        state = attempt_state(attempt, after.operations)
        row = attempt_row(after, attempt, state)
        old = known.get(attempt.id)
        was = attempt_state(old, before.operations) if old and before else AttemptState(INITIAL["attempt"])
        move(was, state)
        if old is None:
            yield Statement(INSERT_ATTEMPT, row)
        elif old != attempt or was is not state:
            yield _altered(UPDATE_ATTEMPT, _ATTEMPT, row, state=was)


def _operation_changes(before: Payment | None, after: Payment) -> Iterator[Statement]:
    known = {op.id: op for op in before.operations} if before else {}
    for op in after.operations:
        old = known.get(op.id)
        if old == op:
            continue
        was = old.state if old else OperationState(INITIAL["operation"])
        move(was, op.state)
        row = operation_row(after, op)
        yield (
            Statement(INSERT_OPERATION, row)
            if old is None
            else _altered(UPDATE_OPERATION, _OPERATION, row, state=was)
        )


def payment_row(p: Payment) -> dict[str, Any]:
    sums = p.totals
    return {name: getattr(sums, name) for name in _TOTALS} | {
        **{name: getattr(p, name) for name in _PLAIN_PAYMENT},
        "status": p.status,
        "fee_bps": p.plan.bps,
        "fee_fixed": p.plan.fixed,
        "gst_bps": p.plan.gst_bps,
        "metadata": orjson.dumps(dict(p.metadata)).decode(),
    }


_PLAIN_PAYMENT = (
    *(
        "id",
        "merchant_id",
        "book_id",
        "ended",
        "amount",
        "currency",
        "capture_method",
        "method",
        "fee_returned",
    ),
    *(
        "tolerance_bps",
        "max_attempts",
        "hold_valid_s",
        "unknown_since",
        "next_check_at",
        "reference",
        "description",
    ),
    *("created_at", "expires_at"),
)
_PLAIN_ATTEMPT = (
    *(
        "id",
        "number",
        "bank",
        "method",
        "token",
        "brand",
        "last4",
        "created_at",
        "hold_expires_at",
        "expired_at",
    ),
)
_PLAIN_OPERATION = (
    *("id", "attempt_id", "kind", "state", "amount", "target_id", "final", "authorization_code"),
    *("response_code", "reason", "retryable", "conflicted", "tries", "unknown_since", "next_check_at"),
    *("review", "created_at", "ended_at"),
)
_PLAIN_REFUND = (
    *("id", "payment_id", "merchant_id", "currency", "reason", "from_pending", "from_available", "from_debt"),
    "created_at",
)


def attempt_row(p: Payment, a: Attempt, state: AttemptState) -> dict[str, Any]:
    own = {"payment_id": p.id, "merchant_id": p.merchant_id, "state": state}
    return {name: getattr(a, name) for name in _PLAIN_ATTEMPT} | own


def operation_row(p: Payment, op: Operation) -> dict[str, Any]:
    bank = next(a.bank for a in p.attempts if a.id == op.attempt_id)
    return {name: getattr(op, name) for name in _PLAIN_OPERATION} | {
        "payment_id": p.id,
        "merchant_id": p.merchant_id,
        "bank": bank,
        "stan": op.reference.stan,
        "rrn": op.reference.rrn,
        "transmitted_at": op.reference.transmitted_at,
        "fee": op.charge.fee,
        "tax": op.charge.tax,
    }


def refund_insertion(refund: Refund) -> Statement:
    row = {name: getattr(refund, name) for name in _PLAIN_REFUND}
    return Statement(INSERT_REFUND, row | {"operation_id": refund.operation.id})


async def run(conn: AsyncConnection, statements: Iterable[Statement]) -> Statement | None:
    """Run ``statements`` in order; the first that hit another number of rows than promised, or None."""
    for statement in statements:
        result = await conn.exec_driver_sql(statement.sql, dict(statement.params))
        if statement.rows is not None and result.rowcount != statement.rows:
            return statement
    return None


async def load(
    conn: AsyncConnection, payment_id: UUID, merchant_id: UUID | None = None, *, lock: bool = False
) -> Payment:
    """The payment with all that belongs to it; ``PaymentNotFound`` also if it is another merchant's.

    ``lock``: until the transaction ends no one else changes it. Weaker than FOR UPDATE on purpose: new rows that
    point at the payment need not wait for it.
    """
    query = select(tables.payment).where(tables.payment.c.id == payment_id)
    if merchant_id is not None:
        query = query.where(tables.payment.c.merchant_id == merchant_id)
    found = await payments(conn, query.with_for_update(key_share=True) if lock else query)
    if not found:
        raise PaymentNotFound(ids.public(ids.PAYMENT, payment_id))
    return found[0]


async def payments(conn: AsyncConnection, query: Select[Any]) -> list[Payment]:
    """The payments of a query on ``tables.payment``, in its order."""
    rows = (await conn.execute(query)).mappings().all()
    wanted = [row["id"] for row in rows]
    attempts = await _children(conn, tables.attempt, wanted)
    operations = await _children(conn, tables.operation, wanted)
    funds = await _children(conn, tables.fund, wanted)
    return [
        read_payment(row, *(found.get(row["id"], []) for found in (attempts, operations, funds)))
        for row in rows
    ]


async def _children(
    conn: AsyncConnection, table: Table, payment_ids: list[UUID]
) -> dict[UUID, list[RowMapping]]:
    if not payment_ids:
        return {}
    query = select(table).where(table.c.payment_id.in_(payment_ids)).order_by(table.primary_key.columns[0])
    children: dict[UUID, list[RowMapping]] = {}
    for row in (await conn.execute(query)).mappings():
        children.setdefault(row["payment_id"], []).append(row)
    return children


def read_payment(
    row: AnyRow,
    attempts: Sequence[AnyRow],
    operations: Sequence[AnyRow],
    funds: Sequence[AnyRow],
) -> Payment:
    folded = ("unknown_since", "next_check_at")
    plain: dict[str, Any] = {name: row[name] for name in _PLAIN_PAYMENT if name not in folded}
    plain |= {
        "capture_method": CaptureMethod(row["capture_method"]),
        "ended": Ended(row["ended"]) if row["ended"] else None,
        "plan": FeePlan(row["fee_bps"], row["fee_fixed"], row["gst_bps"]),
        "metadata": row["metadata"],
        "version": row["version"],
        "attempts": tuple(sorted(map(read_attempt, attempts), key=lambda a: a.number)),
        "operations": tuple(map(read_operation, operations)),
        "funds": tuple(Fund(f["operation_id"], f["net"], f["taken"], f["release_id"]) for f in funds),
    }
    return Payment(**plain)


def read_attempt(row: AnyRow) -> Attempt:
    return Attempt(**{name: row[name] for name in _PLAIN_ATTEMPT})


def read_operation(row: AnyRow) -> Operation:
    plain: dict[str, Any] = {name: row[name] for name in _PLAIN_OPERATION}
    plain |= {
        "kind": Kind(row["kind"]),
        "state": OperationState(row["state"]),
        "reference": BankReference(row["stan"], row["rrn"], row["transmitted_at"]),
        "charge": Charge(row["fee"], row["tax"]),
    }
    return Operation(**plain)


async def load_refund(conn: AsyncConnection, refund_id: UUID, merchant_id: UUID) -> Refund:
    """The refund; ``RefundNotFound`` also if it is another merchant's."""
    r = tables.refund
    found = await refunds(conn, select(r).where(r.c.id == refund_id, r.c.merchant_id == merchant_id))
    if not found:
        raise RefundNotFound(ids.public(ids.REFUND, refund_id))
    return found[0]


async def refunds(conn: AsyncConnection, query: Select[Any]) -> list[Refund]:
    """The refunds of a query on ``tables.refund``, in its order."""
    rows = (await conn.execute(query)).mappings().all()
    if not rows:
        return []
    o = tables.operation
    wanted = select(o).where(o.c.id.in_([row["operation_id"] for row in rows]))
    operations = {row["id"]: read_operation(row) for row in (await conn.execute(wanted)).mappings()}
    return [
        Refund(**{name: row[name] for name in _PLAIN_REFUND}, operation=operations[row["operation_id"]])
        for row in rows
    ]
