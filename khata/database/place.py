"""Where one home's database lives: ``HOME/postgres``, or elsewhere when the server's user cannot go there.

A checkout under root's home is closed to the unprivileged user. Modes of directories that are not ours are
never changed; the database moves to where that user can go, and the home remembers the place.

    place/data                  the data directory (owned by the server's user)
    place/run                   the unix socket
    place/superuser-password    0600
    place/server.json           port and socket directory of the last start
    place/server.log            what the server said
    place/lock                  held by the process whose child the server is
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from khata.database.errors import PlaceUnavailable
from khata.database.os_user import OsUser, choose_user

log = logging.getLogger(__name__)

LONGEST_SOCKET_PATH = 107 - len("/.s.PGSQL.65535")


@dataclass(frozen=True)
class Place:
    root: Path
    user: OsUser

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def password(self) -> Path:
        return self.root / "superuser-password"

    @property
    def log(self) -> Path:
        return self.root / "server.log"

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    def last_port(self) -> int | None:
        try:
            port = json.loads((self.root / "server.json").read_text())["port"]
        except (FileNotFoundError, ValueError, KeyError):
            return None
        return port if isinstance(port, int) else None

    def remember_port(self, port: int) -> None:
        """Atomic: a process that waits for this server reads it while we write."""
        fresh = self.root / "server.json.new"
        fresh.write_text(json.dumps({"port": port}))
        fresh.replace(self.root / "server.json")

    def socket_directory(self) -> Path:
        """A directory of the server's user whose socket paths fit the kernel's 107 bytes."""
        directory = self.root / "run"
        if len(os.fsencode(directory)) > LONGEST_SOCKET_PATH:
            directory = Path(tempfile.gettempdir()) / f"khata-{_digest(self.root)}"
        directory.mkdir(mode=0o700, exist_ok=True)
        status = directory.lstat()
        if status.st_uid not in (os.geteuid(), self.user.uid) or directory.is_symlink():
            raise PlaceUnavailable(directory, "somebody else owns it")
        self.user.give(directory)
        return directory


def find_place(home: Path) -> Place:
    """The place of ``home``'s database, made if need be.

    Raises ``PlaceUnavailable``, ``UserUnavailable`` or ``DataDirectoryForeign``.
    """
    home = home.absolute()
    home.mkdir(parents=True, exist_ok=True)
    note = home / "postgres-place"
    root = Path(note.read_text().strip()) if note.exists() else home / "postgres"
    user = choose_user(root / "data")
    if root.exists() and user.can_enter(root):
        return Place(root, user)
    if not note.exists() and user.can_enter(home):
        root.mkdir(exist_ok=True)
        root.chmod(0o755)  # ours; a tight umask may have closed it
        if user.can_enter(root):
            return Place(root, user)
    if (root / "data").exists():
        raise PlaceUnavailable(root, f"user {user.name}, who owns the data, can no longer enter it")
    root = _elsewhere(home, user)
    note.write_text(f"{root}\n")
    log.info("user %s cannot enter %s; the database is kept in %s", user.name, home, root)
    return Place(root, user)


def _elsewhere(home: Path, user: OsUser) -> Path:
    name = f"khata-{_digest(home)}"
    reason = "no directory that the server's user can enter"
    for parent in (Path("/var/lib"), Path(tempfile.gettempdir())):
        root = parent / name
        try:
            root.mkdir(mode=0o755, exist_ok=True)
        except OSError as error:
            reason = str(error)
            continue
        # A directory that stood there already may be somebody's trap in a world-writable parent.
        if root.is_symlink() or root.lstat().st_uid != os.geteuid():
            reason = f"{root} belongs to somebody else"
            continue
        root.chmod(0o755)  # ours; a tight umask may have closed it
        if user.can_enter(root):
            return root
    raise PlaceUnavailable(home, reason)


def _digest(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
