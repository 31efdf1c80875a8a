"""The two ways a payment changes: in a plain transaction, or together with a journal in the ledger's.

A use case gives a pure function from the payment to what shall become of it; these run it on the payment as it
is, and again if it has changed meanwhile. No lock is held while the ledger's writer is awaited: its transaction
changes the same rows, and would wait for us as we for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import chain
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import events, idempotency, store
from gateway.core import Gateway
from gateway.errors import Contended, IdempotencyInFlight, Unbookable
from gateway.idempotency import Idem
from gateway.model import Payment, Refund
from gateway.store import Row, Rows, Section
from ledger import errors as ledger_errors
from ledger.model import Journal, Posted, Statement, Unit

TRIES = 50

# Refusals after which the next way of booking the same fact is tried.
_OTHER_WAY = (
    ledger_errors.InsufficientFunds,
    ledger_errors.HoldExpired,
    ledger_errors.HoldNotExpired,
    ledger_errors.HoldEnded,
    ledger_errors.HoldExceeded,
)
# Someone else was faster: look again.
_LOOK_AGAIN = (ledger_errors.StatementRefused, ledger_errors.SourceConflict)


@dataclass(frozen=True, slots=True)
class Step:
    """What shall become of a payment. ``journal``: booked with it, if any; ``adds``: rows to write beside its own;
    ``extra``: further statements.

    ``refund``: the refund this is about, as it is afterwards. ``last``: nothing follows in this request, so its
    answer is stored now.
    """

    payment: Payment
    journal: Journal | None = None
    adds: Rows = field(default_factory=dict["Section", "tuple[Row, ...]"])
    extra: tuple[Statement, ...] = ()
    refund: Refund | None = None
    last: bool = True

    @property
    def result(self) -> Payment | Refund:
        return self.refund or self.payment


Decide = Callable[[Payment], Iterable[Step]]
"""The ways to do it, best first; the next is made and taken if the ledger refuses one. None: nothing is left to do."""


def statements(
    gw: Gateway, before: Payment, step: Step, idem: Idem | None, *, now: datetime
) -> tuple[Statement, ...]:
    """Everything a step writes beside its journal, in the one order of locks."""
    after = step.payment
    rows = store.changes(before, after, now=now) | step.adds
    rows["event"] = (
        *events.of_payment(before, after, id=gw.ids, now=now),
        *events.of_refund(before, step.refund, id=gw.ids, now=now),
    )
    rows["answer"] = idempotency.answer(idem, after.merchant_id, step.result) if step.last else ()
    return (store.change(rows), *step.extra)


def claim(gw: Gateway, idem: Idem | None, merchant_id: UUID, kind: str, id: UUID) -> tuple[Statement, ...]:
    """The claim of the request's key for a payment or refund; goes with its first effect."""
    now = gw.clock()
    return idempotency.claim(idem, merchant_id, kind, id, now=now, lease_until=now + gw.policy.lease)


async def write(
    gw: Gateway,
    conn: AsyncConnection,
    before: Payment,
    step: Step,
    *,
    idem: Idem | None = None,
    claimed: tuple[Statement, ...] = (),
) -> Step:
    """Write a step without a journal in the caller's transaction, in which it has locked the payment."""
    step = next_version(before, step)
    # The claim first: if the key is taken, nothing else needs undoing.
    refused = await store.run(conn, (*claimed, *statements(gw, before, step, idem, now=gw.clock())))
    if refused is not None:
        raise _refusal(refused, step.payment, idem)
    return step


def next_version(before: Payment, step: Step) -> Step:
    return replace(step, payment=step.payment.altered(version=before.version + 1))


def _refusal(refused: Statement, payment: Payment, idem: Idem | None) -> Exception:
    if idem is not None and idempotency.claims(refused):
        return IdempotencyInFlight(idem.key, 1)
    return Contended(payment.public_id)


async def change(gw: Gateway, payment_id: UUID, decide: Decide, *, idem: Idem | None = None) -> Payment:
    """Lock the payment, decide, write, commit; for changes that move no money. The payment as it is then."""
    step, before = await _change(gw, payment_id, decide, idem)
    return step.payment if step else before


async def change_refund(
    gw: Gateway, payment_id: UUID, decide: Decide, *, idem: Idem | None = None
) -> Refund | None:
    """As ``change``; the refund as it is then, None if nothing was left to do."""
    step, _ = await _change(gw, payment_id, decide, idem)
    return step.refund if step else None


async def _change(
    gw: Gateway, payment_id: UUID, decide: Decide, idem: Idem | None
) -> tuple[Step | None, Payment]:
    async with gw.engine.begin() as conn:
        before = await store.load(conn, payment_id, lock=True)
        for step in decide(before):
            return await write(gw, conn, before, step, idem=idem), before
    return None, before


async def conclude(gw: Gateway, payment_id: UUID, idem: Idem | None) -> Payment:
    """Someone else has done it already: answer the request with the payment as it is."""
    async with gw.engine.begin() as conn:
        payment = await store.load(conn, payment_id)
        await idempotency.store_answer(conn, idem, payment.merchant_id, payment)
    return payment


async def book(
    gw: Gateway,
    payment: Payment,
    decide: Decide,
    *,
    idem: Idem | None = None,
    claimed: tuple[Statement, ...] = (),
) -> Step | None:
    """Decide and write together with the journal; None if nothing was left to do. ``payment`` may be stale.

    Raises ``Unbookable`` if the ledger refuses every way, ``Contended``, ``IdempotencyInFlight``.
    """
    async with gw.turn(payment.id):
        for again in range(TRIES):
            if again:
                payment = await _fresh(gw, payment.id, pause=again > 1)
                if claimed and idem and await idempotency.replay(gw, payment.merchant_id, idem):
                    raise IdempotencyInFlight(idem.key, 1)
            steps = iter(decide(payment))
            best = next(steps, None)
            if best is None:
                return None
            done = await _first_booked(gw, payment, chain((best,), steps), idem, claimed)
            if done is not None:
                return done
    raise Contended(payment.public_id)


async def _fresh(gw: Gateway, payment_id: UUID, *, pause: bool) -> Payment:
    if pause:
        # Other processes change it too; random pauses keep them from meeting again.
        await asyncio.sleep(0.05 * gw.random(1)[0] / 256)
    async with gw.engine.connect() as conn:
        return await store.load(conn, payment_id)


async def _first_booked(
    gw: Gateway, before: Payment, steps: Iterable[Step], idem: Idem | None, claimed: tuple[Statement, ...]
) -> Step | None:
    """The first way the ledger accepts; None if the payment has changed meanwhile.

    Raises ``Unbookable`` if it accepts none of them for the payment as it is.
    """
    refusal: ledger_errors.Refusal | None = None
    for wanted in steps:
        step = next_version(before, wanted)
        assert step.journal is not None
        written = statements(gw, before, step, idem, now=gw.clock())
        # The payment's row first, as everywhere; then the claim.
        unit = Unit((step.journal,), (written[0], *claimed, *written[1:]))
        result = await gw.writers(before.book_id).submit(unit)
        match result:
            case Posted():
                return step
            case _ if isinstance(result, _LOOK_AGAIN):
                return None
            case _ if isinstance(result, _OTHER_WAY):
                refusal = result
            case _:
                raise Unbookable(before.public_id, str(result))
    # The ledger judges before the version is: it may have refused to take funds that another refund or a release
    # has taken since.
    if await _fresh(gw, before.id, pause=False) != before:
        return None
    raise Unbookable(before.public_id, str(refusal))
