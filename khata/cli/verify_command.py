"""khata verify"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import rich_click as click

from khata.cli.common import json_option
from khata.packing import VERIFIER


@click.command()
@click.argument("pack", type=click.Path(path_type=Path))
@click.option("--key", metavar="VKEY", help="A key of the log, as known from elsewhere.")
@click.option(
    "--prior", type=click.Path(path_type=Path), metavar="PACK", help="An earlier pack of the same log."
)
@json_option
def command(pack: Path, key: str | None, prior: Path | None, as_json: bool) -> None:
    """Prove an audit pack, with the stand-alone verifier: nothing of the database is asked.

    The first wrong line is named. Exit code 0: all is right; 1: something is wrong; 2: it cannot be read.

    Example: `khata verify pack.zip --key "$(khata log keys --json | jq -r '.[-1].vkey')"`
    """
    options = [*(["--key", key] if key else []), *(["--prior", str(prior)] if prior else [])]
    options += ["--json"] if as_json else []
    done = subprocess.run([sys.executable, str(VERIFIER), str(pack), *options], check=False)
    raise SystemExit(done.returncode)
