"""A pack that is being read: a zip or a directory, its files line by line."""

from __future__ import annotations

import zipfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

import orjson

from ledger.log.leaves import Run

FILES = {"account": "accounts.jsonl", "act": "acts.jsonl", "journal": "journal.jsonl"}


class Pack(Protocol):
    """``open``: a file of it, by name."""

    def open(self, name: str) -> IO[bytes]: ...


class _Directory:
    def __init__(self, root: Path) -> None:
        self._root = root

    def open(self, name: str) -> IO[bytes]:
        return (self._root / name).open("rb")


@contextmanager
def opened(path: Path) -> Generator[Pack]:
    """The pack at ``path``, which the verifier has found in order."""
    if path.is_dir():
        yield _Directory(path)
    else:
        with zipfile.ZipFile(path) as archive:
            yield archive


def manifest(pack: Pack) -> dict[str, Any]:
    with pack.open("manifest.json") as file:
        return orjson.loads(file.read())


def lines(pack: Pack, name: str) -> Iterator[bytes]:
    """Without their newlines."""
    with pack.open(name) as file:
        for line in file:
            yield line[:-1]


def runs(pack: Pack) -> Iterator[Run]:
    for line in lines(pack, "log/runs.jsonl"):
        run = orjson.loads(line)
        yield Run(run["first_index"], run["source"], run["first_number"], run["count"])
