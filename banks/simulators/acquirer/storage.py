"""An append-only file of JSON lines that survives its process being killed at any point."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from banks.errors import BanksError

FILE_NAME = "book.jsonl"


class BookDamaged(BanksError):
    """A line before the last cannot be read: no kill does that, so nobody may guess past it."""

    code: ClassVar[str] = "book_damaged"

    def __init__(self, path: Path, line: int) -> None:
        super().__init__(f"{path}, line {line} is damaged")
        self.path, self.line = path, line


class BookInUse(BanksError):
    """Another acquirer process writes this book."""

    code: ClassVar[str] = "book_in_use"

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is in use by another process")
        self.path = path


class Storage:
    """The book's lines. ``append`` returns only when the line is on disk."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._path = directory / FILE_NAME
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._file)
            raise BookInUse(self._path) from None
        sync_directory(directory)

    def load(self) -> list[dict[str, Any]]:
        """Every line that was written whole. A torn last one was never answered for, so it is cut off."""
        data = self._path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) != len(data):
            os.ftruncate(self._file, len(whole))
            os.fsync(self._file)
        return [self._parse(line, number) for number, line in enumerate(whole.splitlines(), start=1)]

    def append(self, line: Mapping[str, Any]) -> None:
        """Raises ``OSError`` if the line could not be made durable; it is not in the book then."""
        data = json.dumps(line, separators=(",", ":"), ensure_ascii=True).encode() + b"\n"
        size = os.fstat(self._file).st_size
        try:
            if os.write(self._file, data) != len(data):
                raise OSError(f"no room for a line in {self._path}")
            os.fdatasync(self._file)
        except OSError:
            os.ftruncate(self._file, size)  # a torn line may only ever be the last
            raise

    def close(self) -> None:
        os.close(self._file)

    def _parse(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            return json.loads(line)
        except ValueError:
            raise BookDamaged(self._path, number) from None


def write_whole(path: Path, data: bytes) -> None:
    """Create ``path`` with ``data`` so that it is seen whole or not at all, also after a kill."""
    draft = path.with_suffix(path.suffix + ".part")
    with draft.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make a created or renamed file's name durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
