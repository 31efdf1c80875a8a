"""Marked points kill exactly where and when they are told to."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from ledger import points

PROGRAM = """
from ledger.points import reach
for n in range(1, 4):
    reach("a")
    reach("b")
    print(n, flush=True)
"""


@pytest.mark.parametrize(
    ("armed", "said", "status"),
    [
        ({}, "1 2 3", 0),
        ({"KHATA_CRASH_AT": "elsewhere"}, "1 2 3", 0),
        ({"KHATA_CRASH_AT": "b"}, "", -signal.SIGKILL),
        ({"KHATA_CRASH_AT": "b:3"}, "1 2", -signal.SIGKILL),
        ({"KHATA_CRASH_AT": "b:4"}, "1 2 3", 0),
    ],
)
def test_a_process_dies_at_its_point_and_nowhere_else(armed: dict[str, str], said: str, status: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=armed, capture_output=True, text=True, check=False
    )
    assert (done.stdout.split(), done.returncode) == (said.split(), status), done.stderr


def test_points_have_names_of_their_own() -> None:
    names = [value for name, value in vars(points).items() if name.isupper() and name != "VARIABLE"]
    assert len(set(names)) == len(names) == 6
