"""Key providers of the vault: a file of this machine, or the environment."""

from __future__ import annotations

import base64
import contextlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from gateway.errors import Invalid, KeyUnknown
from gateway.vault import KEY_BYTES

_KEY_ID = re.compile(r"[a-z0-9-]{1,40}")


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys in memory (``gateway.vault.KeyProvider``). ``by_id``: 32 bytes each, retired ones included."""

    current: str
    by_id: Mapping[str, bytes] = field(repr=False)
    fingerprint: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if self.current not in self.by_id:
            raise KeyUnknown(self.current)
        for key_id, key in self.by_id.items():
            if not _KEY_ID.fullmatch(key_id):
                raise Invalid("key_id", "1 to 40 of a-z, 0-9 and -")
            if len(key) != KEY_BYTES:
                raise Invalid("key", f"{KEY_BYTES} bytes")
        if len(self.fingerprint) != KEY_BYTES:
            raise Invalid("fingerprint", f"{KEY_BYTES} bytes")

    def key(self, key_id: str) -> bytes:
        if key_id not in self.by_id:
            raise KeyUnknown(key_id)
        return self.by_id[key_id]

    def fingerprint_key(self) -> bytes:
        return self.fingerprint


def keys_from_json(text: str | bytes) -> Keys:
    """``{"current": id, "keys": {id: base64}, "fingerprint": base64}``; raises ``Invalid``."""
    try:
        fields = orjson.loads(text)
        by_id = {key_id: base64.b64decode(key, validate=True) for key_id, key in fields["keys"].items()}
        return Keys(fields["current"], by_id, base64.b64decode(fields["fingerprint"], validate=True))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Invalid("keys", "not a set of vault keys") from None


def keys_from_environment(environment: Mapping[str, str], name: str = "KHATA_VAULT_KEYS") -> Keys | None:
    """The keys in that variable, as ``keys_from_json`` reads them; None if it is not set."""
    text = environment.get(name)
    return None if text is None else keys_from_json(text)


def keys_from_file(path: Path, random: Callable[[int], bytes]) -> Keys:
    """The keys in ``path``, made there (mode 0600) at first start. Raises ``Invalid`` and ``OSError``."""
    if not path.exists():
        _make(path, random)
    if path.stat().st_mode & 0o077:
        raise Invalid("keys", f"{path.name} may be read by others; it must have mode 0600")
    return keys_from_json(path.read_bytes())


def _make(path: Path, random: Callable[[int], bytes]) -> None:
    """Write new keys aside, then link them into place: whole or not at all, and the first of two starts wins."""
    aside = path.with_name(f".{path.name}.{random(8).hex()}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(_new_keys(random))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(aside)
    finally:
        aside.unlink()
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    """Cards may be encrypted under these keys at once: in a power cut the file must not lose its name."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _new_keys(random: Callable[[int], bytes]) -> bytes:
    def key() -> str:
        return base64.b64encode(random(KEY_BYTES)).decode()

    return orjson.dumps({"current": "k1", "keys": {"k1": key()}, "fingerprint": key()})
