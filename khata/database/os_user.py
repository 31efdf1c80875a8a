"""The operating-system user that runs the server: ourselves, or an unprivileged one when we are root.

PostgreSQL refuses to run as root and looks its user up in passwd, so a bare user id is not enough.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from khata.database.errors import DataDirectoryForeign, UserUnavailable

CANDIDATES = ("postgres", "nobody")


class RunAs(TypedDict, total=False):
    """Keyword arguments of ``subprocess`` that change to the user; empty when we are that user already."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True)
class OsUser:
    name: str
    uid: int
    gid: int

    def run_as(self) -> RunAs:
        if os.geteuid() == self.uid:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def can_enter(self, directory: Path) -> bool:
        """Really tries: mode bits alone do not tell (ACLs, mount options)."""
        done = subprocess.run(
            ["/bin/sh", "-c", 'cd -- "$0"', str(directory)],
            cwd="/",
            check=False,
            capture_output=True,
            **self.run_as(),
        )
        return done.returncode == 0

    def give(self, path: Path) -> None:
        """Make the user the owner of ``path`` (a no-op unless we are root)."""
        if os.geteuid() != self.uid:
            os.chown(path, self.uid, self.gid)


def choose_user(data: Path) -> OsUser:
    """The owner of an existing data directory, else ourselves, else the first unprivileged candidate.

    Raises ``UserUnavailable`` or ``DataDirectoryForeign``.
    """
    if os.geteuid() != 0:
        if data.exists() and data.stat().st_uid != os.geteuid():
            raise DataDirectoryForeign(data, data.stat().st_uid)
        return _by_uid(os.geteuid())
    if data.exists():
        # The candidates may have changed since (installing Debian's server adds `postgres`); the owner stays.
        if data.stat().st_uid == 0:
            raise DataDirectoryForeign(data, 0)
        return _by_uid(data.stat().st_uid)
    for name in CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return OsUser(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise UserUnavailable(f"none of {', '.join(CANDIDATES)} has a passwd entry")


def _by_uid(uid: int) -> OsUser:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        raise UserUnavailable(f"user id {uid} has no passwd entry") from None
    return OsUser(entry.pw_name, entry.pw_uid, entry.pw_gid)
