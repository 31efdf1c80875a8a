"""The one root of what the wiring itself raises, and what the operating system or the server refuses to any command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar


class KhataError(Exception):
    """Root of every error of this package. ``code`` never changes once published."""

    code: ClassVar[str] = "khata_error"


@dataclass(unsafe_hash=True)
class CannotWrite(KhataError):
    """Nothing can be put where somebody asked for it. ``path``: as it was given."""

    code: ClassVar[str] = "cannot_write"
    path: Path
    reason: str

    def __str__(self) -> str:
        return f"cannot write {self.path}: {self.reason}"


@dataclass(unsafe_hash=True)
class DatabaseUnavailable(KhataError):
    """There is no server where one should be, or it lets nobody in. ``reason``: what the driver says."""

    code: ClassVar[str] = "database_unavailable"
    reason: str

    def __str__(self) -> str:
        return (
            f"the database cannot be reached: {self.reason}; see whether its server is up, and whether host, port, "
            "user and password in KHATA_DATABASE_URL are right (without it, Khata starts a server of its own)"
        )


@dataclass(unsafe_hash=True)
class ValueRefused(KhataError):
    """The database refused a number, a day or a name that no column of it holds."""

    code: ClassVar[str] = "database_refused"
    sqlstate: str | None
    reason: str

    def __str__(self) -> str:
        return f"{self.sqlstate}: {self.reason}" if self.sqlstate else self.reason


@dataclass(unsafe_hash=True)
class SystemRefused(KhataError):
    """The operating system refused something: a file, a port, a program."""

    code: ClassVar[str] = "system_refused"
    reason: str

    def __str__(self) -> str:
        return self.reason


@dataclass(unsafe_hash=True)
class CommandFailed(KhataError):
    """A ``khata`` command that another one ran did not end well. ``said``: what it wrote to its error stream."""

    code: ClassVar[str] = "command_failed"
    command: str
    said: str

    def __str__(self) -> str:
        return f"khata {self.command}: {self.said}"
