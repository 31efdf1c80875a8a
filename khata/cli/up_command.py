"""khata up"""

from __future__ import annotations

import asyncio
import signal
import sys
from dataclasses import dataclass

import aiohttp
import orjson
import rich_click as click

from khata.bootstrap import open_database
from khata.cli.common import console
from khata.config import Settings
from khata.database import Database
from khata.demo.acts import Story, cast, play_once, settle
from khata.demo.cast import engage_auditor
from khata.demo.client import MerchantClient
from khata.logs import configure_logs
from khata.stage import Stage, alone, placed, run_stage, write_private
from khata.wiring import open_gateway

# Patience of a developer's machine; production keeps the defaults of `Settings`.
QUICK = {"acquirer_timeout_s": 5.0, "lease_s": 15.0, "recovery_backoff_s": (2.0, 5.0, 15.0, 60.0, 300.0)}
SEED = 20261122


@click.command()
def command() -> None:
    """Run everything: database, bank simulator, API, worker; the first time with demo data.

    Prints where things are and how to talk to them. Ctrl-C stops everything; the data stays in `.khata/`.
    """
    given = Settings()
    configure_logs("WARNING")
    quick = {name: value for name, value in QUICK.items() if name not in given.model_fields_set}
    with alone(given.home), open_database(given) as (database, _):
        asyncio.run(_up(placed(given, **quick), database))
    console.print("[green]stopped[/]; the data stays in", str(given.home))


async def _up(settings: Settings, database: Database) -> None:
    stop = asyncio.Event()
    for signal_ in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signal_, stop.set)
    async with run_stage(settings) as stage:
        _welcome(stage, await _demo_clients(stage, database))
        await stop.wait()
        console.print("stopping …")


@dataclass(frozen=True, slots=True)
class Clients:
    """Ids and secrets of the demo merchant's program and of an auditor's, kept in ``<home>/demo.json``."""

    client_id: str
    secret: str
    auditor_id: str
    auditor_secret: str


async def _demo_clients(stage: Stage, database: Database) -> Clients:
    """The demo's clients; merchants and payments are made when there are none that work."""
    kept = stage.settings.home / "demo.json"
    if kept.exists():
        known = Clients(**orjson.loads(kept.read_bytes()))
        if await _works(stage, known.client_id, known.secret):
            return known
    async with open_gateway(stage.settings, database) as gw:
        story = Story(stage, database, gw, console, SEED)
        async with cast(story):
            with console.status("demo data: payments of three merchants"):
                await play_once(story)
                await settle(story, quiet=True)
        member, _ = story.players[0]
        auditor = await engage_auditor(stage.settings, database, gw)
    made = Clients(member.client_id, member.secret, *auditor)
    write_private(kept, orjson.dumps(made))
    return made


async def _works(stage: Stage, client_id: str, secret: str) -> bool:
    async with aiohttp.ClientSession() as http:
        try:
            await MerchantClient(http, stage.api, client_id, secret).authenticate()
        except Exception:  # a secret of another database: make demo data anew
            return False
    return True


def _welcome(stage: Stage, clients: Clients) -> None:
    api = stage.api
    token = (
        f"$(curl -s -u {clients.client_id}:{clients.secret} -d grant_type=client_credentials {api}/oauth/token"
        """ | sed 's/.*"access_token": *"\\([^"]*\\)".*/\\1/')"""
    )
    card = '{"number": "4111111111111111", "expiry_month": 12, "expiry_year": 2030, "cvv": "123"}'
    body = f'{{"amount": 125000, "currency": "INR", "reference": "order-1001", "card": {card}}}'
    lines = (
        ("API", f"{api}/v1"),
        ("documentation", f"{api}/docs"),
        ("merchant page", f"{api}/merchant"),
        ("simulated bank", f"{stage.acquirer}/book"),
        ("logs", str(stage.settings.home / "log")),
        ("client id", clients.client_id),
        ("client secret", clients.secret),
        ("auditor id", clients.auditor_id),
        ("auditor secret", clients.auditor_secret),
    )
    for name, value in lines:
        click.echo(f"{name:>16}  {value}")
    click.echo("\n# pay ₹1,250.00 with a test card")
    click.echo(
        f'curl -s {api}/v1/payments -H "Authorization: Bearer {token}" -H "Idempotency-Key: first-payment"'
        f" -H 'Content-Type: application/json' -d '{body}'"
    )
    click.echo("\n# what the merchant has")
    click.echo(f'curl -s {api}/v1/balance -H "Authorization: Bearer {token}"')
    click.echo("\n# the journals behind it, the newest first")
    click.echo(f'curl -s "{api}/v1/journals?limit=3" -H "Authorization: Bearer {token}"')
    click.echo("\nCtrl-C stops everything.")
    sys.stdout.flush()
