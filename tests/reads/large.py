"""A large book and a busy merchant, made the bulk way. ``JOURNALS`` says how large; what a read costs must not depend
on it."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
from psycopg import AsyncConnection

from api.secrets import ApiSecrets
from gateway import checkout, payments
from gateway.fees import FeePlan
from gateway.merchants import Merchant, NewMerchant, create_merchant
from gateway.model import Payment
from khata.database import Database
from khata.sealing import Sealer
from ledger import model as m
from ledger.acts import By
from ledger.adjustments import Adjustment, propose
from ledger.books import create_book, open_accounts
from ledger.ids import uuid7
from ledger.post import post
from ledger.rollups import roll_up
from ledger.search import index_journals
from tests.api.conftest import Clock, gateway_on

JOURNALS = int(os.environ.get("JOURNALS", "20000"))
PAYMENTS, PROPOSALS = 2000, 600
OTHER_ACCOUNTS = 20_000  # in two other books
BATCH = 2000
TAIL = 20  # the last journals: the jobs that follow the book have not come to them yet
START, DAYS = datetime(2025, 10, 1, tzinfo=UTC), 400
ESCROW, FEES = "Assets:Bank:Meridian:Escrow", "Income:Fees:card"
SECRETS = ApiSecrets.derive(bytes(32))
WALLETS = tuple(f"Liabilities:Customer:c{n}:Wallet" for n in range(40))


@dataclass(frozen=True)
class Large:
    """``hold`` and ``journal`` are old ones; ``link`` is the token of a checkout of ``payment``."""

    merchant: Merchant
    payment: Payment
    refund: UUID
    link: str
    hold: UUID
    journal: UUID
    proposal: UUID


@asynccontextmanager
async def large_book(database: Database) -> AsyncGenerator[Large]:
    clock = Clock()
    clock.ahead = START - clock()  # of the book, too, which never goes back
    async with (
        gateway_on(database, clock) as (gw, _, book_id),
        await psycopg.AsyncConnection.connect(database.app_dsn) as conn,
    ):
        shop = NewMerchant("Chai Point", book_id, "meridian", {"INR": FeePlan(bps=200)})
        merchant = await create_merchant(gw, shop)
        payment = await payments.create(gw, merchant.id, payments.NewPayment(100, "INR"))
        session = await checkout.create_session(gw, merchant.id, payment.id, "https://shop.example/")
        await _journals(conn, book_id, merchant.owner)
        await _people(conn, book_id)
        await _other_books(conn)
        await _seal(conn, book_id)
    with psycopg.connect(database.owner_dsn) as owner:
        for statement in _MULTIPLY:
            owner.execute(statement, {"payment": payment.id, "count": PAYMENTS})
        refund = owner.execute("SELECT id FROM gateway.refund WHERE payment_id = %s", [payment.id]).fetchone()
    assert refund is not None
    with psycopg.connect(database.owner_dsn, autocommit=True) as owner:
        owner.execute("VACUUM ANALYZE")  # as autovacuum would have
    yield Large(merchant, payment, refund[0], session.token, _id(10), _id(11), _id(7))


async def _journals(conn: AsyncConnection[Any], book_id: int, owner: str) -> None:
    accounts = [m.NewAccount(ESCROW, "INR"), m.NewAccount(FEES, "INR")]
    accounts += [m.NewAccount(wallet, "INR", owner=owner) for wallet in WALLETS]
    await open_accounts(conn, book_id, accounts, now=START)
    await _post(conn, book_id, owner, 0, JOURNALS - TAIL)
    while await roll_up(conn, book_id) + await index_journals(conn, book_id):
        await conn.commit()
    await _post(conn, book_id, owner, JOURNALS - TAIL, JOURNALS)


async def _post(conn: AsyncConnection[Any], book_id: int, owner: str, first: int, end: int) -> None:
    for start in range(first, end, BATCH):
        units = [m.Unit((_journal(owner, n),)) for n in range(start, min(start + BATCH, end))]
        results = await post(conn, book_id, units, now=_time(start))
        assert all(isinstance(result, m.Posted) for result in results)
        await conn.commit()


def _journal(owner: str, n: int) -> m.Journal:
    """One in ten places a hold, one in seven is nobody's, one in fifty is dated back, one in a thousand is rare."""
    said: dict[str, Any] = {"metadata": {"payment_id": f"pay_{n}"}}
    if n % 50 == 0:
        said["effective_at"] = _time(n) - timedelta(days=100)
    source = m.Source("operation", f"op_{n}", "approved")
    wallet = WALLETS[n % len(WALLETS)]
    if n % 10 == 0:
        hold = m.Place(_id(n), wallet, f"Liabilities:Merchant:{owner}:Pending", 100, "INR")
        return m.Journal(_id(n), "hold", source, hold=hold, **said)
    credit = FEES if n % 7 == 0 else wallet
    kind = "rare" if n % 1000 == 1 else "capture"
    return m.Journal(_id(n), kind, source, (m.Posting(ESCROW, credit, 1 + n % 5000, "INR"),), **said)


