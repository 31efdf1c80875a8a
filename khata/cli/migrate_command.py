"""khata migrate"""

from __future__ import annotations

import rich_click as click

from khata.bootstrap import open_database
from khata.cli.common import console, json_option, print_json
from khata.config import Settings


@click.command()
@json_option
def command(as_json: bool) -> None:
    """Prepare the database: roles, schemas, every migration. Running it again changes nothing.

    Example: `KHATA_DATABASE_URL=postgresql://postgres@db/postgres khata migrate`
    """
    with open_database(Settings()) as (_, embedded):
        kind = "given by KHATA_DATABASE_URL" if embedded is None else "embedded"
        if as_json:
            print_json({"database": kind, "ready": True})
        else:
            console.print(f"[green]ready[/]: the database ({kind}) has every migration")
