"""The acquirer's settlement file, with what it proves: captures and refunds whose outcome was unknown.

The bank knows no books: one file may have lines of several. Each line belongs to the home book of its merchant, and
each book's part is one transaction: if it is refused, nothing was resolved by it. A file of several books is
rehearsed first, so that a file with anything wrong changes no book; then it is booked part by part (docs/adr/0031).
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import replace
from uuid import UUID

import structlog
from sqlalchemy import ARRAY, Text, any_, bindparam, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from banks.errors import SettlementRefused
from banks.settlement import SettlementFile, SettlementImport, Whole, import_file, parse, parts, take_turn
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


async def import_settlement(gw: Gateway, data: bytes, name: str) -> SettlementImport:
    """Book a settlement file; the same file again changes nothing and gives the first result.

    Raises ``banks.errors.SettlementRefused`` with line and field: then nothing at all was changed, unless a book has
    come to refuse its part (was closed, say) between rehearsal and booking. What stands then are whole parts of
    other books: import the file again when that is mended. The same after a crash. ``name`` is what the file is
    called in the log.
    """
    file = parse(io.BytesIO(data))
    of_books = parts(file, await _homes(gw, file))
    if not of_books:
        raise SettlementRefused(2, "record", "is the trailer: the file settles nothing")
    whole = Whole(tuple(of_books), len(file.lines), file.totals.net)
    if len(of_books) > 1:
        for book_id, part in of_books.items():
            await _import_part(gw, book_id, part, whole, rehearsal=True)
    done: list[SettlementImport] = []
    for book_id, part in of_books.items():
        result, resolved = await _import_part(gw, book_id, part, whole)
        said = {"file_id": file.file_id, "book": book_id, "resolved": resolved, "replayed": result.replayed}
        log.info("settlement_imported", name=name, **said)
        done.append(result)
    return replace(done[-1], totals=file.totals, replayed=all(result.replayed for result in done))


async def _homes(gw: Gateway, file: SettlementFile) -> dict[str, int]:
    """The book of each line's merchant, by the line's reference.

    A reference that nobody knows goes with the others: the part it is in will be refused by its line.
    """
    o, p = tables.operation, tables.payment
    rrns = bindparam("rrns", [line.rrn for line in file.lines], type_=ARRAY(Text))
    query = select(o.c.rrn, p.c.book_id).join(p, p.c.id == o.c.payment_id)
    async with gw.engine.connect() as conn:
        rows = await conn.execute(query.where(o.c.bank == file.bank, o.c.rrn == any_(rrns)))
        homes: dict[str, int] = {row.rrn: row.book_id for row in rows}
        any_book = min(homes.values(), default=0) or await _first_book(conn)
    return {line.rrn: homes.get(line.rrn, any_book) for line in file.lines}


async def _first_book(conn: AsyncConnection) -> int:
    return (await conn.execute(text("SELECT min(book_id) FROM ledger.book"))).scalar_one() or 1


async def _import_part(
    gw: Gateway, book_id: int, part: SettlementFile, whole: Whole, *, rehearsal: bool = False
) -> tuple[SettlementImport, int]:
    """A book's part in one transaction, and how many unknown outcomes it resolved; a rehearsal is rolled back."""
    async with gw.engine.connect() as conn:
        await take_turn(await driver(conn), part)
        resolved = await _resolve(gw, conn, book_id, part)
        done = await import_file(
            await driver(conn), book_id, part, now=gw.clock(), random=gw.random, whole=whole
        )
        if rehearsal:
            await conn.rollback()
        else:
            reach(SETTLEMENT_BOOKED)
            await conn.commit()
    return done, resolved


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


async def _steps(gw: Gateway, conn: AsyncConnection, payment: Payment, op: Operation) -> Iterable[Step]:
    if op.kind is Kind.CAPTURE:
        return captures.booked(gw, payment, op)
    r = tables.refund
    (refund,) = await store.refunds(conn, select(r).where(r.c.operation_id == op.id))
    return refunds.completed(gw, payment, refund, op)
