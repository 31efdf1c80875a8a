"""Virtual environments of other systems, made on first use under ``<home>/bench-venvs`` and kept."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from khata.config import Settings


class EnvironmentFailed(Exception):
    """``said``: the end of what pip said."""

    def __init__(self, name: str, said: str) -> None:
        super().__init__(f"no environment for {name}: {said}")


def environment(name: str, requirements: Sequence[str]) -> Path:
    """The Python of an environment with just these packages. Raises ``EnvironmentFailed``."""
    root = Settings().home.absolute() / "bench-venvs" / name
    python, stamp = root / "bin" / "python", root / "requirements.txt"
    wanted = "\n".join(requirements)
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    shutil.rmtree(root, ignore_errors=True)
    _run(name, sys.executable, "-m", "venv", str(root))
    _run(name, str(python), "-m", "pip", "--disable-pip-version-check", "--quiet", "install", *requirements)
    stamp.write_text(wanted)  # last: an interrupted installation is made anew
    return python


def _run(name: str, *command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EnvironmentFailed(name, done.stderr[-500:].strip())
