"""khata simulate"""

from __future__ import annotations

import runpy
import sys

import rich_click as click


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(arguments: tuple[str, ...]) -> None:
    """Run the card acquirer's simulator in this process; ARGUMENTS are the simulator's own (try `--help`).

    Example: `khata simulate --port 9583 --book .khata/acquirer`
    """
    sys.argv = ["khata simulate", *arguments]
    runpy.run_module("banks.simulators.acquirer", run_name="__main__")
