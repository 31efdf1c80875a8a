"""Merchants: what they trade in, what they pay, when their funds become payable; and their accounts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from iso4217 import Currency
from sqlalchemy import Sequence, insert, select
from sqlalchemy.engine import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from banks.accounts import open_bank_accounts
from gateway import entries, ids, tables
from gateway.core import Gateway, driver
from gateway.errors import CurrencyUnknown, Invalid, MerchantNotFound
from gateway.fees import FeePlan
from ledger.books import open_accounts

METHODS = ("card",)
_ACCEPTOR = Sequence("acceptor", schema="gateway")


@dataclass(frozen=True, slots=True)
class NewMerchant:
    """``fees``: the plan of each currency the merchant trades in, for card payments. ``bank``: its acquirer.
    ``book_id``: its home book, for good: all that happens to it is booked there.

    ``settlement_days``: funds become payable that many days after the bank has settled. ``tolerance_bps``: by
    how much captures may exceed an authorization at most. ``fee_returned``: refunds hand our fee back.
    """

    name: str
    book_id: int
    bank: str
    fees: Mapping[str, FeePlan]
    settlement_days: int = 1
    tolerance_bps: int = 0
    fee_returned: bool = False

    def __post_init__(self) -> None:
        if not 1 <= len(self.name) <= 100 or not self.name.isprintable():
            raise Invalid("name", "1 to 100 printable characters")
        if not self.fees:
            raise Invalid("fees", "at least one currency")
        if not 0 <= self.settlement_days <= 60:
            raise Invalid("settlement_days", "between 0 and 60")
        if not 0 <= self.tolerance_bps <= 10_000:
            raise Invalid("tolerance_bps", "between 0 and 10000")
        for currency in self.fees:
            require_currency(currency)


@dataclass(frozen=True, slots=True)
class Merchant:
    """``acceptor_id``, ``terminal_id``: what the bank calls it. ``owner``: its public id, as in account paths."""

    id: UUID
    owner: str
    book_id: int
    name: str
    bank: str
    acceptor_id: str
    terminal_id: str
    currencies: tuple[str, ...]
    settlement_days: int
    tolerance_bps: int
    fee_returned: bool
    created_at: datetime

    @property
    def public_id(self) -> str:
        return self.owner


def require_currency(currency: str) -> None:
    """Raises ``CurrencyUnknown`` unless ISO 4217 knows it and gives it a minor unit."""
    try:
        exponent = Currency(currency).exponent
    except ValueError:
        exponent = None
    if exponent is None:
        raise CurrencyUnknown(currency)


def exponent(currency: str) -> int:
    """Digits after the point (ISO 4217): 2 for INR, 0 for JPY, 3 for KWD. Raises ``CurrencyUnknown``."""
    require_currency(currency)
    digits = Currency(currency).exponent
    assert digits is not None
    return digits


async def create_merchant(gw: Gateway, new: NewMerchant, *, id: UUID | None = None) -> Merchant:
    """Make the merchant and open every account its payments will need in its home book; one transaction.

    ``id``: one that a home has been chosen by (``gateway.homes``). Raises ``DatabaseRefused`` if there is no such book.
    """
    now, id = gw.clock(), id or gw.ids()
    async with gw.engine.begin() as conn:
        number = (await conn.execute(select(_ACCEPTOR.next_value()))).scalar_one()
        merchant = Merchant(
            id=id,
            owner=ids.public(ids.MERCHANT, id),
            book_id=new.book_id,
            name=new.name,
            bank=new.bank,
            acceptor_id=f"KHATA{number:010d}",
            terminal_id=f"K{number:07d}",
            currencies=tuple(sorted(new.fees)),
            settlement_days=new.settlement_days,
            tolerance_bps=new.tolerance_bps,
            fee_returned=new.fee_returned,
            created_at=now,
        )
        await conn.execute(insert(tables.merchant).values(**_row(merchant)))
        await conn.execute(insert(tables.fee_plan), [_plan(id, c, plan) for c, plan in new.fees.items()])
        await _open_accounts(conn, merchant, now)
    return merchant


def _row(merchant: Merchant) -> dict[str, Any]:
    row = {name: getattr(merchant, name) for name in tables.merchant.c.keys()}  # noqa: SIM118
    return row | {"currencies": list(merchant.currencies)}


def _plan(merchant_id: UUID, currency: str, plan: FeePlan) -> dict[str, Any]:
    return {
        "merchant_id": merchant_id,
        "method": "card",
        "currency": currency,
        "bps": plan.bps,
        "fixed": plan.fixed,
        "gst_bps": plan.gst_bps,
    }


async def _open_accounts(conn: AsyncConnection, merchant: Merchant, now: datetime) -> None:
    connection = await driver(conn)
    await open_bank_accounts(connection, merchant.book_id, merchant.bank, merchant.currencies, now=now)
    wanted = [
        account
        for currency in merchant.currencies
        for account in (
            *entries.platform_accounts(currency, METHODS),
            *entries.merchant_accounts(merchant.owner, currency),
        )
    ]
    await open_accounts(connection, merchant.book_id, wanted, now=now)


async def get_merchant(gw: Gateway, merchant_id: UUID) -> Merchant:
    """Raises ``MerchantNotFound``."""
    async with gw.engine.connect() as conn:
        return await load_merchant(conn, merchant_id)


async def load_merchant(conn: AsyncConnection, merchant_id: UUID) -> Merchant:
    query = select(tables.merchant).where(tables.merchant.c.id == merchant_id)
    row = (await conn.execute(query)).mappings().one_or_none()
    if row is None:
        raise MerchantNotFound(ids.public(ids.MERCHANT, merchant_id))
    return _read(row)


async def list_merchants(gw: Gateway) -> list[Merchant]:
    async with gw.engine.connect() as conn:
        rows = (await conn.execute(select(tables.merchant).order_by(tables.merchant.c.id))).mappings()
        return [_read(row) for row in rows]


def _read(row: RowMapping) -> Merchant:
    fields: dict[str, Any] = dict(row)
    fields["currencies"] = tuple(row["currencies"])
    return Merchant(**fields)


async def fee_plan(conn: AsyncConnection, merchant_id: UUID, method: str, currency: str) -> FeePlan:
    """The plan agreed for payments of this kind; raises ``CurrencyUnknown`` if the merchant has none."""
    f = tables.fee_plan
    query = select(f.c.bps, f.c.fixed, f.c.gst_bps).where(
        f.c.merchant_id == merchant_id, f.c.method == method, f.c.currency == currency
    )
    row = (await conn.execute(query)).one_or_none()
    if row is None:
        raise CurrencyUnknown(currency)
    return FeePlan(row.bps, row.fixed, row.gst_bps)
