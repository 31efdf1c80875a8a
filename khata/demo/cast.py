"""Who takes part: merchants with their fees, and a client id and secret for each one's programs."""

from __future__ import annotations

from dataclasses import dataclass, field

from psycopg import AsyncConnection

from api.clients import create_client
from api.policy import AUDITOR_SCOPES, MERCHANT_SCOPES
from gateway.core import Gateway
from gateway.fees import FeePlan
from gateway.merchants import Merchant, NewMerchant, create_merchant
from khata.config import Settings
from khata.database import Database
from khata.homes import choose_home
from khata.wiring import MERIDIAN, api_secrets

TWO_PERCENT = FeePlan(bps=200, fixed=0, gst_bps=1800)


@dataclass(frozen=True, slots=True)
class Role:
    """A merchant to make; funds become payable ``settlement_days`` after the bank has settled."""

    name: str
    currency: str
    settlement_days: int


ROLES = (
    Role("Kirana Bazaar", "INR", 0),
    Role("Sakura Books", "JPY", 1),
    Role("Gulf Perfumes", "KWD", 2),
)


@dataclass(frozen=True, slots=True)
class Member:
    merchant: Merchant
    currency: str
    client_id: str
    secret: str = field(repr=False)


async def engage(settings: Settings, database: Database, gw: Gateway, role: Role) -> Member:
    """A new merchant of that role, with a client that may do all a merchant may."""
    id_ = gw.ids()
    book_id = await choose_home(settings, database, id_)
    new = NewMerchant(
        name=role.name,
        book_id=book_id,
        bank=MERIDIAN,
        fees={role.currency: TWO_PERCENT},
        settlement_days=role.settlement_days,
        tolerance_bps=1000,
    )
    merchant = await create_merchant(gw, new, id=id_)
    async with await AsyncConnection.connect(database.app_dsn) as conn:
        client_id, secret = await create_client(
            conn,
            api_secrets(settings),
            name=f"{role.name}'s shop",
            merchant_id=merchant.id,
            scopes=MERCHANT_SCOPES,
            now=gw.clock(),
        )
    return Member(merchant, role.currency, client_id, secret)


async def engage_auditor(settings: Settings, database: Database, gw: Gateway) -> tuple[str, str]:
    """A platform client that may read everything and change nothing."""
    async with await AsyncConnection.connect(database.app_dsn) as conn:
        return await create_client(
            *(conn, api_secrets(settings)),
            name="auditor",
            merchant_id=None,
            scopes=AUDITOR_SCOPES,
            now=gw.clock(),
        )
