"""khata access"""

from __future__ import annotations

from uuid import UUID

import rich_click as click
from psycopg import AsyncConnection
from rich.table import Table
from rich.text import Text

from api.access import Access, read
from khata.cli.access import record_use
from khata.cli.common import console, json_option, print_json, with_database
from khata.cli.people import limit_option
from khata.database import Database


@click.command()
@click.option("--person", default=None, help="Only this client's, or this user's of the operating system.")
@click.option("--denied", is_flag=True, help="Only those who were turned away.")
@click.option("--before", type=click.UUID, default=None, help="Only entries before this one.")
@limit_option
@json_option
def command(person: str | None, denied: bool, before: UUID | None, limit: int, as_json: bool) -> None:
    """Who looked at what, and who was turned away; newest first. This look is the first entry.

    Example: `khata access --denied --limit 20`
    """

    async def work(database: Database) -> list[Access]:
        await record_use(database)
        async with await AsyncConnection.connect(database.audit_dsn) as conn:
            return await read(conn, before=before, limit=limit, person=person, denied=denied)

    found = with_database(work)
    if as_json:
        print_json(found)
        return
    table = Table("when", "who", "from", "what", "of", "outcome")
    for a in found:
        table.add_row(
            f"{a.at:%Y-%m-%d %H:%M:%S}",
            Text(a.person or "a stranger"),
            a.address,
            Text(f"{a.method} {a.route}"),
            Text(" ".join((a.subject, *(f"{name}=…" for name in a.asked)))),
            Text(a.code or a.outcome, style="red" if a.code else ""),
        )
    console.print(table)
