"""Short words for ledger tests: accounts, a clock, ids and journals."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection

from khata.database import Database
from ledger import model as m
from ledger.ids import uuid7
from ledger.post import post

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
ESCROW = "Assets:Bank:Meridian:Escrow"
PENDING_A, PENDING_B = "Liabilities:Merchant:a:Pending", "Liabilities:Merchant:b:Pending"
WALLET, CREDIT_WALLET = "Liabilities:Customer:c:Wallet", "Liabilities:Customer:d:Wallet"
FEES = "Income:Fees:card"
AUTHORIZATIONS, ISSUERS = "Equity:Memo:Authorizations", "Equity:Memo:Issuers"

_numbers = itertools.count(1)


def new_id(at: datetime = NOW) -> UUID:
    """A fresh, reproducible id."""
    return uuid7(at, next(_numbers).to_bytes(10, "big"))


def journal(
    *postings: m.Posting,
    source: str | None = None,
    kind: str = "transfer",
    hold: m.HoldAction | None = None,
    **more: Any,
) -> m.Journal:
    id_ = new_id()
    return m.Journal(
        id=id_,
        kind=kind,
        source=m.Source("test", source or str(id_), "done"),
        postings=postings,
        hold=hold,
        **more,
    )


def pay(credit: str, debit: str, amount: int, currency: str = "INR") -> m.Posting:
    return m.Posting(debit=debit, credit=credit, amount=amount, currency=currency)


def fund(account: str, amount: int, currency: str = "INR") -> m.Journal:
    """Money in: escrow debited, ``account`` credited."""
    return journal(pay(account, ESCROW, amount, currency))


def unit(*journals: m.Journal, statements: tuple[m.Statement, ...] = ()) -> m.Unit:
    return m.Unit(journals, statements)


@dataclass
class Book:
    conn: AsyncConnection[Any]
    book_id: int
    database: Database
    now: datetime = field(default=NOW)

    async def post(self, *units: m.Unit | m.Journal, now: datetime | None = None) -> list[m.Result]:
        given = [u if isinstance(u, m.Unit) else m.Unit((u,)) for u in units]
        self.now += timedelta(milliseconds=1)
        results = await post(self.conn, self.book_id, given, now=now or self.now)
        await self.conn.commit()
        return results

    async def ok(self, *units: m.Unit | m.Journal, now: datetime | None = None) -> list[m.Posted]:
        results = await self.post(*units, now=now)
        for result in results:
            assert isinstance(result, m.Posted), result
        return [r for r in results if isinstance(r, m.Posted)]

    async def balance(self, path: str, currency: str = "INR") -> tuple[int, int, int]:
        """posted, available, incoming."""
        cursor = await self.conn.execute(
            "SELECT debit_normal, posted_debits - posted_credits, pending_debits, pending_credits"
            " FROM ledger.balance b JOIN ledger.account a USING (book_id, account_id, debit_normal, currency)"
            " WHERE book_id = %s AND path = %s AND currency = %s",
            [self.book_id, path, currency],
        )
        row = await cursor.fetchone()
        await self.conn.rollback()
        assert row is not None
        debit_normal, net, debits, credits = row
        return (net, net - credits, debits) if debit_normal else (-net, -net - debits, credits)
