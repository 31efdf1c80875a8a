"""Runs Khata's processes beside each other: starts them in order, restarts one that dies, stops them in reverse.

Each process is a session of its own, so that Ctrl-C in the terminal reaches the supervisor alone, and dies with it
should it be killed. What they print goes to ``<home>/log/<name>.log``.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import structlog

from khata.errors import KhataError
from khata.process import die_with_parent

log = structlog.get_logger()

STOP_TIMEOUT_S = 20.0
READY_TIMEOUT_S = 60.0
RESTART_AFTER_S = 0.5
LOG_TAIL_LINES = 20


@dataclass(unsafe_hash=True)
class NotReady(KhataError):
    """A process did not come up; ``said`` is the end of its log."""

    code: ClassVar[str] = "process_not_ready"
    name: str
    said: str

    def __str__(self) -> str:
        return f"{self.name} did not come up; it said:\n{self.said}"


@dataclass(frozen=True)
class Program:
    """A process to run. ``ready`` says whether it can be used; it is asked until it can."""

    name: str
    arguments: tuple[str, ...]
    ready: Callable[[], Awaitable[bool]]


class Supervisor:
    """``async with Supervisor(home, environment) as supervisor: await supervisor.start(program)``."""

    def __init__(self, home: Path, environment: Mapping[str, str]) -> None:
        self._logs = home / "log"
        self._environment = {**os.environ, **environment, "PYTHONUNBUFFERED": "1"}
        self._running: dict[str, tuple[Program, subprocess.Popen[bytes]]] = {}
        self._once: dict[str, Mapping[str, str]] = {}
        self._statuses: dict[str, list[int]] = {}
        self._watcher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Supervisor:
        self._logs.mkdir(parents=True, exist_ok=True)
        self._watcher = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
            with suppress(asyncio.CancelledError):
                await self._watcher
        for name in reversed(list(self._running)):
            await self.stop(name)

    async def start(self, program: Program) -> None:
        """Start it and wait until it is ready. Raises ``NotReady``."""
        self._launch(program)
        deadline = asyncio.get_running_loop().time() + READY_TIMEOUT_S
        while not await program.ready():
            _, process = self._running[program.name]
            if process.poll() is not None or asyncio.get_running_loop().time() > deadline:
                raise NotReady(program.name, self._tail(program.name))
            await asyncio.sleep(0.05)

    async def stop(self, name: str) -> None:
        """Ask it to end, wait, then insist."""
        _, process = self._running.pop(name)
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            await asyncio.to_thread(process.wait, STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            log.warning("process killed, it did not stop", name=name)

    def kill(self, name: str) -> None:
        """kill -9, as a fault would; it is restarted."""
        self._running[name][1].kill()

    def next_start(self, name: str, environment: Mapping[str, str]) -> None:
        """Add to the environment of its next start, and of no other."""
        self._once[name] = environment

    def pid(self, name: str) -> int:
        return self._running[name][1].pid

    def statuses(self, name: str) -> Sequence[int]:
        """How it has ended so far, each time: exit status, or minus the signal that killed it."""
        return self._statuses.setdefault(name, [])

    def _launch(self, program: Program) -> None:
        with (self._logs / f"{program.name}.log").open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", *program.arguments],
                env={**self._environment, **self._once.pop(program.name, {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGKILL),
            )
        self._running[program.name] = (program, process)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(RESTART_AFTER_S)
            for name, (program, process) in list(self._running.items()):
                if process.poll() is not None:
                    self._statuses.setdefault(name, []).append(process.returncode)
                    log.warning("process died, starting it again", name=name, status=process.returncode)
                    self._launch(program)

    def _tail(self, name: str) -> str:
        lines = (self._logs / f"{name}.log").read_text(errors="replace").splitlines()
        return "\n".join(lines[-LOG_TAIL_LINES:])


def free_port(preferred: int = 0) -> int:
    """``preferred`` if nobody listens there, else any free port of this machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", preferred))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def listens(port: int) -> bool:
    """Whether somebody accepts connections there."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
