"""The command as a process: over a socket, from many at once, and after it was killed."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import httpx
import orjson

from ledger.log.note import Note, Verifier, sign
from tests.witness.trees import ORIGIN, key_of, proof, submission, text_of, tree

KEY = key_of(1)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


@contextmanager
def running(folder: Path) -> Generator[tuple[str, Verifier]]:
    """A witness and its key; killed at the end, with no time to tidy up."""
    port = _free_port()
    told = [
        "--log",
        KEY.verifier.vkey,
        "--name",
        "witness.test/w1",
        "--dir",
        str(folder),
        "--port",
        str(port),
        "--json",
    ]
    process = subprocess.Popen([sys.executable, "-m", "khata", "witness", *told], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        said = b""
        while not said.rstrip().endswith(b"\n}"):
            line = process.stdout.readline()
            assert line, "the witness ended"
            said += line
        _wait_for(port)
        yield f"http://127.0.0.1:{port}", Verifier.parse(orjson.loads(said)["vkey"])
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def note_of(size: int, salt: str = "") -> str:
    return sign(text_of(tree(size, salt)), [KEY])


def test_what_it_signed_survives_a_kill_and_a_fork_is_refused_after_it(tmp_path: Path) -> None:
    body = submission(0, [], note_of(5))
    with running(tmp_path) as (url, key):
        answer = httpx.post(f"{url}/add-checkpoint", content=body)
        assert answer.status_code == 200
        assert Note.parse(note_of(5) + answer.text).signed_by([key]) == (key,)
    with running(tmp_path) as (url, again):
        assert again == key
        known = httpx.post(f"{url}/add-checkpoint", content=body)
        assert (known.status_code, known.text, known.headers["content-type"]) == (
            409,
            "5\n",
            "text/x.tlog.size",
        )
        fork = submission(5, proof(5, tree(8, "fork")), note_of(8, "fork"))
        assert httpx.post(f"{url}/add-checkpoint", content=fork).status_code == 422
        kept = httpx.get(f"{url}/{sha256(ORIGIN.encode()).hexdigest()}/checkpoint")
        assert kept.text == note_of(5) + answer.text
        statuses = [
            httpx.get(f"{url}/add-checkpoint").status_code,
            httpx.post(f"{url}/").status_code,
            httpx.get(f"{url}/{'0' * 64}/checkpoint").status_code,
            httpx.post(f"{url}/add-checkpoint", content=b"x" * 200_000).status_code,
        ]
        assert statuses == [405, 404, 404, 413]


async def test_of_many_at_once_from_one_old_size_one_is_signed(tmp_path: Path) -> None:
    with running(tmp_path) as (url, _):
        async with httpx.AsyncClient(base_url=url) as http:
            await http.post("/add-checkpoint", content=submission(0, [], note_of(4)))
            bodies = [submission(4, proof(4, tree(n)), note_of(n)) for n in range(5, 25)]
            answers = await asyncio.gather(*(http.post("/add-checkpoint", content=body) for body in bodies))
    signed = [n for n, answer in zip(range(5, 25), answers, strict=True) if answer.status_code == 200]
    refused = {answer.text for answer in answers if answer.status_code == 409}
    assert len(signed) == 1
    assert refused == {f"{signed[0]}\n"}
    assert len(answers) - len(signed) == sum(answer.status_code == 409 for answer in answers)


def test_the_key_is_shown_while_the_witness_runs(tmp_path: Path) -> None:
    with running(tmp_path / "witness") as (_, key):
        asked = ["--show-key", "--name", "witness.test/w1", "--dir", str(tmp_path / "witness"), "--json"]
        told = subprocess.run(
            [sys.executable, "-m", "khata", "witness", *asked], stdout=subprocess.PIPE, check=True
        )
        assert orjson.loads(told.stdout)["vkey"] == key.vkey
