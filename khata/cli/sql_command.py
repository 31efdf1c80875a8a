"""khata sql"""

from __future__ import annotations

import asyncio

import psycopg
import rich_click as click
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from khata.bootstrap import open_database
from khata.cli.access import record_use
from khata.cli.common import console
from khata.config import Settings

ROLES = ("audit", "app", "merchant", "owner", "admin")


@click.command()
@click.argument("statements")
@click.option("--role", type=click.Choice(ROLES), default="audit", help="Whose rights to use.")
def command(statements: str, role: str) -> None:
    """Run SQL on Khata's database, as one transaction, with the rights of a role.

    `audit` reads everything, `app` is what the API and worker are, `merchant` sees its own rows (`SET khata.owner`),
    `owner` owns the schemas, `admin` is the administrator. See for yourself what each may do.

    Example: `khata sql "SELECT kind, count(*) FROM ledger.journal GROUP BY 1"`
    """
    with open_database(Settings()) as (database, _):
        asyncio.run(record_use(database, subject=role))
        dsn: str = getattr(database, f"{role}_dsn")
        try:
            with psycopg.connect(dsn) as conn:
                cursor = conn.execute(statements.encode())
                while cursor.nextset():
                    pass
                _show(cursor)
        except psycopg.Error as error:
            raise click.ClickException(f"{error.sqlstate}: {error.diag.message_primary or error}") from None


def _show(cursor: psycopg.Cursor) -> None:
    if cursor.description is None:
        console.print(cursor.statusmessage)
        return
    table = Table(*(escape(column.name) for column in cursor.description))
    for row in cursor:
        table.add_row(*(Text("" if value is None else str(value)) for value in row))
    console.print(table)
