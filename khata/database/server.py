"""The embedded PostgreSQL: one direct child of ours, waited for, stopped cleanly, recovered after a kill.

``with EmbeddedServer(home) as server: connect(server.admin_dsn)``. Start it on the main thread: the kernel
ties the child's death signal to the thread that made it.
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from khata.database.binaries import Binaries, usable_binaries
from khata.database.cluster import (
    LOG_TAIL_BYTES,
    SUPERUSER,
    clear_leftovers,
    disk_full,
    ensure_cluster,
    environment,
    failure,
)
from khata.database.dsn import make_dsn
from khata.database.errors import PortTaken, ServerNotReady
from khata.database.place import Place, find_place
from khata.process import die_with_parent

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
PORT_TRIES = 5
LOG_LIMIT_BYTES = 16 * 1024 * 1024

MIB = 1024 * 1024


def _buffers() -> dict[str, str]:
    """An eighth of the machine's memory for pages, between 128 MiB and 2 GiB (taken as it is used), and room for the
    write-ahead log of a large batch: where that is full, each writer waits for the disk."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // MIB
    pages = min(max(memory // 8, 128), 2048)
    return {
        "shared_buffers": f"{pages}MB",
        "wal_buffers": f"{pages // 16}MB",
        "max_wal_size": f"{max(2 * pages, 1024)}MB",
    }


# Durable by default: fsync, full_page_writes and synchronous_commit keep PostgreSQL's own defaults (on).
SETTINGS: Mapping[str, str] = {
    "listen_addresses": HOST,
    "max_connections": "200",
    **_buffers(),
    "password_encryption": "scram-sha-256",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "lc_messages": "C",
}


class EmbeddedServer:
    """PostgreSQL for one home directory.

    ``binaries``: a bin directory (default: the wheel's). ``port``: exactly this one (default: the last one if
    it is free, else any). ``settings`` are added to ``SETTINGS``. If another khata process runs this home's
    server, ``start`` joins it and ``stop`` leaves it running (``joined``).
    """

    def __init__(
        self,
        home: Path,
        *,
        binaries: Path | None = None,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
        start_timeout_s: float = 120.0,
    ) -> None:
        self._home = home
        self._bin_directory = binaries
        self._wanted_port = port
        self._settings = {**SETTINGS, **(settings or {})}
        self._start_timeout_s = start_timeout_s
        self._child: subprocess.Popen[bytes] | None = None
        self._lock: IO[bytes] | None = None
        self._place: Place | None = None
        self._password = ""
        self._port = 0

    @property
    def admin_dsn(self) -> str:
        """The superuser's libpq URL, database ``postgres``."""
        return make_dsn(HOST, self.port, SUPERUSER, self._password, "postgres")

    @property
    def port(self) -> int:
        """The port in use; 0 before ``start``."""
        return self._port

    @property
    def pid(self) -> int | None:
        """The postmaster's process id; None when not started or when joined."""
        return self._child.pid if self._child else None

    @property
    def joined(self) -> bool:
        """Another process owns the server."""
        return self._port != 0 and self._child is None

    @property
    def place(self) -> Place:
        """Where data, log and socket are (known after ``start``)."""
        if self._place is None:
            self._place = find_place(self._home)
        return self._place

    def start(self) -> None:
        """Returns when the server accepts connections. After a ``DatabaseError`` nothing is left running."""
        if self._child is not None and self._child.poll() is None:
            return
        place = self.place
        if not self._own_or_join(place):
            return
        try:
            binaries = usable_binaries(self._bin_directory, place.user, place.root)
            self._password = ensure_cluster(place, binaries)
            clear_leftovers(place)
            self._launch(place, binaries)
            place.remember_port(self._port)
        except BaseException as error:
            self.stop()
            if isinstance(error, OSError) and (full := disk_full(error, place.root)):
                raise full from error
            raise

    def stop(self, *, patience_s: float = 60.0) -> None:
        """Fast shutdown, then wait for it. Harmless when nothing runs; leaves a joined server alone."""
        child, self._child, self._port = self._child, None, 0
        if child is not None:
            for sent in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
                child.send_signal(sent)  # a no-op once it has ended
                try:
                    child.wait(patience_s)
                    break
                except subprocess.TimeoutExpired:
                    log.warning("the database did not stop on %s", sent.name)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def wait(self, timeout_s: float | None = None) -> int | None:
        """The server's exit status once it has ended; None while it runs (or when it is not our child)."""
        if self._child is None:
            return None
        try:
            return self._child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _take_lock(self, place: Place) -> bool:
        if self._lock is not None:  # ours already: the child died and is started again
            return True
        lock = place.lock.open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return False
        self._lock = lock
        return True

    def _own_or_join(self, place: Place) -> bool:
        """True when the server is ours to run; False once another process's server is ready and joined.

        That process may end while we wait for it; then the lock becomes ours.
        """
        deadline = time.monotonic() + self._start_timeout_s
        while time.monotonic() < deadline:
            if self._take_lock(place):
                return True
            port = _ready_port(place)
            if port is not None:
                self._password = place.password.read_text().strip()
                self._port = port
                log.info("another khata process runs this database already, on port %d", port)
                return False
            time.sleep(0.05)
        raise ServerNotReady(place.root, self._start_timeout_s)

    def _launch(self, place: Place, binaries: Binaries) -> None:
        """A port that was free a moment ago may be taken when the server binds it; then another is tried."""
        tries = 1 if self._wanted_port else PORT_TRIES
        for left in reversed(range(tries)):
            port = self._wanted_port or _choose_port(place.last_port())
            if not _is_free(port):
                raise PortTaken(port)
            try:
                self._run(place, binaries, port)
            except PortTaken:
                if left == 0:
                    raise
            else:
                self._port = port
                return

    def _run(self, place: Place, binaries: Binaries, port: int) -> None:
        settings = {
            **self._settings,
            "port": str(port),
            "unix_socket_directories": str(place.socket_directory()),
        }
        command = [binaries.program("postgres"), "-D", str(place.data)]
        command += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        if place.log.exists() and place.log.stat().st_size > LOG_LIMIT_BYTES:
            place.log.replace(place.log.with_suffix(".log.1"))
        with place.log.open("ab") as output:
            start = output.tell()
            self._child = subprocess.Popen(
                command,
                cwd="/",
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Its own session: Ctrl-C in the terminal reaches us alone, and we stop it last.
                start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGINT),
                **place.user.run_as(),
            )
        self._await_ready(place, self._child, port, start)

    def _await_ready(self, place: Place, child: subprocess.Popen[bytes], port: int, log_start: int) -> None:
        deadline = time.monotonic() + self._start_timeout_s
        while time.monotonic() < deadline:
            if child.poll() is not None:
                self._child = None
                said = _tail(place.log, log_start)
                if "Address already in use" in said:
                    raise PortTaken(port)
                raise failure("postgres", child.returncode, said, place.root)
            if _postmaster(place) == (child.pid, port, "ready"):
                return
            time.sleep(0.01)
        raise ServerNotReady(place.root, self._start_timeout_s)


def _postmaster(place: Place) -> tuple[int, int, str] | None:
    """(pid, port, status) from postmaster.pid, as pg_ctl reads it; None while it is absent or unfinished."""
    try:
        lines = (place.data / "postmaster.pid").read_text().splitlines()
        return int(lines[0]), int(lines[3]), lines[7].strip()
    except (OSError, IndexError, ValueError):
        return None


def _ready_port(place: Place) -> int | None:
    found = _postmaster(place)
    if found is None or found[2] != "ready":
        return None
    try:
        with socket.create_connection((HOST, found[1]), timeout=1):
            return found[1]
    except OSError:  # the file of a server that has been killed
        return None


def _tail(path: Path, start: int) -> str:
    with path.open("rb") as file:
        file.seek(max(start, path.stat().st_size - LOG_TAIL_BYTES))
        return file.read().decode(errors="replace")


def _choose_port(last: int | None) -> int:
    if last is not None and _is_free(last):
        return last
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As PostgreSQL binds: connections of the last run in TIME_WAIT do not make a port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True
