"""khata audit"""

from __future__ import annotations

import rich_click as click
from rich.progress import Progress
from rich.table import Column, Table

from khata.audit import BookAudit, audit_database
from khata.bootstrap import open_server
from khata.cli.access import record_use
from khata.cli.common import console, json_option, print_json, run, stderr, with_database
from khata.config import Settings
from khata.database import Database
from khata.tamper.run import TamperTest, tamper_test
from khata.tamper.scratch import scratch_database
from khata.tamper.tampering import KINDS


@click.command()
@click.option("--tamper-test", "tamper", is_flag=True, help="Test the audit itself, on a scratch book.")
@json_option
def command(tamper: bool, as_json: bool) -> None:
    """Check every invariant of every book by recomputing it from the rows; exit code 1 if anything is wrong.

    A finding names the table, the row's key, the field, what is stored and what it must be.

    With --tamper-test no book is checked but the audit: in a throw-away database with a small generated book, values
    are changed and rows lost, doubled and exchanged, one after the other; exit code 1 unless the audit names each.

    Example: `khata audit --json | jq '.[].results[] | select(.findings != [])'`
    """
    if tamper:
        _test_the_audit(as_json)
        return

    async def work(database: Database) -> list[BookAudit]:
        await record_use(database)
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


def _test_the_audit(as_json: bool) -> None:
    settings = Settings()
    with (
        open_server(settings) as admin_dsn,
        scratch_database(admin_dsn, settings.home) as scratch,
        Progress(console=stderr, transient=True) as bar,
    ):
        task = bar.add_task("tamperings", total=None)
        test = run(tamper_test(scratch, lambda done, total: bar.update(task, completed=done, total=total)))
    if as_json:
        print_json(test)
    else:
        for table in tamper_tables(test):
            console.print(table)
        for missed in test.missed:
            console.print("[red]✗[/] ", end="")
            console.print(missed, markup=False, highlight=False)
        verdict = "[green]all caught and named[/]" if test.passed else "[red]the audit can be deceived[/]"
        console.print(f"{test.tried:,} tamperings, {len(test.missed)} missed: {verdict}")
    if not test.passed:
        raise SystemExit(1)


def tamper_tables(test: TamperTest) -> tuple[Table, Table]:
    """What was caught of what was tried, by table and kind; and what cannot be proved, with the reason."""
    right = [Column(kind, justify="right") for kind in KINDS]
    caught = Table("table", *right, title="Caught and named of what was tried")
    for table in dict.fromkeys(count.table for count in test.counts):
        counts = [count for count in test.counts if count.table == table]
        caught.add_row(table, *(f"{c.caught} of {c.tried}" if c.tried else "-" for c in counts))
    unproved = Table("column", "not protected, because it is", title="What no row can prove")
    for column in test.unprotected:
        unproved.add_row(f"{column.table}.{column.column}", column.reason)
    return caught, unproved
