"""What a witness must never lose: its key, and the last checkpoint it signed of each log.

``DIR/key.json`` is written once, ``DIR/logs.json`` anew with each checkpoint: synced and renamed before the answer
goes out.
"""

from __future__ import annotations

import base64
import fcntl
import json
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from khata.secret_file import replace_file
from khata.witness.errors import WitnessKeyUnusable, WitnessMemoryLost, WitnessRunning
from ledger.log.note import NoteMalformed, Type, Verifier, cosigned, signature_line


@dataclass(frozen=True, slots=True)
class Cosigner:
    """The witness's own key (c2sp.org/tlog-cosignature, Ed25519)."""

    name: str
    private: Ed25519PrivateKey

    @property
    def verifier(self) -> Verifier:
        return Verifier(self.name, self.private.public_key().public_bytes_raw(), Type.COSIGNATURE)

    def line(self, text: str, at: int) -> str:
        """Its signature line for a checkpoint's text, made ``at`` (seconds since 1970)."""
        signature = at.to_bytes(8) + self.private.sign(cosigned(text, at))
        return signature_line(self.name, self.verifier.key_id, signature)


@dataclass(frozen=True, slots=True)
class Seen:
    """The last tree signed of a log. ``root``: hexadecimal; ``note``: its checkpoint, the log's signatures and ours."""

    size: int
    root: str
    note: str


class Memory:
    """The last checkpoint signed of each log, by origin. ``remember`` returns when it is durable."""

    def __init__(self, path: Path, seen: dict[str, Seen]) -> None:
        self._path = path
        self._seen = seen

    def last(self, origin: str) -> Seen | None:
        return self._seen.get(origin)

    def remember(self, origin: str, seen: Seen) -> None:
        """Raises ``OSError``; then nothing is remembered, and nothing may be answered."""
        new = self._seen | {origin: seen}
        replace_file(self._path, json.dumps({name: asdict(of) for name, of in new.items()}, indent=1) + "\n")
        self._seen = new


@contextmanager
def opened(
    folder: Path, name: str | None, random: Callable[[int], bytes]
) -> Generator[tuple[Cosigner, Memory]]:
    """The key and the memory in ``folder``, this process's alone until the block ends; made if both are missing.

    ``name``: of a new witness, a URL without its scheme. Raises ``WitnessError``.
    """
    if not (folder / "key.json").exists():
        _judge_name(folder / "key.json", name)  # before anything is made
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / "lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise WitnessRunning(folder) from None
        key, logs = folder / "key.json", folder / "logs.json"
        if not key.exists():
            _make(key, logs, name, random)
        yield key_in(folder, name), Memory(logs, _read_seen(logs))


def key_in(folder: Path, name: str | None) -> Cosigner:
    """The key of the witness in ``folder``, only read: its process may be running. Raises ``WitnessKeyUnusable``."""
    key = folder / "key.json"
    if not key.exists():
        raise WitnessKeyUnusable(key, "there is none yet; start the witness with a name")
    cosigner = _read_key(key)
    if name not in (None, cosigner.name):
        raise WitnessKeyUnusable(key, f"it is the key of {cosigner.name}")
    return cosigner


def _judge_name(key: Path, name: str | None) -> str:
    if name is None:
        raise WitnessKeyUnusable(key, "there is none yet; give the new witness a name")
    try:
        Verifier(name, bytes(32))
    except NoteMalformed as error:
        raise WitnessKeyUnusable(key, str(error)) from None
    return name


def _make(key: Path, logs: Path, name: str | None, random: Callable[[int], bytes]) -> None:
    name = _judge_name(key, name)
    if not logs.exists():
        replace_file(logs, "{}\n")
    private = base64.b64encode(random(32)).decode()
    replace_file(key, json.dumps({"name": name, "private": private}) + "\n")


def _read_key(path: Path) -> Cosigner:
    if path.stat().st_mode & 0o077:
        raise WitnessKeyUnusable(path, "others may read it; its mode must be 0600")
    try:
        kept = json.loads(path.read_text())
        private = Ed25519PrivateKey.from_private_bytes(base64.b64decode(kept["private"], validate=True))
        cosigner = Cosigner(str(kept["name"]), private)
        Verifier(cosigner.name, bytes(32))  # judges the name
    except (ValueError, KeyError, TypeError, NoteMalformed):
        raise WitnessKeyUnusable(path, "it is not what this program writes") from None
    return cosigner


def _read_seen(path: Path) -> dict[str, Seen]:
    try:
        kept: dict[str, Any] = json.loads(path.read_text())
        return {
            origin: Seen(int(of["size"]), bytes.fromhex(of["root"]).hex(), str(of["note"]))
            for origin, of in kept.items()
        }
    except FileNotFoundError:
        raise WitnessMemoryLost(path, "it is gone") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise WitnessMemoryLost(path, "it is not what this program writes") from None
