"""The data directory: made by initdb, checked for its major version, freed of what a killed server left."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from khata.database.binaries import Binaries
from khata.database.errors import DatabaseError, DiskFull, MajorVersionMismatch, ServerFailed
from khata.database.place import Place

log = logging.getLogger(__name__)

SUPERUSER = "postgres"
# A new cluster is about 40 MB of files and up to 64 MB of write-ahead log.
NEEDED_BYTES = 128 * 1024 * 1024
# ENOSPC, EDQUOT, EFBIG as the C library words them (programs run with LC_ALL=C).
FULL = ("No space left on device", "Disk quota exceeded", "File too large")
# Less than a segment of the write-ahead log: the server's last words may not have fitted into its log either.
FULL_BELOW_BYTES = 16 * 1024 * 1024
LOG_TAIL_BYTES = 4000


def ensure_cluster(place: Place, binaries: Binaries) -> str:
    """Make the data directory unless it is there; returns the superuser's password.

    Data checksums on, SCRAM for local and host connections. Raises ``MajorVersionMismatch``, ``DiskFull``
    or ``ServerFailed``.
    """
    version = place.data / "PG_VERSION"
    if version.exists():
        major = version.read_text().strip()
        if major != binaries.major:
            raise MajorVersionMismatch(place.data, major, binaries.major)
    else:
        _initdb(place, binaries)
    return place.password.read_text().strip()


def _initdb(place: Place, binaries: Binaries) -> None:
    free = shutil.disk_usage(place.root).free
    if free < NEEDED_BYTES:
        raise DiskFull(place.root, free)
    # Built beside its final name: a run that was killed half-way leaves nothing that looks like a cluster.
    fresh = place.root / "data.new"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    place.user.give(fresh)
    _write_password(place)
    command = [
        binaries.program("initdb"),
        f"--pgdata={fresh}",
        f"--username={SUPERUSER}",
        f"--pwfile={place.password}",
        "--auth-local=scram-sha-256",
        "--auth-host=scram-sha-256",
        "--data-checksums",
        "--encoding=UTF8",
        "--locale=C",
    ]
    done = subprocess.run(
        command, cwd="/", env=environment(), text=True, check=False,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **place.user.run_as(),
    )  # fmt: skip
    if done.returncode != 0:
        shutil.rmtree(fresh, ignore_errors=True)
        raise failure("initdb", done.returncode, done.stdout[-LOG_TAIL_BYTES:], place.root)
    fresh.rename(place.data)


def _write_password(place: Place) -> None:
    """0600 from its first byte, owned by the server's user, who reads it in initdb."""
    place.password.unlink(missing_ok=True)
    descriptor = os.open(place.password, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(24) + "\n")
    place.user.give(place.password)


def environment() -> dict[str, str]:
    """What the server's programs get to see: nothing of ours, messages in English."""
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


def disk_full(error: OSError, directory: Path) -> DiskFull | None:
    """``error`` as ``DiskFull`` if that is what it is; a failed copy of many files has no errno."""
    free = shutil.disk_usage(directory).free
    numbers = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    found = error.errno in numbers or any(words in str(error) for words in FULL)
    return DiskFull(directory, free) if found else None


def failure(program: str, status: int, said: str, directory: Path) -> DatabaseError:
    """The typed error for a program that ended with ``status`` after saying ``said``."""
    free = shutil.disk_usage(directory).free
    if free < FULL_BELOW_BYTES or any(words in said for words in FULL):
        return DiskFull(directory, free)
    return ServerFailed(program, status, said.strip())


def clear_leftovers(place: Place, *, patience_s: float = 10.0) -> None:
    """End the server processes of a launcher that is gone, and remove a stale postmaster.pid.

    The caller holds the place's lock, so no living khata process owns them: a postmaster whose parent was
    killed (it may stop in its own time), or backends whose postmaster was (they serve nobody, and recovery
    follows anyway). Both block a start: lock file, shared memory in use.
    """
    for sent in (signal.SIGINT, signal.SIGKILL):
        orphans = set(_processes_in(place.data))
        if sent == signal.SIGINT:
            orphans &= {_recorded_postmaster(place)}
        for pid in orphans:
            log.warning("ending orphaned server process %d of %s with %s", pid, place.data, sent.name)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sent)
        deadline = time.monotonic() + patience_s
        while orphans.intersection(_processes_in(place.data)) and time.monotonic() < deadline:
            time.sleep(0.02)
    (place.data / "postmaster.pid").unlink(missing_ok=True)


def _recorded_postmaster(place: Place) -> int:
    try:
        return int((place.data / "postmaster.pid").read_text().split()[0])
    except (OSError, IndexError, ValueError):
        return 0


def _processes_in(data: Path) -> Iterator[int]:
    """Server processes work inside their data directory (Linux; elsewhere PostgreSQL's own checks remain)."""
    real = os.path.realpath(data)
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str((entry / "cwd").readlink()) == real and (entry / "comm").read_text().startswith(
                "postgres"
            ):
                yield int(entry.name)
