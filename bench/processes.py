"""The near side of the workers: start one, tell it what to run, read CPU time and memory of processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.worker import Sample
from khata.process import die_with_parent

HERE = Path(__file__).parent.parent
LINE_LIMIT = 1 << 27  # bytes: an answer carries every caller's wait
STOP_S = 20.0


class WorkerDied(Exception):
    """``said``: the end of its standard error."""

    def __init__(self, module: str, said: str) -> None:
        super().__init__(f"{module} ended:\n{said}")


class Worker:
    """A process that runs ``python -m MODULE CONFIG`` and speaks the language of ``bench.worker``."""

    def __init__(self, module: str, process: asyncio.subprocess.Process, log: Any) -> None:
        self._module = module
        self._process = process
        self._log = log
        self.cases: Sequence[str] = ()

    @classmethod
    async def start(
        cls, module: str, config: Mapping[str, Any], *, python: Path = Path(sys.executable)
    ) -> Worker:
        """Returns when its cases are set up; raises ``WorkerDied``."""
        log = tempfile.TemporaryFile()  # noqa: SIM115  # closed in ``close``
        process = await asyncio.create_subprocess_exec(
            *(str(python), "-m", module, json.dumps(config)),
            cwd=HERE,
            env={**os.environ, "PYTHONPATH": str(HERE)},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            limit=LINE_LIMIT,
            preexec_fn=die_with_parent(signal.SIGTERM),
        )
        worker = cls(module, process, log)
        worker.cases = (await worker._heard())["cases"]
        return worker

    @property
    def pid(self) -> int:
        return self._process.pid

    async def run(self, case: str, seconds: float) -> Sample:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"run": case, "seconds": seconds}).encode() + b"\n")
        return Sample(**await self._heard())

    async def close(self) -> None:
        """Hang up and wait for it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), STOP_S)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        self._log.close()

    async def _heard(self) -> Any:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            await self._process.wait()
            self._log.seek(0)
            raise WorkerDied(self._module, self._log.read().decode(errors="replace")[-2000:])
        return json.loads(line)


@dataclass(frozen=True)
class ServerClock:
    """CPU time of a server: the processes ``pids``, those they started, and those of them that have ended."""

    pids: tuple[int, ...]

    def seconds(self) -> float:
        ticks, todo = 0, list(self.pids)
        children = _children()
        while todo:
            pid = todo.pop()
            ticks += _ticks(pid)
            todo += children.get(pid, [])
        return ticks / os.sysconf("SC_CLK_TCK")


def _children() -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            found.setdefault(int(fields[1]), []).append(int(entry.name))
    return found


def _ticks(pid: int) -> int:
    """User and system time, its own and that of children it has waited for."""
    fields = _stat(pid)
    return sum(map(int, fields[11:15])) if fields else 0


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the process's state on; none when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def resident_bytes(pid: int) -> int:
    """Memory of that process in RAM; 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
