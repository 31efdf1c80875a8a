"""``khata up`` and ``khata demo`` as a newcomer runs them: real processes, real sockets, a home of their own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from khata.database import EmbeddedServer
from tests.server import FAST, temporary_home

DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")
UP_S, STORY_S, STOP_S = 120, 280, 40


def run_demo(home: Path, **environment: str) -> str:
    given = {**os.environ, "KHATA_HOME": str(home), **environment}
    command = [sys.executable, "-m", "khata", "demo"]
    done = subprocess.run(command, env=given, capture_output=True, text=True, timeout=STORY_S)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    return done.stdout


@pytest.mark.timeout(STORY_S + 60)
@pytest.mark.skipif(
    not DEBIAN_15.exists(), reason="apt-get install postgresql: the story on PostgreSQL 15 by URL"
)
def test_the_story_ends_well_on_a_postgresql_15_given_by_url() -> None:
    with temporary_home() as elsewhere, temporary_home() as home:
        with EmbeddedServer(elsewhere, binaries=DEBIAN_15, settings=FAST) as server:
            told = run_demo(home, KHATA_DATABASE_URL=server.admin_dsn)
        assert not (home / "postgres").exists()
    assert "210 payments over HTTP" in told
    for judge in ("hledger", "ledger", "beancount", "the bank's own book"):
        assert re.search(rf"✓ {judge}.* agree", told), told[-5000:]
    assert "The books are right." in told


@pytest.mark.timeout(UP_S + STOP_S + 60)
def test_up_prints_commands_that_work_as_printed_and_stops_cleanly_on_ctrl_c() -> None:
    with temporary_home() as home:
        environment = {**os.environ, "KHATA_HOME": str(home), "KHATA_API_PORT": "0"}
        environment |= {"KHATA_ACQUIRER_PORT": "0", "KHATA_ACQUIRER_CONTROL_PORT": "0"}
        log = home / "up.txt"
        with log.open("w") as output:
            up = subprocess.Popen(
                [sys.executable, "-m", "khata", "up"], env=environment, stdout=output, stderr=output
            )
        try:
            wait_for(log, "Ctrl-C stops everything", up)
            answers = [
                run_as_printed(line) for line in log.read_text().splitlines() if line.startswith("curl ")
            ]
            assert [a.get("status") for a in answers] == ["succeeded", None, None]
            assert answers[1]["data"][0]["currency"] == "INR"
            assert answers[2]["data"][0]["kind"] == "capture"
        finally:
            up.send_signal(signal.SIGINT)
            status = up.wait(STOP_S)
        assert status == 0, log.read_text()
        assert "stopped" in log.read_text()
        assert not (home / "postgres" / "data" / "postmaster.pid").exists()


def wait_for(log: Path, text: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + UP_S
    while text not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)


def run_as_printed(line: str) -> dict[str, object]:
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=30, check=True)
    return json.loads(done.stdout)