def _time(n: int) -> datetime:
    return START + timedelta(days=DAYS) * n / JOURNALS


def _id(n: int) -> UUID:
    return uuid7(_time(n), n.to_bytes(10, "big"))


async def _people(conn: AsyncConnection[Any], book_id: int) -> None:
    adjustment = Adjustment((m.Posting(ESCROW, FEES, 5, "INR"),))
    for n in range(PROPOSALS):
        by = By(("asha", "ben")[n % 2], "a ticket", _time(JOURNALS))
        await propose(conn, book_id, _id(n), adjustment, by)
    await conn.commit()


async def _other_books(conn: AsyncConnection[Any]) -> None:
    """What belongs to another book must not be read either."""
    for name in ("second", "third"):
        book_id = await create_book(conn, name=name, now=START)
        accounts = [
            m.NewAccount(f"Liabilities:Customer:c{n}:Wallet", "INR") for n in range(OTHER_ACCOUNTS // 2)
        ]
        await open_accounts(conn, book_id, accounts, now=START)
    await conn.commit()


async def _seal(conn: AsyncConnection[Any], book_id: int) -> None:
    """Day by day, as the worker does: 400 checkpoints."""
    sealer = Sealer("khata.local", SECRETS)
    while (sealed := await sealer.seal(conn, book_id, now=_time(JOURNALS))) is not None and sealed.more:
        await conn.commit()
    await conn.commit()


# Many of what the gateway has one of: a payment, tried once and declined, with a refund that was declined.
_MULTIPLY = (
    """INSERT INTO gateway.payment
       SELECT (jsonb_populate_record(p, jsonb_build_object('id', gen_random_uuid()))).*
         FROM gateway.payment p, generate_series(1, %(count)s) WHERE id = %(payment)s""",
    """INSERT INTO gateway.vault_card
       SELECT 'card_' || repeat('0', 26), merchant_id, 'k1', repeat('0', 60)::bytea, repeat('0', 40)::bytea,
              repeat('0', 32)::bytea, 'visa', '1111', created_at
         FROM gateway.payment WHERE id = %(payment)s""",
    """INSERT INTO gateway.attempt
       SELECT gen_random_uuid(), id, merchant_id, 1, 'declined', 'meridian', 'card', 'card_' || repeat('0', 26),
              'visa', '1111', created_at
         FROM gateway.payment""",
    """INSERT INTO gateway.operation (id, payment_id, attempt_id, merchant_id, kind, state, bank, stan, rrn,
              transmitted_at, amount, final, response_code, retryable, conflicted, fee, tax, tries, review, created_at,
              ended_at)
       SELECT gen_random_uuid(), a.payment_id, a.id, a.merchant_id, k.kind, 'declined', 'meridian', '000001',
              lpad((2 * row_number() OVER (ORDER BY a.id) + k.n)::text, 12, '0'),
              a.created_at + (2 * row_number() OVER (ORDER BY a.id) + k.n) * interval '1 s', 100, false, '51', false,
              false, 0, 0, 1, false, a.created_at, a.created_at
         FROM gateway.attempt a, (VALUES ('sale', 0), ('refund', 1)) k(kind, n)""",
    """INSERT INTO gateway.refund
       SELECT gen_random_uuid(), payment_id, merchant_id, id, 'INR', '', 0, 0, 0, created_at
         FROM gateway.operation WHERE kind = 'refund'""",
    """INSERT INTO gateway.checkout_session
       SELECT (jsonb_populate_record(s, jsonb_build_object('token_hash', sha256(n::text::bytea)))).*
         FROM gateway.checkout_session s, generate_series(1, %(count)s) n""",
    """INSERT INTO api.access_entry
       SELECT gen_random_uuid(), now(), 'asha', '192.0.2.1', 'GET', '/v1/journals', '', '{}', NULL,
              CASE WHEN n %% 50 = 0 THEN 'denied' ELSE 'admitted' END,
              CASE WHEN n %% 50 = 0 THEN 'scope_missing' END, NULL
         FROM generate_series(1, 5 * %(count)s) n""",
)
