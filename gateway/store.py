"""Payments in and out of the database. Every change of a state passes through ``changes``, the one door.

What is written of a change is data: rows by ``Section``, which one constant statement takes to their tables, for one
payment in a plain transaction or for a whole batch in the ledger's (``gateway.doors``). The payment's row is changed
first and behind its version, so changes of one payment are in line, and locks are taken in one order: payment,
attempt, operation, the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import orjson
from sqlalchemy import Select, Table, select
from sqlalchemy.engine import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

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
)
from gateway.states import INITIAL, AttemptState, OperationState, PaymentStatus, move
from ledger.model import Statement

AnyRow = RowMapping | Mapping[str, Any]  # SQLAlchemy's, or psycopg's dict
Row = dict[str, Any]  # what JSON can hold, UUIDs and times; bytes as ``hexed`` says them


Section = Literal[
    "payment", "attempt", "operation", "new_attempt", "new_operation", "fund", "expected", "event", "answer"
]
"""Which rows are written, as ``gateway.change_payments`` knows them."""
Rows = dict[Section, tuple[Row, ...]]

# Rows that must be there, as they were when this was decided; what is new is written or the database refuses it.
_GUARDED: tuple[Section, ...] = ("payment", "attempt", "operation")

_TOTALS = ("authorized", "capturing", "captured", "voiding", "voided", "refunding", "refunded")


def hexed(value: bytes) -> str:
    """Bytes as JSON carries them to a bytea column."""
    return "\\x" + value.hex()


def insertion(table: Table) -> str:
    """INSERT of a row for each element of ``%(rows)s``."""
    name = table.fullname
    return f"INSERT INTO {name} SELECT * FROM jsonb_populate_recordset(NULL::{name}, %(rows)s::jsonb)"  # noqa: S608  # a name of ours


CHANGE = "SELECT FROM gateway.change_payments(%(rows)s::jsonb)"
INSERT_REFUND = insertion(tables.refund)


def change(rows: Rows) -> Statement:
    """The statement that writes ``rows``; whole batches run it once."""
    guarded = sum(len(rows.get(section, ())) for section in _GUARDED)
    return Statement(CHANGE, {**rows}, rows=guarded, together=True)


def changes(before: Payment, after: Payment, *, now: datetime) -> Rows:
    """The rows that turn ``before`` into ``after``; raises ``IllegalTransition`` for an edge that is in no table."""
    move(before.status, after.status)
    was = {"id": after.id, "was_version": before.version, "was_status": before.status}
    payment = payment_state(after) | {"updated_at": now, "version": before.version + 1} | was
    rows: Rows = {"payment": (payment,)}
    for section, change in (*_attempt_changes(before, after), *_operation_changes(before, after)):
        rows[section] = (*rows.get(section, ()), change)
    return rows


def _attempt_changes(before: Payment, after: Payment) -> Iterator[tuple[Section, Row]]:
    known = {a.id: a for a in before.attempts}
    for attempt in after.attempts:
        state = after.state_of(attempt)
        old = known.get(attempt.id)
        was = before.state_of(old) if old else AttemptState(INITIAL["attempt"])
        move(was, state)
        if old is None:
            yield "new_attempt", attempt_row(after, attempt, state)
        elif old != attempt or was is not state:
            ends = {"hold_expires_at": attempt.hold_expires_at, "expired_at": attempt.expired_at}
            yield "attempt", {"id": attempt.id, "was_state": was, "state": state} | ends


def _operation_changes(before: Payment, after: Payment) -> Iterator[tuple[Section, Row]]:
    known = {op.id: op for op in before.operations}
    for op in after.operations:
        old = known.get(op.id)
        if old is op or old == op:
            continue
        move(old.state if old else OperationState(INITIAL["operation"]), op.state)
        if old is None:
            yield "new_operation", operation_row(after, op)
        else:
            yield "operation", operation_state(op) | {"id": op.id, "was_state": old.state}


def new_payment_row(p: Payment) -> dict[str, Any]:
    """The first row of a payment; raises ``IllegalTransition`` if none may begin like this."""
    move(PaymentStatus(INITIAL["payment"]), p.status)
    return payment_row(p) | {"updated_at": p.created_at, "version": p.version}


def new_rows(p: Payment) -> tuple[list[Row], list[Row]]:
    """The rows of a new payment's attempts and operations."""
    attempts, operations = list[Row](), list[Row]()
    for attempt in p.attempts:
        state = p.state_of(attempt)
        move(AttemptState(INITIAL["attempt"]), state)
        attempts.append(attempt_row(p, attempt, state))
    for op in p.operations:
        move(OperationState(INITIAL["operation"]), op.state)
        operations.append(operation_row(p, op))
    return attempts, operations


