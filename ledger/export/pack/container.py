"""What a pack's files are written into: a zip or a directory. One file after the other, nothing is held in memory.

A zip of the same files is the same bytes: no times, no names of users, one order.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, Protocol

BINARY = (".parquet",)
_LEVEL = 1
"""Of deflate: a third more bytes than the best, in a tenth of its time."""


class Out(Protocol):
    """Where bytes go."""

    def write(self, data: bytes, /) -> int: ...
    def flush(self) -> None: ...


@dataclass(frozen=True, slots=True)
class File:
    """A file of a pack. ``lines``: of text, None of anything else."""

    name: str
    bytes: int
    lines: int | None
    sha256: str


class Entry:
    """A file that is being written: sequential, ``tell`` says how much."""

    def __init__(self, name: str, out: IO[bytes]) -> None:
        self.name = name
        self._out = out
        self._hash = sha256()
        self._bytes = 0
        self._lines = None if name.endswith(BINARY) else 0

    def write(self, data: bytes) -> int:
        self._out.write(data)
        self._hash.update(data)
        self._bytes += len(data)
        if self._lines is not None:
            self._lines += data.count(b"\n")
        return len(data)

    def flush(self) -> None:
        """Nothing is kept back here."""

    def tell(self) -> int:
        return self._bytes

    def done(self) -> File:
        return File(self.name, self._bytes, self._lines, self._hash.hexdigest())


class Container:
    """``files``: those that are written, in order."""

    def __init__(self, open_file: Callable[[str], IO[bytes]]) -> None:
        self._open = open_file
        self.files: list[File] = []

    @contextmanager
    def entry(self, name: str) -> Generator[Entry]:
        with self._open(name) as out:
            entry = Entry(name, out)
            yield entry
        self.files.append(entry.done())

    def put(self, name: str, content: bytes) -> None:
        with self.entry(name) as entry:
            entry.write(content)


def in_directory(root: Path) -> Container:
    """Files below ``root``, which is there and empty."""

    def open_file(name: str) -> IO[bytes]:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("xb")

    return Container(open_file)


@contextmanager
def in_zip(out: Out, comment: Callable[[str], bytes]) -> Generator[Container]:
    """A zip, written from front to back. ``comment`` makes its comment, always as long as the last time, from the
    SHA-256 in hex of every byte before it."""
    placeholder = comment("0" * 64)
    tail = _Tail(out, len(placeholder))
    with zipfile.ZipFile(tail, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as archive:  # type: ignore[arg-type]
        archive.comment = placeholder
        # By name: then the time is 1980-01-01. Zip64, as a size is known only after the file.
        yield Container(lambda name: archive.open(name, "w", force_zip64=True))
    out.write(comment(tail.digest()))


class _Tail:
    """Passes on all but the last ``length`` bytes, and hashes what it passes on."""

    def __init__(self, out: Out, length: int) -> None:
        self._out = out
        self._length = length
        self._kept = b""
        self._hash = sha256()

    def write(self, data: bytes) -> int:
        held = self._kept + data
        ready, self._kept = held[: -self._length], held[-self._length :]
        self._hash.update(ready)
        self._out.write(ready)
        return len(data)

    def flush(self) -> None:
        self._out.flush()

    def digest(self) -> str:
        return self._hash.hexdigest()
