"""What the commands about packs share: passphrases, what is told of a pack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import rich_click as click

from ledger.export.pack import Written

passphrase_option = click.option(
    "--passphrase-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=None,
    help="Its first line is the passphrase (default: asked for).",
)


def new_passphrase(file: Path | None) -> str:
    """Asked for twice, unless it is in a file."""
    return passphrase(file, confirm=True)


def passphrase(file: Path | None, *, confirm: bool = False) -> str:
    if file is None:
        return click.prompt("Passphrase", hide_input=True, confirmation_prompt=confirm, err=True)
    word = file.read_text().split("\n", 1)[0]
    if not word:
        raise click.UsageError(f"{file} begins with an empty line: there is no passphrase")
    return word


def facts(written: Written) -> dict[str, Any]:
    return {
        "book": written.book,
        "journals": written.journals,
        "from_index": written.from_index,
        "to_index": written.to_index,
        "root": written.root.hex(),
        "files": len(written.files),
        "bytes": sum(file.bytes for file in written.files),
    }
