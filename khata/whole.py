"""Files and directories that appear under their names only when they are whole."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from khata.errors import CannotWrite


@contextmanager
def whole_file(path: Path) -> Generator[IO[bytes]]:
    """Written under another name beside it, synced, then renamed; gone if the block fails or is cancelled.

    Raises ``CannotWrite``.
    """
    if path.is_dir():
        raise CannotWrite(path, "it is a directory")
    aside = _aside(path)
    with telling(path):
        file = aside.open("wb")
    try:
        with _telling_when_full(path), file:
            yield file
            with telling(path):
                file.flush()
                os.fsync(file.fileno())
        with telling(path):
            aside.replace(path)
            _sync(path.parent)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def whole_directory(path: Path) -> Generator[Path]:
    """The same for a directory, which must not be there yet, or be empty. Raises ``CannotWrite``."""
    with telling(path):
        if path.is_dir() and any(path.iterdir()):
            raise CannotWrite(path, "it is there and not empty; give a new directory, or an empty one")
        if path.exists() and not path.is_dir():
            raise CannotWrite(path, "it is a file; give a new directory, or an empty one")
    aside = _aside(path)
    shutil.rmtree(aside, ignore_errors=True)  # of one that was killed
    with telling(path):
        aside.mkdir(parents=True)
    try:
        with _telling_when_full(path):
            yield aside
        with telling(path):
            for folder, _, names in os.walk(aside):
                for name in names:
                    _sync(Path(folder, name))
                _sync(Path(folder))
            aside.replace(path)
            _sync(path.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def telling(path: Path) -> Generator[None]:
    """What the operating system refuses in the block becomes ``CannotWrite`` of ``path``, the name that was given."""
    try:
        yield
    except OSError as error:
        raise _refused(path, error) from error


@contextmanager
def _telling_when_full(path: Path) -> Generator[None]:
    """The same where the caller writes: of what else is refused in its block nobody knows that it is about ``path``."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise _refused(path, error) from error


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _refused(path: Path, error: OSError) -> CannotWrite:
    place = path.absolute().parent
    match error.errno:
        case errno.ENOENT:
            reason = f"there is no directory {place}; make it first"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            reason = f"this user may not write in {place}; choose another place"
        case errno.ENOTDIR | errno.EEXIST:
            reason = f"{place} is a file, or lies below one; choose a directory"
        case errno.ENOSPC | errno.EDQUOT:
            reason = "the disk is full"
        case _:
            reason = error.strerror or str(error)
    return CannotWrite(path, reason)


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


def _sync(path: Path) -> None:
    at = os.open(path, os.O_RDONLY)
    try:
        os.fsync(at)
    finally:
        os.close(at)
