"""Why the embedded database could not be started: facts as attributes, one stable ``code`` each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from khata.errors import KhataError


class DatabaseError(KhataError):
    """Anything that keeps the embedded PostgreSQL from serving."""

    code: ClassVar[str] = "database_error"


@dataclass(unsafe_hash=True)
class PlatformUnsupported(DatabaseError):
    """No embedded binaries for this machine, or binaries that this machine cannot execute."""

    code: ClassVar[str] = "platform_unsupported"
    platform: str
    reason: str

    def __str__(self) -> str:
        return (
            f"no embedded PostgreSQL for {self.platform}: {self.reason}; "
            "point KHATA_DATABASE_URL at a PostgreSQL 15 or later, or KHATA_PG_BIN at its bin directory"
        )


@dataclass(unsafe_hash=True)
class BinariesUnreachable(DatabaseError):
    """The operating-system user that runs the server may not execute these binaries."""

    code: ClassVar[str] = "binaries_unreachable"
    directory: Path
    user: str

    def __str__(self) -> str:
        return f"user {self.user} cannot run the PostgreSQL binaries in {self.directory}"


@dataclass(unsafe_hash=True)
class UserUnavailable(DatabaseError):
    """PostgreSQL needs an unprivileged user with a passwd entry."""

    code: ClassVar[str] = "user_unavailable"
    reason: str

    def __str__(self) -> str:
        return f"no operating-system user can run PostgreSQL: {self.reason}"


@dataclass(unsafe_hash=True)
class PlaceUnavailable(DatabaseError):
    """No directory that the server's user can enter and that nobody else has taken."""

    code: ClassVar[str] = "place_unavailable"
    directory: Path
    reason: str

    def __str__(self) -> str:
        return f"cannot keep the database in {self.directory}: {self.reason}"


@dataclass(unsafe_hash=True)
class DataDirectoryForeign(DatabaseError):
    """The data directory belongs to another operating-system user."""

    code: ClassVar[str] = "data_directory_foreign"
    directory: Path
    owner_uid: int

    def __str__(self) -> str:
        return f"{self.directory} belongs to user id {self.owner_uid}; start Khata as that user (or as root)"


@dataclass(unsafe_hash=True)
class MajorVersionMismatch(DatabaseError):
    """The data directory was made by another major version of PostgreSQL."""

    code: ClassVar[str] = "major_version_mismatch"
    directory: Path
    data_major: str
    binaries_major: str

    def __str__(self) -> str:
        return (
            f"{self.directory} was made by PostgreSQL {self.data_major}, the binaries are "
            f"{self.binaries_major}; migrate it with pg_upgrade or dump and restore, or move it away"
        )


@dataclass(unsafe_hash=True)
class DiskFull(DatabaseError):
    code: ClassVar[str] = "disk_full"
    directory: Path
    free_bytes: int

    def __str__(self) -> str:
        return f"no space for the database in {self.directory} ({self.free_bytes} bytes free)"


@dataclass(unsafe_hash=True)
class PortTaken(DatabaseError):
    code: ClassVar[str] = "port_taken"
    port: int

    def __str__(self) -> str:
        return f"port {self.port} on 127.0.0.1 is taken by another program"


@dataclass(unsafe_hash=True)
class ServerNotReady(DatabaseError):
    """The server did not become ready, or another khata process holds it and never got ready."""

    code: ClassVar[str] = "server_not_ready"
    directory: Path
    waited_s: float

    def __str__(self) -> str:
        return f"the server of {self.directory} was not ready after {self.waited_s:.0f} s"


@dataclass(unsafe_hash=True)
class ServerFailed(DatabaseError):
    """initdb or postgres ended by itself; ``log`` is the tail of what it said."""

    code: ClassVar[str] = "server_failed"
    program: str
    exit_status: int
    log: str

    def __str__(self) -> str:
        return f"{self.program} ended with status {self.exit_status}:\n{self.log}"
