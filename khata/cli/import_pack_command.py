"""khata import-pack"""

from __future__ import annotations

from pathlib import Path

import rich_click as click
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from khata.cli import packs
from khata.cli.common import console, json_option, print_json, stderr, with_database
from khata.clock import utc_now
from khata.config import Settings
from khata.database import Database
from khata.packing import decrypted, load_pack, proved
from khata.sealing import Sealer
from khata.wiring import api_secrets
from ledger.import_pack import Imported, opened


@click.command()
@click.argument("pack", type=click.Path(exists=True, path_type=Path))
@packs.passphrase_option
@json_option
def command(pack: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Make a book of an audit PACK: a zip, a directory, or an encrypted `.zip.age`.

    The pack is verified first. Then everything in it is posted anew, with its own times and ids, so that every rule
    judges it again; the book is the same row by row, its log has the same root. The book must not be there, or
    hold what the pack begins with: stopped half-way, the same command goes on. Refused: packs of a period, and books
    that took part in transfers between books.

    Example: `khata import-pack main.zip`
    """
    word = packs.passphrase(passphrase_file) if pack.suffix == ".age" else None
    with decrypted(pack, word) as plain:
        proved(plain)
        imported = with_database(lambda database: _load(database, plain))
    if as_json:
        print_json(imported)
        return
    verb = (
        f"{imported.journals:,} journals in" if imported.journals else "was imported before, nothing changed:"
    )
    console.print(f"{verb} book {imported.book}", markup=False)
    console.print(f"{imported.size:,} leaves, root {imported.root.hex()}", markup=False)


async def _load(database: Database, path: Path) -> Imported:
    settings = Settings()
    sealer = Sealer(settings.log_origin, api_secrets(settings))
    columns = (SpinnerColumn(), TextColumn("{task.completed:,} journals"), TimeElapsedColumn())
    with opened(path) as pack, Progress(*columns, console=stderr, transient=True) as bar:
        task = bar.add_task("import")
        return await load_pack(
            database,
            sealer,
            pack,
            now=utc_now(),
            progress=lambda journals: bar.update(task, advance=journals),
        )
