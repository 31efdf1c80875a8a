"""The ``khata`` command. Each subcommand is a module of its own, imported when it is called."""

from __future__ import annotations

import importlib
import sys

import rich_click as click

click.rich_click.TEXT_MARKUP = "markdown"
click.rich_click.TEXT_EMOJIS = False  # account paths look like emoji codes (`:Bank:`)

COMMANDS = {
    "up": "Run everything: database, simulators, API, worker, demo data.",
    "demo": "Tell the scripted story from HTTP to the books, and exit.",
    "serve": "Run the API.",
    "worker": "Run the job worker: recovery, expiry, funds.",
    "simulate": "Run a bank simulator.",
    "migrate": "Prepare the database: roles, schemas, migrations.",
    "books": "Look into the books: accounts, balances, journals, trial balance.",
    "merchants": "Make merchants, each at home in a book.",
    "clients": "Make and list clients of the API: an auditor's, an operator's.",
    "statement": "An account's statement: csv, camt.053, html, pdf.",
    "report": "Trial balance, balance sheet, income statement, ageing.",
    "post": "Post a journal.",
    "export": "Take a book away: an audit pack, or one form for another program.",
    "verify": "Prove an audit pack, without the database.",
    "import-pack": "Make a book of an audit pack.",
    "import": "Import a bank's settlement file.",
    "audit": "Check every invariant on the database.",
    "adjust": "Manual adjustments: proposed by one person, approved by another.",
    "period": "Close periods, and reopen them by two people.",
    "log": "The transparency log: seal, checkpoints, keys, proofs.",
    "acts": "What people did to the books, and why.",
    "witness": "Sign checkpoints of logs that only grow, for somebody else.",
    "access": "Who looked at what, and who was turned away.",
    "sql": "Run SQL with the rights of a role.",
    "states": "Show the transition tables of payments.",
}


class LazyGroup(click.RichGroup):
    """Imports ``khata.cli.<name>_command`` when that command is called, so that ``khata --help`` answers at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return click.Command(cmd_name, help=COMMANDS[cmd_name]) if cmd_name in COMMANDS else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, found, rest = super().resolve_command(ctx, args)
        if found is not None and name is not None:
            found = importlib.import_module(f"khata.cli.{name.replace('-', '_')}_command").command
        return name, found, rest


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="khata")
def cli() -> None:
    """**Khata**: a double-entry, ledger-centric payments core.

    Settings come from the environment (`KHATA_…`). Without `KHATA_DATABASE_URL` an embedded PostgreSQL under
    `.khata/` is used, and started when it is not running.

    Example: `khata up`, then in another terminal `khata books balances`.
    """


def main() -> None:
    """Entry point: expected errors are one clear line and exit code 1, never a traceback."""
    try:
        cli()
    except Exception as error:
        from khata.cli.common import EXPECTED, explain

        if not isinstance(error, EXPECTED):
            raise
        explain(error)
        sys.exit(1)
