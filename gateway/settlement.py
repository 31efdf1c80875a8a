"""The acquirer's settlement file, with what it proves: captures and refunds whose outcome was unknown.

Everything happens in one transaction: if the file is refused, nothing was resolved by it.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from uuid import UUID

import structlog
from sqlalchemy import ARRAY, Text, any_, bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from banks.settlement import SettlementFile, SettlementImport, import_file, parse
from gateway import captures, doors, exchange, refunds, store, tables
from gateway.core import Gateway, driver
from gateway.doors import Step
from gateway.errors import Unbookable
from gateway.model import Kind, Operation, Payment
from gateway.states import OperationState
from ledger.errors import Refusal
from ledger.model import Posted, Unit
from ledger.points import SETTLEMENT_BOOKED, reach
from ledger.post import post

log = structlog.get_logger(__name__)

_KINDS = {Kind.CAPTURE: "capture", Kind.REFUND: "refund"}


async def import_settlement(gw: Gateway, book_id: int, data: bytes, name: str) -> SettlementImport:
    """Book a settlement file; the same file again changes nothing and gives the first result.

    Raises ``banks.errors.SettlementRefused`` with line and field: then nothing at all was changed. ``name`` is
    what the file is called in the log.
    """
    file = parse(io.BytesIO(data))
    async with gw.engine.begin() as conn:
        resolved = await _resolve(gw, conn, book_id, file)
        done = await import_file(await driver(conn), book_id, file, now=gw.clock(), random=gw.random)
        reach(SETTLEMENT_BOOKED)
    log.info(
        "settlement_imported", name=name, file_id=done.file_id, resolved=resolved, replayed=done.replayed
    )
    return done


async def _resolve(gw: Gateway, conn: AsyncConnection, book_id: int, file: SettlementFile) -> int:
    """Book the unknown captures and refunds that are lines of this file, amount and kind agreeing."""
    # The book's lock first, then payments', in the order of the ledger's writer: recovery, which is sending the
    # same operations again, can neither be faster than us nor be waited for in a circle.
    await post(await driver(conn), book_id, (), now=gw.clock())
    lines = {line.rrn: line for line in file.lines}
    o, p = tables.operation, tables.payment
    # Found by the file's references: the operations of all time are many more than those of a day.
    named = o.c.rrn == any_(bindparam("rrns", list(lines), type_=ARRAY(Text)))
    query = (
        select(o.c.id, o.c.payment_id, o.c.rrn, o.c.kind, o.c.amount, p.c.currency)
        .join(p, p.c.id == o.c.payment_id)
        .where(o.c.bank == file.bank, named, o.c.state == OperationState.UNKNOWN, p.c.book_id == book_id)
        .order_by(o.c.id)
    )
    resolved = 0
    for row in (await conn.execute(query)).mappings().all():
        line = lines[row["rrn"]]
        proven = (_KINDS.get(Kind(row["kind"])), row["amount"], row["currency"])
        if proven == (line.kind.value, line.amount, file.currency):
            resolved += await _book(gw, conn, row["payment_id"], row["id"])
    return resolved


async def _book(gw: Gateway, conn: AsyncConnection, payment_id: UUID, op_id: UUID) -> bool:
    """Book one of them, in the first way the ledger accepts; False if the bank has answered meanwhile."""
    payment = await store.load(conn, payment_id, lock=True)
    if payment.operation(op_id).state is not OperationState.UNKNOWN:
        return False
    op = exchange.ended(payment.operation(op_id), OperationState.RESOLVED_BY_FILE, gw.clock())
    refusal: Refusal | None = None
    for step in await _steps(gw, conn, payment, op):
        step = doors.next_version(payment, step)
        assert step.journal is not None
        unit = Unit((step.journal,), doors.statements(gw, payment, step, None, now=gw.clock()))
        (result,) = await post(await driver(conn), payment.book_id, [unit], now=gw.clock())
        if isinstance(result, Posted):
            return True
        refusal = result
    raise Unbookable(payment.public_id, str(refusal))


async def _steps(gw: Gateway, conn: AsyncConnection, payment: Payment, op: Operation) -> Sequence[Step]:
    if op.kind is Kind.CAPTURE:
        return captures.booked(gw, payment, op)
    r = tables.refund
    (refund,) = await store.refunds(conn, select(r).where(r.c.operation_id == op.id))
    return refunds.completed(gw, payment, refund, op)
