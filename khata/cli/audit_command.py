"""khata audit"""

from __future__ import annotations

import rich_click as click
from rich.progress import Progress
from rich.table import Column, Table

from khata.audit import BookAudit, audit_database
from khata.cli.common import console, json_option, print_json, stderr, with_database
from khata.database import Database


@click.command()
@json_option
def command(as_json: bool) -> None:
    """Check every invariant of every book by recomputing it from the rows; exit code 1 if anything is wrong.

    A finding names the table, the row's key, the field, what is stored and what it must be.

    Example: `khata audit --json | jq '.[].results[] | select(.findings != [])'`
    """

    async def work(database: Database) -> list[BookAudit]:
        with Progress(console=stderr, transient=True) as bar:
            task = bar.add_task("journals", total=None)
            return await audit_database(
                database, lambda done, total: bar.update(task, completed=done, total=total)
            )

    audits = with_database(work)
    if as_json:
        print_json(audits)
    else:
        for audit in audits:
            console.print(audit_table(audit))
            for result in audit.results:
                for finding in result.findings:
                    console.print(f"[red]✗[/] {result.check.id} ", end="")
                    console.print(str(finding), markup=False, highlight=False)
    if not all(audit.clean for audit in audits):
        raise SystemExit(1)


def audit_table(audit: BookAudit) -> Table:
    """One line a check: what it claims, how many rows it looked at, what it found."""
    right = Column("rows", justify="right")
    table = Table("check", "claim", right, "result", title=f"Audit of book {audit.book}")
    for r in audit.results:
        verdict = f"[red]{r.found} found[/]" if r.found else "[green]ok[/]"
        table.add_row(r.check.id, r.check.title, f"{r.rows:,}", verdict)
    return table
