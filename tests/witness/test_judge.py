"""add-checkpoint: each refusal of the protocol with its status, and nothing signed that does not grow."""

from __future__ import annotations

import base64
import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from itertools import count
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from khata.witness.errors import WitnessKeyUnusable, WitnessMemoryLost, WitnessRunning
from khata.witness.judge import SIZE, TEXT, Reply, Witness
from khata.witness.memory import Cosigner, Memory, key_in, opened
from ledger.log.note import NoteMalformed, Verifier, sign
from tests.witness.trees import ORIGIN, key_of, mth, proof, submission, text_of, tree

KEY, NEXT_KEY, STRANGER = key_of(1), key_of(2), key_of(3)
NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)
NAME = "witness.test/w1"


class Desk:
    """A witness, and what the log has to know to ask it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "logs.json"
        self.cosigner = Cosigner(NAME, Ed25519PrivateKey.from_private_bytes(b"w" * 32))
        keys = [KEY.verifier, NEXT_KEY.verifier]
        self.witness = Witness(self.cosigner, Memory(self.path, {}), keys, lambda: NOW)

    def ask(self, old: int, leaves: list[bytes], shown: list[bytes] | None = None) -> Reply:
        shown = proof(old, leaves) if shown is None else shown
        return self.witness.add_checkpoint(submission(old, shown, sign(text_of(leaves), [KEY])))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_a_tree_that_grows_is_signed_each_time_as_the_cosignature_format_has_it(desk: Desk) -> None:
    old = 0
    for size in (0, 1, 2, 3, 7, 8, 8, 9, 255, 256, 300):
        reply = desk.ask(old, tree(size))
        assert reply.status == 200, (size, reply)
        dash, name, encoded = reply.body.removesuffix("\n").split(" ")
        value = base64.b64decode(encoded)
        public = desk.cosigner.private.public_key().public_bytes_raw()
        assert (dash, name, value[:4]) == ("—", NAME, sha256(NAME.encode() + b"\n\x04" + public).digest()[:4])
        at = int.from_bytes(value[4:12])
        assert at == int(NOW.timestamp())
        message = f"cosignature/v1\ntime {at}\n{text_of(tree(size))}".encode()
        Ed25519PublicKey.from_public_bytes(public).verify(value[12:], message)
        old = size


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        submission("01", [], sign(text_of(tree(1)), [KEY])),
        submission("-1", [], sign(text_of(tree(1)), [KEY])),
        submission(0, [b"x" * 31], sign(text_of(tree(1)), [KEY])),
        submission(0, [b"x" * 32] * 64, sign(text_of(tree(1)), [KEY])),
        submission(0, [], text_of(tree(1))),
        submission(0, [], text_of(tree(1)) + "\n"),
        submission(0, [], sign(f"{ORIGIN}\n01\n{base64.b64encode(mth(tree(1))).decode()}\n", [KEY])),
        submission(0, [], sign(f"{ORIGIN}\n1\nAAAA\n", [KEY])),
        submission(0, [], sign(f"{ORIGIN}\n1\n", [KEY])),
        submission(0, [], sign(text_of(tree(1)) + "\n\n", [KEY])),
        submission(0, [], sign(text_of(tree(1)), [KEY])).replace(b"old 0", b"old 0 "),
        submission(0, [], sign(text_of(tree(1)), [KEY])).removesuffix(b"\n"),
        submission(2, [], sign(text_of(tree(1)), [KEY])),
    ],
)
def test_what_cannot_be_read_or_shrinks_by_its_own_words_is_400(desk: Desk, body: bytes) -> None:
    assert desk.witness.add_checkpoint(body).status == 400


def test_an_unknown_origin_is_404_whoever_signed_it(desk: Desk) -> None:
    for signer in (key_of(1, "khata.test/other"), KEY):
        note = sign(text_of(tree(1), "khata.test/other"), [signer])
        assert desk.witness.add_checkpoint(submission(0, [], note)).status == 404


def test_no_known_signature_is_403_and_so_is_a_known_one_that_does_not_fit(desk: Desk) -> None:
    text = text_of(tree(1))
    assert desk.witness.add_checkpoint(submission(0, [], sign(text, [STRANGER]))).status == 403
    broken = sign(text_of(tree(2)), [KEY]).partition("\n\n")[2]
    for note in (text + "\n" + broken, sign(text, [NEXT_KEY]) + broken):
        assert desk.witness.add_checkpoint(submission(0, [], note)).status == 403
    assert desk.witness.add_checkpoint(submission(0, [], sign(text, [STRANGER, NEXT_KEY]))).status == 200


def test_another_old_size_is_409_and_says_the_last_one_signed(desk: Desk) -> None:
    assert desk.ask(3, tree(5)) == Reply(409, "0\n", SIZE)
    assert desk.ask(0, tree(5)).status == 200
    assert desk.ask(0, tree(5)) == Reply(409, "5\n", SIZE)
    assert desk.ask(3, tree(9)) == Reply(409, "5\n", SIZE)
    assert desk.ask(3, tree(3)) == Reply(409, "5\n", SIZE)  # shrunk


def test_another_root_for_the_size_signed_last_is_409_and_no_size_to_go_on_from(desk: Desk) -> None:
    empty = f"{ORIGIN}\n0\n{base64.b64encode(b'x' * 32).decode()}\n"
    of_nothing = desk.witness.add_checkpoint(submission(0, [], sign(empty, [KEY])))
    assert desk.ask(0, tree(5)).status == 200
    for reply in (of_nothing, desk.ask(5, tree(5, "fork")), desk.ask(5, tree(5, "fork"), [b"x" * 32])):
        assert (reply.status, reply.media_type) == (409, TEXT)
        assert not reply.body.strip().isdecimal()
    assert desk.ask(5, tree(5)).status == 200


def test_a_forked_tree_and_a_wrong_proof_are_422(desk: Desk) -> None:
    whole = tree(6)
    assert desk.ask(0, whole[:5], [b"x" * 32]).status == 422  # a proof of nothing
    assert desk.ask(0, whole[:5]).status == 200
    assert desk.ask(5, tree(6, "fork")).status == 422
    assert desk.ask(5, whole[:5], [mth(whole)]).status == 422
    for shown in (
        [],
        proof(5, whole)[:-1],
        [*proof(5, whole), b"x" * 32],
        proof(5, whole)[::-1],
        proof(4, whole),
    ):
        assert desk.ask(5, whole, shown).status == 422
    assert desk.ask(5, whole).status == 200


def test_lines_of_the_logs_own_are_signed_with_the_rest(desk: Desk) -> None:
    text = text_of(tree(2), ORIGIN, "extension 7")
    reply = desk.witness.add_checkpoint(submission(0, [], sign(text, [KEY])))
    assert desk.cosigner.verifier.verifies(text, base64.b64decode(reply.body.split(" ")[2])[4:])


def test_a_monitor_gets_the_last_checkpoint_with_both_signatures_and_no_strangers(desk: Desk) -> None:
    assert desk.witness.checkpoint(sha256(ORIGIN.encode()).hexdigest()) is None
    note = sign(text_of(tree(2)), [STRANGER, KEY])
    line = desk.witness.add_checkpoint(submission(0, [], note)).body
    kept = desk.witness.checkpoint(sha256(ORIGIN.encode()).hexdigest())
    assert kept == sign(text_of(tree(2)), [KEY]) + line
    assert desk.witness.checkpoint("0" * 64) is None


def test_nothing_is_signed_that_cannot_be_remembered(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    desk = Desk(folder)
    folder.rmdir()
    with pytest.raises(FileNotFoundError):
        desk.ask(0, tree(3))
    folder.mkdir()
    assert desk.ask(3, tree(5)) == Reply(409, "0\n", SIZE)
    assert desk.ask(0, tree(5)).status == 200


STEPS = st.lists(
    st.tuples(st.integers(0, 20), st.integers(0, 20), st.sampled_from(["", "a", "b"]), st.booleans()),
    max_size=12,
)


@settings(max_examples=150, deadline=None, print_blob=True)
@given(STEPS)
def test_whatever_is_asked_in_whatever_order_all_that_is_signed_is_one_history(
    steps: list[tuple[int, int, str, bool]],
) -> None:
    folder = Path(f"/dev/shm/khata-witness-{os.getpid()}-{next(_numbers)}")
    folder.mkdir()
    try:
        desk, signed = Desk(folder), tree(0)
        for old, size, salt, truthful in steps:
            old = len(signed) if truthful else old
            leaves = tree(size, salt)
            shown = proof(old, leaves) if old <= size else []
            reply = desk.ask(old, leaves, shown)
            grown = old == len(signed) <= size and leaves[: len(signed)] == signed
            assert (reply.status == 200) == grown, (old, size, salt, reply)
            signed = leaves if grown else signed
    finally:
        (folder / "logs.json").unlink(missing_ok=True)
        folder.rmdir()


_numbers: Iterator[int] = count()


def test_the_key_is_its_users_alone_and_stays(tmp_path: Path) -> None:
    with (
        opened(tmp_path / "w", NAME, os.urandom) as (first, _),
        pytest.raises(WitnessRunning),
        opened(tmp_path / "w", None, os.urandom),
    ):
        pass
    key = tmp_path / "w" / "key.json"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    with opened(tmp_path / "w", None, os.urandom) as (second, _):
        assert second.verifier == first.verifier
        assert Verifier.parse(second.verifier.vkey) == first.verifier
    key.chmod(0o640)
    with pytest.raises(WitnessKeyUnusable, match="0600"), opened(tmp_path / "w", None, os.urandom):
        pass


@pytest.mark.parametrize("name", [None, "", "a b", "a+b"])
def test_a_new_witness_needs_a_name_that_notes_can_hold(tmp_path: Path, name: str | None) -> None:
    with pytest.raises(WitnessKeyUnusable), opened(tmp_path / "w", name, os.urandom):
        pass
    assert not (tmp_path / "w").exists()


def test_the_key_can_be_read_while_the_witness_runs_and_reading_makes_nothing(tmp_path: Path) -> None:
    with opened(tmp_path / "w", NAME, os.urandom) as (running, _):
        assert key_in(tmp_path / "w", None).verifier == running.verifier
        with pytest.raises(WitnessKeyUnusable, match="the key of"):
            key_in(tmp_path / "w", "witness.test/other")
    with pytest.raises(WitnessKeyUnusable, match="none yet"):
        key_in(tmp_path / "none", NAME)
    assert not (tmp_path / "none").exists()


def test_a_witness_that_forgot_what_it_signed_does_not_start(tmp_path: Path) -> None:
    folder = tmp_path / "w"
    with opened(folder, NAME, os.urandom) as (cosigner, memory):
        witness = Witness(cosigner, memory, [KEY.verifier], lambda: NOW)
        witness.add_checkpoint(submission(0, [], sign(text_of(tree(4)), [KEY])))
    with opened(folder, NAME, os.urandom) as (_, memory):
        last = memory.last(ORIGIN)
        assert last is not None
        assert (last.size, last.root) == (4, mth(tree(4)).hex())
    logs = folder / "logs.json"
    for damage in ("", "[]", '{"a": {"size": 1}}'):
        logs.write_text(damage)
        with pytest.raises(WitnessMemoryLost), opened(folder, NAME, os.urandom):
            pass
    logs.unlink()
    with pytest.raises(WitnessMemoryLost), opened(folder, NAME, os.urandom):
        pass
    with pytest.raises(NoteMalformed):
        Verifier.parse("nonsense")
