"""docs/recipes.md does what it says: every command runs, in order, and prints the lines shown below it."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server import Server, drop_database

RECIPES = Path(__file__).parents[2] / "docs" / "recipes.md"


def recipes() -> Iterator[tuple[str, list[str]]]:
    """Each command with the lines it must print."""
    for block in re.findall(r"```console\n(.*?)```", RECIPES.read_text(), re.DOTALL):
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *lines = step.splitlines()
            yield command, lines


@pytest.mark.skipif(shutil.which("hledger") is None, reason="apt-get install hledger")
def test_every_recipe_prints_what_it_shows(server: Server, tmp_path: Path) -> None:
    name = f"khata_recipes_{secrets.token_hex(4)}"
    environment = {
        **os.environ,
        "KHATA_DATABASE_URL": server.admin_dsn,
        "KHATA_DATABASE_NAME": name,
        "KHATA_HOME": server.home,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    try:
        for command, lines in recipes():
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", command],
                env=environment,
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=60,
            )
            assert done.returncode == 0, command + "\n" + done.stdout + done.stderr
            for line in lines:
                assert line in done.stdout, command + "\n" + done.stdout + done.stderr
    finally:
        for made in (name, f"{name}_elsewhere"):
            drop_database(server.admin_dsn, made)
