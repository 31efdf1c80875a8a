"""khata states"""

from __future__ import annotations

import rich_click as click

from gateway import states
from khata.cli.common import json_option, print_json


@click.command()
@click.option("--mermaid", is_flag=True, help="Print state diagrams that documentation tools draw.")
@json_option
def command(mermaid: bool, as_json: bool) -> None:
    """Show the transition tables: every state of an operation, an attempt and a payment, and the ways between.

    Example: `khata states --mermaid > states.md`
    """
    if as_json:
        tables = states.TABLES.items()
        print_json({level: [[*edge, event] for edge, event in edges.items()] for level, edges in tables})
        return
    for level in states.TABLES:
        click.secho(f"# {level}", bold=True)
        click.echo(f"```mermaid\n{states.as_mermaid(level)}\n```" if mermaid else states.as_text(level))
