"""khata witness"""

from __future__ import annotations

import os
from pathlib import Path

import rich_click as click
import uvicorn

from khata.cli.common import console, json_option, print_json
from khata.clock import utc_now
from khata.config import Settings
from khata.logs import configure_logs
from khata.witness.judge import Witness
from khata.witness.memory import Cosigner, key_in, opened
from khata.witness.server import WitnessApp
from ledger.log.note import Type, Verifier


@click.command()
@click.option(
    "--log", "logs", metavar="VKEY", multiple=True, help="A key of a log to witness; again for each."
)
@click.option(
    "--name", default=None, help="Of a new witness: a URL without its scheme, such as witness.example/w1."
)
@click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    help="Its key and what it has signed (default: `witness` under KHATA_HOME).",
)
@click.option("--host", default="127.0.0.1", help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=9590, help="Port to listen on; 0: any.")
@click.option("--show-key", is_flag=True, help="Print the witness's key for others, and exit.")
@json_option
def command(
    logs: tuple[str, ...],
    name: str | None,
    folder: Path | None,
    host: str,
    port: int,
    show_key: bool,
    as_json: bool,
) -> None:
    """Sign checkpoints of logs that only grow (C2SP tlog-witness), for somebody else than who runs the log.

    It needs no database. A tree that is smaller than, or other than grown from, what it signed before gets no
    signature. What it has signed is on disk before it answers; without that memory it does not start.

    Example: `khata witness --name witness.example/w1 --log "$(khata log keys --json | jq -r '.[-1].vkey')"`
    """
    settings = Settings()
    configure_logs(settings.log_level)
    keys = [Verifier.parse(vkey) for vkey in logs]
    if any(key.type is not Type.ED25519 for key in keys):
        raise click.UsageError("a log's key is of the type Ed25519; that of a witness cannot be one")
    if not keys and not show_key:
        raise click.UsageError("name at least one log with --log VKEY")
    place = folder or settings.home / "witness"
    if show_key and (place / "key.json").exists():  # also while the witness runs
        _introduce(key_in(place, name), keys, as_json)
        return
    with opened(place, name, os.urandom) as (cosigner, memory):
        _introduce(cosigner, keys, as_json)
        if not show_key:
            app = WitnessApp(Witness(cosigner, memory, keys, utc_now))
            uvicorn.run(
                app, host=host, port=port, log_config=None, access_log=False, ws="none", lifespan="off"
            )


def _introduce(cosigner: Cosigner, keys: list[Verifier], as_json: bool) -> None:
    vkey = cosigner.verifier.vkey
    origins = sorted({key.name for key in keys})
    if as_json:
        print_json({"vkey": vkey, "logs": origins})
    else:
        for said in (vkey, *(f"witnesses {origin}" for origin in origins)):
            console.print(said, markup=False, highlight=False, soft_wrap=True)