def payment_state(p: Payment) -> dict[str, Any]:
    """What changes of a payment's row, but its version: all of it folded from the operations."""
    sums = p.totals
    return {name: getattr(sums, name) for name in _TOTALS} | {
        "status": p.status,
        "ended": p.ended,
        "unknown_since": p.unknown_since,
        "next_check_at": p.next_check_at,
    }


def payment_row(p: Payment) -> dict[str, Any]:
    return (
        payment_state(p)
        | {name: getattr(p, name) for name in _PLAIN_PAYMENT}
        | {
            "fee_bps": p.plan.bps,
            "fee_fixed": p.plan.fixed,
            "gst_bps": p.plan.gst_bps,
            "metadata": dict(p.metadata),
        }
    )


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
    *("tolerance_bps", "max_attempts", "hold_valid_s", "unknown_since", "next_check_at", "reference"),
    *("description", "created_at", "expires_at"),
)
_PLAIN_ATTEMPT = (
    *("id", "number", "bank", "method", "token", "brand", "last4", "created_at", "hold_expires_at"),
    "expired_at",
)
_OPERATION_STATE = (
    *("state", "authorization_code", "response_code", "reason", "retryable", "conflicted", "tries"),
    *("unknown_since", "next_check_at", "review", "ended_at"),
)
_PLAIN_OPERATION = (
    *("id", "attempt_id", "kind", "amount", "target_id", "final", "created_at"),
    *_OPERATION_STATE,
)
_PLAIN_REFUND = (
    *("id", "payment_id", "merchant_id", "currency", "reason", "from_pending", "from_available", "from_debt"),
    "created_at",
)


def attempt_row(p: Payment, a: Attempt, state: AttemptState) -> dict[str, Any]:
    own = {"payment_id": p.id, "merchant_id": p.merchant_id, "state": state}
    return {name: getattr(a, name) for name in _PLAIN_ATTEMPT} | own


def operation_state(op: Operation) -> dict[str, Any]:
    """What changes of an operation's row."""
    charge = {"fee": op.charge.fee, "tax": op.charge.tax}
    return {name: getattr(op, name) for name in _OPERATION_STATE} | charge


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
    return Statement(INSERT_REFUND, row | {"operation_id": refund.operation.id}, together=True)


async def run(conn: AsyncConnection, statements: Iterable[Statement]) -> Statement | None:
    """Run ``statements`` in order; the first that hit another number of rows than promised, or None."""
    for statement in statements:
        params = dict(statement.params)
        if statement.together:
            params = {"rows": orjson.dumps([params]).decode()}
        result = await conn.exec_driver_sql(statement.sql, params)
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


async def load_refund(conn: AsyncConnection, refund_id: UUID, merchant_id: UUID | None) -> Refund:
    """The refund; ``RefundNotFound`` also if it is another merchant's."""
    r = tables.refund
    query = select(r).where(r.c.id == refund_id)
    if merchant_id is not None:
        query = query.where(r.c.merchant_id == merchant_id)
    found = await refunds(conn, query)
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
