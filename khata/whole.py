"""Files and directories that appear under their names only when they are whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def whole_file(path: Path) -> Generator[IO[bytes]]:
    """Written under another name beside it, synced, then renamed; gone if the block fails or is cancelled."""
    aside = _aside(path)
    try:
        with aside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        _sync(path.parent)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def whole_directory(path: Path) -> Generator[Path]:
    """The same for a directory, which must not be there yet, or be empty. Raises ``FileExistsError``."""
    if path.is_dir() and any(path.iterdir()):
        raise FileExistsError(f"{path} is there and not empty")
    aside = _aside(path)
    shutil.rmtree(aside, ignore_errors=True)  # of one that was killed
    aside.mkdir(parents=True)
    try:
        yield aside
        for folder, _, names in os.walk(aside):
            for name in names:
                _sync(Path(folder, name))
            _sync(Path(folder))
        aside.replace(path)
        _sync(path.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


def _sync(path: Path) -> None:
    at = os.open(path, os.O_RDONLY)
    try:
        os.fsync(at)
    finally:
        os.close(at)
