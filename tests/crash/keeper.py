"""Keeps one PostgreSQL for as long as it lives: ``python -m tests.crash.keeper HOME``; prints its administrator's URL.

Run as the first process of a PID namespace, its death is that of every process of the server.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from khata.database import EmbeddedServer

SETTINGS = {"shared_buffers": "64MB"}  # durable otherwise: fsync, full_page_writes, synchronous_commit are on


def server_of(home: Path) -> EmbeddedServer:
    binaries = os.environ.get("KHATA_TEST_PG_BIN")
    return EmbeddedServer(home, binaries=Path(binaries) if binaries else None, settings=SETTINGS)


if __name__ == "__main__":
    with server_of(Path(sys.argv[1])) as server:
        print(server.admin_dsn, flush=True)
        signal.pause()
