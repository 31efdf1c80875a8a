"""What a merchant and we have agreed on for its payments in one currency, known without asking each time.

A process remembers it with the version of the rows it was read from. What was made by it is only written if the
database finds that version still in place, in the same call (``gateway.open_payments``): what is stale has no effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import text

from gateway import ids, tables
from gateway.core import Gateway
from gateway.errors import CurrencyUnknown, MerchantNotFound
from gateway.fees import FeePlan
from gateway.merchants import Merchant

_MOST = 10_000  # remembered; the ones known longest are forgotten first

# A row's xmin is the transaction that wrote it as it is: any change makes it another.
_FIND = text("""
SELECT m.*, f.bps, f.fixed, f.gst_bps, CAST(m.xmin AS text) || ':' || CAST(f.xmin AS text) AS terms
  FROM gateway.merchant m
  LEFT JOIN gateway.fee_plan f ON f.merchant_id = m.id AND f.method = 'card' AND f.currency = :currency
 WHERE m.id = :merchant""")


@dataclass(frozen=True, slots=True)
class Terms:
    """``version``: of the rows of ``merchant`` and ``plan``, opaque."""

    merchant: Merchant
    plan: FeePlan
    version: str


async def terms_of(gw: Gateway, merchant_id: UUID, currency: str) -> Terms:
    """Perhaps stale. Raises ``MerchantNotFound`` and ``CurrencyUnknown``, never from memory."""
    known = gw.known_terms.get((merchant_id, currency))
    if known is None:
        known = await _load(gw, merchant_id, currency)
        if len(gw.known_terms) >= _MOST:
            del gw.known_terms[next(iter(gw.known_terms))]
        gw.known_terms[merchant_id, currency] = known
    return known


def forget(gw: Gateway, terms: Terms, currency: str) -> None:
    """They are stale."""
    if gw.known_terms.get((terms.merchant.id, currency)) is terms:
        del gw.known_terms[terms.merchant.id, currency]


async def _load(gw: Gateway, merchant_id: UUID, currency: str) -> Terms:
    async with gw.engine.connect() as conn:
        params = {"merchant": merchant_id, "currency": currency}
        row = (await conn.execute(_FIND, params)).mappings().one_or_none()
    if row is None:
        raise MerchantNotFound(ids.public(ids.MERCHANT, merchant_id))
    if row["terms"] is None:
        raise CurrencyUnknown(currency)
    return Terms(_merchant(row), FeePlan(row["bps"], row["fixed"], row["gst_bps"]), row["terms"])


def _merchant(row: Mapping[Any, Any]) -> Merchant:
    facts: dict[str, Any] = {name: row[name] for name in tables.merchant.c.keys()}  # noqa: SIM118
    facts["currencies"] = tuple(row["currencies"])
    return Merchant(**facts)
