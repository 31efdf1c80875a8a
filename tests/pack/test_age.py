"""The age format: what is written is read again, anything else is refused, and the ``age`` program agrees."""

from __future__ import annotations

import io
import os
import pty
import shutil
from pathlib import Path

import pytest

from khata import age
from khata.age import Encryptor, NotDecrypted, decrypt

CHUNK = 64 * 1024
SIZES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK]
WORD = "correct horse"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """To stretch a passphrase takes a third of a second, and it is done some hundreds of times here."""
    monkeypatch.setattr(age, "_WORK", 4)


def encrypted(plain: bytes, *, piece: int = 1000) -> bytes:
    out = io.BytesIO()
    encryptor = Encryptor(out, WORD)
    for at in range(0, len(plain), piece):
        encryptor.write(plain[at : at + piece])
    encryptor.close()
    return out.getvalue()


def opened(data: bytes, word: str = WORD) -> bytes:
    return b"".join(decrypt(io.BytesIO(data), word))


@pytest.mark.parametrize("size", SIZES)
def test_what_is_encrypted_is_read_again(size: int) -> None:
    plain = os.urandom(size)
    assert opened(encrypted(plain, piece=CHUNK // 3)) == plain


def test_another_passphrase_opens_nothing() -> None:
    with pytest.raises(NotDecrypted, match="passphrase"):
        opened(encrypted(b"secret"), "another")


def test_a_file_that_is_no_age_file_is_refused() -> None:
    for data in (b"", b"PK\x03\x04", b"age-encryption.org/v1\n-> X25519 abc\nx\n--- y\n"):
        with pytest.raises(NotDecrypted, match="not an age file"):
            opened(data)


def test_every_changed_byte_is_refused() -> None:
    data = encrypted(b"x" * 50)
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1
        with pytest.raises(NotDecrypted):
            opened(bytes(changed))


def test_a_file_that_is_cut_short_or_longer_is_refused() -> None:
    data = encrypted(os.urandom(2 * CHUNK + 5))
    overhead = len(data) - (2 * CHUNK + 5) - 3 * 16
    for size in (overhead + CHUNK + 16, overhead + 2 * (CHUNK + 16), len(data) - 1):
        with pytest.raises(NotDecrypted, match="cut short"):
            opened(data[:size])
    with pytest.raises(NotDecrypted, match="changed"):
        opened(data + b"x")


def test_chunks_in_another_order_are_refused() -> None:
    data = encrypted(os.urandom(3 * CHUNK))
    head, one = len(data) - 3 * (CHUNK + 16), CHUNK + 16
    swapped = (
        data[:head] + data[head + one : head + 2 * one] + data[head : head + one] + data[head + 2 * one :]
    )
    with pytest.raises(NotDecrypted):
        opened(swapped)


@pytest.mark.skipif(shutil.which("age") is None, reason="age is not installed")
def test_the_age_program_opens_what_we_encrypt_and_we_what_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # with the work that is really asked
    plain = os.urandom(CHUNK + 7)
    ours, theirs, out = tmp_path / "ours.age", tmp_path / "theirs.age", tmp_path / "out"
    ours.write_bytes(encrypted(plain))
    _age("-d", "-o", str(out), str(ours), answers=1)
    assert out.read_bytes() == plain
    _age("-p", "-o", str(theirs), str(out), answers=2)
    assert opened(theirs.read_bytes()) == plain


def _age(*arguments: str, answers: int) -> None:
    """It asks for its passphrase on a terminal, and for nothing else."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvp("age", ["age", *arguments])
    said = b""
    try:
        while True:
            said += os.read(terminal, 1000)
            if said.count(b"passphrase") and answers:
                os.write(terminal, WORD.encode() + b"\n")
                answers, said = answers - 1, b""
    except OSError:
        pass  # it has closed its end
    finally:
        os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, said
