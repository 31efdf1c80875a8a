"""A PostgreSQL that can be switched off: every one of its processes dies at once, by SIGKILL.

``Namespace`` runs it in a PID namespace of its own and kills the namespace's first process, with which the kernel
kills all others: none can be forgotten, and none can hold up the next start. ``Tree`` is for machines that allow no
namespaces: the postmaster is held still while its children are killed one after the other.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Protocol

from khata.database import EmbeddedServer
from khata.process import die_with_parent
from tests.crash.keeper import server_of

_UNSHARE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
UNSHARE = _UNSHARE if os.geteuid() == 0 else (*_UNSHARE, "--user", "--map-current-user")


class Power(Protocol):
    """One server of one home, durable. ``admin_dsn`` may change with every ``on``."""

    admin_dsn: str

    def on(self) -> None: ...

    def off(self) -> None: ...

    def end(self) -> None: ...


def refusal() -> str | None:
    """Why this machine gives us no PID namespace; None if it does."""
    try:
        done = subprocess.run([*UNSHARE, "true"], capture_output=True, text=True, check=False)
    except OSError as error:
        return str(error)
    return None if done.returncode == 0 else done.stderr.strip()


def power(home: Path) -> tuple[Power, str]:
    """The surest way of killing that this machine allows, and words that say which."""
    why = refusal()
    if why is None:
        return Namespace(home), "in its own PID namespace, killed with the namespace's first process"
    return Tree(home), f"killed process by process, for there is no PID namespace here ({why})"


class Namespace:
    def __init__(self, home: Path) -> None:
        self._home = home
        self._unshare: subprocess.Popen[str] | None = None
        self.admin_dsn = ""

    def on(self) -> None:
        command = [*UNSHARE, sys.executable, "-m", "tests.crash.keeper", str(self._home)]
        said = self._home / "keeper.log"
        with said.open("w") as errors:
            self._unshare = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                preexec_fn=die_with_parent(signal.SIGKILL),
            )
        assert self._unshare.stdout is not None
        self.admin_dsn = self._unshare.stdout.readline().strip()
        assert self.admin_dsn, said.read_text()

    def off(self) -> None:
        if self._unshare is None:
            return
        for first in children(self._unshare.pid):
            os.kill(first, signal.SIGKILL)
        with self._unshare:  # waits for it and closes its output
            pass
        self._unshare = None

    end = off


class Tree:
    def __init__(self, home: Path) -> None:
        self._server: EmbeddedServer = server_of(home)
        self.admin_dsn = ""

    def on(self) -> None:
        self._server.start()
        self.admin_dsn = self._server.admin_dsn

    def off(self) -> None:
        postmaster = self._server.pid
        if postmaster is None:
            return
        os.kill(postmaster, signal.SIGSTOP)
        for pid in [*children(postmaster), postmaster]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._server.wait()

    def end(self) -> None:
        self._server.stop()


def children(parent: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
