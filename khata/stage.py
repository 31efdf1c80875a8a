"""Everything of one machine at once: simulator, API, worker beside a database. ``khata up`` and the demo use it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import aiohttp
import orjson

from khata.config import Settings
from khata.errors import KhataError
from khata.supervisor import Program, Supervisor, free_port, listens


@dataclass(unsafe_hash=True)
class AlreadyRunning(KhataError):
    """Two of them would share ports, files and the simulator's book."""

    code: ClassVar[str] = "already_running"
    home: Path

    def __str__(self) -> str:
        return (
            f"`khata up` or `khata demo` is running in {self.home} already; stop it first (or set KHATA_HOME)"
        )


@dataclass(frozen=True)
class Stage:
    """A running system: ``settings`` are those its processes were started with."""

    settings: Settings
    supervisor: Supervisor

    @property
    def api(self) -> str:
        return self.settings.public_url or f"http://127.0.0.1:{self.settings.api_port}"

    @property
    def acquirer(self) -> str:
        """The simulator's control port."""
        return f"http://127.0.0.1:{self.settings.acquirer_control_port}"


@contextmanager
def alone(home: Path) -> Generator[None]:
    """Only one stage in a home. Raises ``AlreadyRunning``."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "stage.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(home) from None
        yield


def placed(settings: Settings, **changes: object) -> Settings:
    """``settings`` with ports that are free here, and what the caller changes."""
    found = {
        "api_port": free_port(settings.api_port),
        "acquirer_port": free_port(settings.acquirer_port),
        "acquirer_control_port": free_port(settings.acquirer_control_port),
        "home": settings.home.absolute(),
    }
    return settings.model_copy(update=found | changes)


@asynccontextmanager
async def run_stage(settings: Settings, *, late_ms: int = 20_000) -> AsyncGenerator[Stage]:
    """Start simulator, API and worker (the database is there already); stop them at the end of the block."""
    async with Supervisor(settings.home, environment(settings)) as supervisor:
        stage = Stage(settings, supervisor)
        await supervisor.start(_acquirer(settings, late_ms))
        await supervisor.start(_api(stage))
        await supervisor.start(Program("worker", ("khata", "worker"), _at_once))
        yield stage


def environment(settings: Settings) -> Mapping[str, str]:
    """The settings as the environment of a process that reads them again."""
    given = settings.model_dump(mode="json", exclude_none=True)
    return {f"KHATA_{name.upper()}": _text(value) for name, value in given.items()}


def _text(value: object) -> str:
    return orjson.dumps(value).decode() if isinstance(value, list | tuple) else str(value)


def _acquirer(settings: Settings, late_ms: int) -> Program:
    book = settings.home / "meridian"
    arguments = {
        "--port": settings.acquirer_port,
        "--control-port": settings.acquirer_control_port,
        "--book": book,
        "--settlement-dir": book / "settlement",
        "--late-ms": late_ms,
    }
    flat = tuple(str(part) for pair in arguments.items() for part in pair)
    return Program(
        "acquirer", ("banks.simulators.acquirer", *flat), lambda: listens(settings.acquirer_control_port)
    )


def _api(stage: Stage) -> Program:
    async def ready() -> bool:
        try:
            async with aiohttp.ClientSession() as http, http.get(f"{stage.api}/health/ready") as answer:
                return answer.status == 200
        except (aiohttp.ClientError, OSError):
            return False

    return Program("api", ("khata", "serve"), ready)


async def _at_once() -> bool:
    return True


def write_private(path: Path, content: bytes) -> None:
    """A file that only we may read, whole or not at all."""
    aside = path.with_name(f".{path.name}.new")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    aside.replace(path)
