"""``HOME/secrets.json``: passwords that Khata makes for itself, readable by its user alone."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import cast

PASSWORD_BYTES = 24


def secrets_for(home: Path, names: Iterable[str]) -> Mapping[str, str]:
    """The kept secret of each name; missing ones are made and kept, the file's others stay as they are.

    Processes that start at the same moment get the same secrets.
    """
    path = home / "secrets.json"
    home.mkdir(parents=True, exist_ok=True)
    wanted = list(names)
    kept = _read(path)
    if not kept.keys() >= set(wanted):
        with (home / "secrets.lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            kept = _read(path)
            missing = [name for name in wanted if name not in kept]
            kept |= {name: secrets.token_hex(PASSWORD_BYTES) for name in missing}
            replace_file(path, json.dumps(kept, indent=2) + "\n")
    return {name: kept[name] for name in wanted}


def _read(path: Path) -> dict[str, str]:
    try:
        return cast("dict[str, str]", json.loads(path.read_text()))
    except FileNotFoundError:
        return {}


def replace_file(path: Path, text: str) -> None:
    """Replace the file whole: 0600 from its first byte, and durable before anybody relies on it."""
    fresh = path.with_suffix(f".{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    """Make the names in it durable: a file that was synced can still lose its name in a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
