"""The simulated acquirer as tests handle it: a process to start, kill, restart and ask for its book."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ACQUIRER_ID = "600001"


@dataclass
class AcquirerProcess:
    """``home`` outlives the process: it holds the book and the settlement files."""

    home: Path
    options: tuple[str, ...] = ()
    port: int = 0
    control_port: int = 0
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Listens on the same ports again after a restart."""
        command = [sys.executable, "-m", "banks.simulators.acquirer"]
        command += ["--port", str(self.port), "--control-port", str(self.control_port)]
        command += ["--book", str(self.book_directory), "--settlement-dir", str(self.files)]
        self._process = subprocess.Popen([*command, *self.options], stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the acquirer ended with {self._process.wait()}"
        ready = json.loads(line)
        self.port, self.control_port = ready["port"], ready["control_port"]

    def kill(self) -> None:
        """SIGKILL, as the kernel or a power cut would."""
        assert self._process is not None
        self._process.kill()
        self._reap()

    def stop(self) -> int:
        assert self._process is not None
        if self._process.poll() is None:
            self._process.terminate()
        return self._reap()

    def _reap(self) -> int:
        assert self._process is not None
        assert self._process.stdout is not None
        code = self._process.wait(10)
        self._process.stdout.close()
        return code

    @property
    def book_directory(self) -> Path:
        return self.home / "book"

    @property
    def files(self) -> Path:
        return self.home / "files"

    def get(self, path: str) -> Any:
        return self._ask(path, None)

    def post(self, path: str, value: object = None) -> Any:
        return self._ask(path, json.dumps(value).encode())

    def entries(self, **facts: object) -> list[dict[str, Any]]:
        """Of the book, those with these facts."""
        entries = self.get("/book")["entries"]
        return [e for e in entries if all(e[name] == value for name, value in facts.items())]

    def _ask(self, path: str, data: bytes | None) -> Any:
        url = f"http://127.0.0.1:{self.control_port}{path}"
        with urllib.request.urlopen(urllib.request.Request(url, data), timeout=10) as answer:
            return json.loads(answer.read())
