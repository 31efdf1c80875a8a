"""khata clients …"""

from __future__ import annotations

from typing import Any

import rich_click as click
from psycopg import AsyncConnection
from psycopg.rows import dict_row
from rich.table import Table
from rich.text import Text

from api.clients import create_client, disable_client
from api.policy import AUDITOR_SCOPES, Scope
from khata.cli.access import record_use
from khata.cli.common import console, json_option, print_json, with_database
from khata.clock import utc_now
from khata.config import Settings
from khata.database import Database
from khata.wiring import api_secrets

ROLES = {"auditor": AUDITOR_SCOPES, "operator": frozenset(Scope)}
_LIST = "SELECT client_id, name, merchant_id, scopes, status, created_at FROM api.client ORDER BY created_at, client_id"


@click.group()
def command() -> None:
    """Clients of the API: an auditor's, an operator's. (A merchant's is made with the merchant.)

    Example: `khata clients create "Rao & Co, auditors" --role auditor`
    """


@command.command("create")
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice(list(ROLES)),
    required=True,
    help="auditor: reads everything, changes nothing.",
)
@json_option
def create(name: str, role: str, as_json: bool) -> None:
    """Make a client of the platform's. Its secret is shown this once."""
    secrets = api_secrets(Settings())

    async def work(database: Database) -> tuple[str, str]:
        await record_use(database)
        async with await AsyncConnection.connect(database.app_dsn) as conn:
            return await create_client(
                conn, secrets, name=name, merchant_id=None, scopes=ROLES[role], now=utc_now()
            )

    client_id, secret = with_database(work)
    said = {"client_id": client_id, "client_secret": secret, "scopes": " ".join(sorted(ROLES[role]))}
    if as_json:
        print_json(said)
        return
    for word, value in said.items():
        console.print(f"{word:>14}  {value}", markup=False, highlight=False)


@command.command("list")
@json_option
def list_all(as_json: bool) -> None:
    """Every client, and what it may do."""

    async def work(database: Database) -> list[dict[str, Any]]:
        await record_use(database)
        async with (
            await AsyncConnection.connect(database.audit_dsn) as conn,
            conn.cursor(row_factory=dict_row) as cursor,
        ):
            await cursor.execute(_LIST)
            return await cursor.fetchall()

    found = with_database(work)
    if as_json:
        print_json(found)
        return
    table = Table("client", "name", "of", "status", "scopes")
    for c in found:
        table.add_row(
            c["client_id"],
            Text(c["name"]),
            str(c["merchant_id"] or "platform"),
            c["status"],
            " ".join(c["scopes"]),
        )
    console.print(table)


@command.command("disable")
@click.argument("client_id")
def disable(client_id: str) -> None:
    """No more tokens for this client; those it has end by themselves within ten minutes."""

    async def work(database: Database) -> bool:
        await record_use(database)
        async with await AsyncConnection.connect(database.app_dsn) as conn:
            return await disable_client(conn, client_id)

    if not with_database(work):
        raise click.ClickException(f"there is no active client {client_id}")
    console.print(f"disabled: {client_id}", markup=False)
