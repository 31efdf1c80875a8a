"""khata acts"""

from __future__ import annotations

import rich_click as click
from rich.table import Table
from rich.text import Text

from khata.cli.common import book_option, console, json_option, print_json, reading, with_database
from khata.cli.people import limit_option
from khata.database import Database
from ledger.acts import Act, acts


@click.command()
@click.option("--person", default=None, help="Only what this person did.")
@click.option("--subject", default=None, help="Only what was done to this id, account or day.")
@click.option("--before", type=click.IntRange(min=1), default=None, help="Only acts before this number.")
@limit_option
@book_option
@json_option
def command(
    person: str | None, subject: str | None, before: int | None, limit: int, book: str | None, as_json: bool
) -> None:
    """What people did to the book and why, newest first.

    Example: `khata acts --person asha --limit 20`
    """

    async def work(database: Database) -> list[Act]:
        async with reading(database, book) as (conn, book_id):
            return await acts(conn, book_id, before=before, limit=limit, person=person, subject=subject)

    found = with_database(work)
    if as_json:
        print_json(found)
        return
    table = Table("act", "when", "who", "what", "of", "why")
    for a in found:
        table.add_row(
            str(a.act),
            f"{a.recorded_at:%Y-%m-%d %H:%M:%S}",
            Text(a.person),
            a.action,
            Text(a.subject),
            Text(a.reason),
        )
    console.print(table)
