"""Why a witness cannot start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from khata.errors import KhataError


class WitnessError(KhataError):
    """The witness cannot work with what it was given."""

    code: ClassVar[str] = "witness_error"


@dataclass(unsafe_hash=True)
class WitnessKeyUnusable(WitnessError):
    code: ClassVar[str] = "witness_key_unusable"
    path: Path
    why: str

    def __str__(self) -> str:
        return f"the witness's key {self.path} cannot be used: {self.why}"


@dataclass(unsafe_hash=True)
class WitnessMemoryLost(WitnessError):
    """A witness that forgot what it signed would sign a forked tree as if it saw the log for the first time."""

    code: ClassVar[str] = "witness_memory_lost"
    path: Path
    why: str

    def __str__(self) -> str:
        return f"what the witness signed stands in {self.path}, and {self.why}; put it back, or begin with a new key"


@dataclass(unsafe_hash=True)
class WitnessRunning(WitnessError):
    code: ClassVar[str] = "witness_running"
    path: Path

    def __str__(self) -> str:
        return f"another process is the witness of {self.path}"
