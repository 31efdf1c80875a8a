"""khata import"""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from banks.settlement import SettlementImport
from gateway.settlement import import_settlement
from khata.cli.common import console, json_option, print_json, with_database
from khata.cli.money import major
from khata.config import Settings
from khata.database import Database
from khata.wiring import open_gateway


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
def command(file: Path, as_json: bool) -> None:
    """Import the settlement FILE of a bank (docs/settlement-file.md).

    Receivables go to zero, the bank's cost is booked, captures the bank never answered become known. Each line is
    booked in its merchant's home book. All or nothing: a refused file changes nothing, and line and field are named. A
    second import changes nothing either.

    Example: `khata import .khata/meridian/settlement/meridian-20261122-inr.txt`
    """
    settings, data = Settings(), file.read_bytes()

    async def work(database: Database) -> SettlementImport:
        async with open_gateway(settings, database) as gw:
            return await import_settlement(gw, data, file.name)

    result = with_database(work)
    if as_json:
        print_json(result)
        return
    verb = "was imported before, nothing changed:" if result.replayed else "imported:"
    totals = result.totals
    lines = f"{totals.captures} captures, {totals.refunds} refunds"
    net = major(totals.net, result.currency)
    console.print(f"{result.file_id} {verb} {lines}, net {net} {result.currency}", highlight=False)
