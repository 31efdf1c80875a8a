"""khata merchants …"""

from __future__ import annotations

import rich_click as click
from psycopg import AsyncConnection
from rich.table import Table
from rich.text import Text

from api.clients import create_client
from api.policy import MERCHANT_SCOPES
from gateway.fees import FeePlan
from gateway.merchants import Merchant, NewMerchant, create_merchant, list_merchants
from khata.cli.common import console, json_option, print_json, with_database
from khata.config import Settings
from khata.database import Database
from khata.homes import choose_home
from khata.logs import configure_logs
from khata.wiring import MERIDIAN, api_secrets, open_gateway


@click.group()
def command() -> None:
    """Merchants and the books they are at home in.

    Example: `khata merchants create "Chai Point" --currency INR --book second`
    """
    configure_logs("WARNING")


@command.command("create")
@click.argument("name")
@click.option(
    "--currency", "currencies", multiple=True, default=("INR",), help="Again for each (default: INR)."
)
@click.option(
    "--book", default=None, help="Home book (default: chosen among KHATA_BOOKS by the merchant's id)."
)
@click.option("--fee-bps", type=click.IntRange(0, 10_000), default=200, help="Our fee, in 1/10000.")
@click.option(
    "--settlement-days", type=click.IntRange(0, 60), default=1, help="Payable so long after settlement."
)
@json_option
def create(
    name: str,
    currencies: tuple[str, ...],
    book: str | None,
    fee_bps: int,
    settlement_days: int,
    as_json: bool,
) -> None:
    """Make a merchant with all its accounts, in its home book for good; and a client for its programs.

    The client's secret is shown this once.
    """
    settings = Settings()

    async def work(database: Database) -> tuple[Merchant, str, str]:
        async with open_gateway(settings, database) as gw:
            id_ = gw.ids()
            home = await choose_home(settings, database, id_, book)
            fees = {currency: FeePlan(bps=fee_bps) for currency in currencies}
            new = NewMerchant(name, home, MERIDIAN, fees, settlement_days=settlement_days)
            merchant = await create_merchant(gw, new, id=id_)
            async with await AsyncConnection.connect(database.app_dsn) as conn:
                client = await create_client(
                    *(conn, api_secrets(settings)),
                    name=f"{name}'s programs",
                    merchant_id=merchant.id,
                    scopes=MERCHANT_SCOPES,
                    now=gw.clock(),
                )
        return merchant, *client

    merchant, client_id, secret = with_database(work)
    said = {
        "merchant": merchant.owner,
        "book": merchant.book_id,
        "client_id": client_id,
        "client_secret": secret,
    }
    if as_json:
        print_json(said)
        return
    for word, value in said.items():
        console.print(f"{word:>14}  {value}", markup=False, highlight=False)


@command.command("list")
@json_option
def list_all(as_json: bool) -> None:
    """Every merchant, its home book and its currencies."""
    settings = Settings()

    async def work(database: Database) -> list[Merchant]:
        async with open_gateway(settings, database) as gw:
            return await list_merchants(gw)

    merchants = with_database(work)
    if as_json:
        print_json(merchants)
        return
    table = Table("merchant", "name", "home book", "currencies", "bank")
    for merchant in merchants:
        currencies = ", ".join(merchant.currencies)
        table.add_row(merchant.owner, Text(merchant.name), str(merchant.book_id), currencies, merchant.bank)
    console.print(table)
