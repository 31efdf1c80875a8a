"""khata audit"""

from __future__ import annotations

import rich_click as click
from rich.progress import Progress
from rich.table import Column, Table

from khata.audit import BookAudit, audit_database, misses_payments
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
@click.option(
    "--ledger", "ledger_only", is_flag=True, help="Only the ledger's checks, as for an imported book."
)
@json_option
def command(tamper: bool, ledger_only: bool, as_json: bool) -> None:
    """Check every invariant of every book by recomputing it from the rows; exit code 1 if anything is wrong.

    A finding names the table, the row's key, the field, what is stored and what it must be.

    With --ledger only the ledger's own checks run, none of payments and banks: a book made by `khata import-pack` has
    the journals of its payments, but not the payments, which are in no pack.

    With --tamper-test no book is checked but the audit: in a throw-away database with a small generated book, values
    are changed and rows lost, doubled and exchanged, one after the other; exit code 1 unless the audit names each.

    Example: `khata audit --json | jq '.[].results[] | select(.findings != [])'`
    """
    if tamper and ledger_only:
        raise click.UsageError("--ledger is for books, --tamper-test checks none")
    if tamper:
        _test_the_audit(as_json)
        return

    async def work(database: Database) -> tuple[list[BookAudit], bool]:
        await record_use(database)
        with Progress(console=stderr, transient=True) as bar:
            task = bar.add_task("journals", total=None)
            audits = await audit_database(
                database,
                lambda done, total: bar.update(task, completed=done, total=total),
                ledger_only=ledger_only,
            )
            return audits, await misses_payments(database, audits)

    audits, imported = with_database(work)
    if as_json:
        print_json(audits)
    else:
        for audit in audits:
            _tell(audit)
    if imported:
        stderr.print(NO_PAYMENTS, markup=False)
    if not all(audit.clean for audit in audits):
        raise SystemExit(1)


NO_PAYMENTS = (
    "no payment was ever made in this database: of books that were imported from packs, which hold no payments, "
    "`khata audit --ledger` runs the checks that apply"
)


def _tell(audit: BookAudit) -> None:
    console.print(audit_table(audit))
    for result in audit.results:
        for finding in result.findings:
            console.print(f"[red]✗[/] {result.check.id} ", end="")
            console.print(str(finding), markup=False, highlight=False)


def audit_table(audit: BookAudit) -> Table:
    """One line a check: what it claims, how many rows it looked at, what it found."""
    right = Column("rows", justify="right")
    table = Table("check", "claim", right, "result", title=f"Audit of book {audit.book}")
    for r in audit.results:
        verdict = f"[red]{r.found} found[/]" if r.found else "[green]ok[/]"
        table.add_row(r.check.id, r.check.title, f"{r.rows:,}", verdict)
    for check in audit.not_run:
        table.add_row(check.id, check.title, "", "not run")
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
