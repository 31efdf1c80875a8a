"""Signed notes against the published vectors of golang.org/x/mod/sumdb/note and the C2SP specifications."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.log.checkpoint import Checkpoint
from ledger.log.note import Note, NoteMalformed, SignatureInvalid, Signer, Type, Verifier, opened, sign

# golang.org/x/mod/sumdb/note, note_test.go
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETER_SEED = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
ENOCH = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
PETER_LINE = (
    "— PeterNeumann "
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
ENOCH_LINE = (
    "— EnochRoot "
    "rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n"
)
# c2sp.org/tlog-checkpoint and c2sp.org/tlog-cosignature: their examples, whose keys are not published
SOFA = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "— example.com/behind-the-sofa"
    " Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    "— witness.example.com/w1"
    " jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
)

peter, enoch = Verifier.parse(PETER), Verifier.parse(ENOCH)


def test_the_published_note_is_signed_to_the_byte() -> None:
    signer = Signer("PeterNeumann", Ed25519PrivateKey.from_private_bytes(PETER_SEED))
    assert signer.verifier.vkey == PETER
    assert sign(TEXT, [signer]) == f"{TEXT}\n{PETER_LINE}"


def test_a_note_opens_for_each_of_those_who_signed_it() -> None:
    note = Note.parse(f"{TEXT}\n{PETER_LINE}{ENOCH_LINE}")
    assert note.text == TEXT
    assert note.signed_by([peter]) == (peter,)
    assert note.signed_by([enoch, peter]) == (peter, enoch)
    assert note.signed_by([]) == ()
    with pytest.raises(SignatureInvalid):
        opened(f"{TEXT}\n{PETER_LINE}", [enoch])


def test_no_part_of_a_verifier_key_is_one() -> None:
    for begin in range(len(PETER)):
        for end in range(begin + 1, len(PETER) + 1):
            if (begin, end) != (0, len(PETER)):
                with pytest.raises(NoteMalformed):
                    Verifier.parse(PETER[begin:end])
    for at in range(len(PETER)):
        with pytest.raises(NoteMalformed):
            Verifier.parse(PETER[:at] + chr(ord(PETER[at]) + 1) + PETER[at + 1 :])


@pytest.mark.parametrize(
    "vkey",
    [
        "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",
        "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    ],
)
def test_a_key_of_wrong_length_or_unknown_type_is_none_whatever_its_id(vkey: str) -> None:
    with pytest.raises(NoteMalformed):
        Verifier.parse(vkey)


@pytest.mark.parametrize(
    "note",
    [
        TEXT,
        TEXT + "\n",
        f"{TEXT}\n{PETER_LINE[:-1]}",
        f"\x01{TEXT}\n{PETER_LINE}",
        b"\xff" + f"{TEXT}\n{PETER_LINE}".encode(),
        f"{TEXT}\n{PETER_LINE.replace('PeterNeumann', 'Bad Name')}",
        f"{TEXT}\n{PETER_LINE}Unexpected line.\n",
        f"{TEXT}\n{PETER_LINE * 101}",
        f"{TEXT}\n{PETER_LINE.replace('x08g', 'x08')}",
    ],
)
def test_what_is_no_note_is_refused(note: str | bytes) -> None:
    with pytest.raises(NoteMalformed):
        Note.parse(note)


def test_a_known_keys_signature_that_does_not_fit_spoils_the_note() -> None:
    for note in (f"{TEXT}x\n\n{PETER_LINE}", f"{TEXT}\n{PETER_LINE.replace('ZJku', 'ZJkv')}{ENOCH_LINE}"):
        with pytest.raises(SignatureInvalid):
            opened(note, [peter, enoch])


def test_every_byte_of_a_note_is_under_its_signature_or_is_it() -> None:
    note = f"{TEXT}\n{PETER_LINE}".encode()
    for at in range(len(note)):
        changed = note[:at] + bytes([note[at] ^ 1]) + note[at + 1 :]
        with pytest.raises((NoteMalformed, SignatureInvalid)):
            opened(changed, [peter])


@pytest.mark.parametrize("text", ["abc", "a\x00b\n", "a\tb\n"])
def test_no_such_text_is_signed(text: str) -> None:
    with pytest.raises(NoteMalformed):
        sign(text, [Signer("a", Ed25519PrivateKey.generate())])


def test_the_published_checkpoint_is_read_and_written() -> None:
    note = Note.parse(SOFA)
    found = Checkpoint.parse(note.text)
    assert (found.origin, found.size) == ("example.com/behind-the-sofa", 20852163)
    assert found.root.hex() == "0ac5186a91863e8e1d90c808014aa89bf5da8e3ee1d9f07630f0378f68f1ab62"
    assert found.text == note.text
    log, witness = note.signatures
    assert (log.key_id.hex(), len(log.value)) == ("033de0ae", 64)
    # a cosignature begins with its time
    assert (int.from_bytes(witness.value[:8]), len(witness.value)) == (1679315147, 72)


@pytest.mark.parametrize(
    "text",
    [
        "origin\n",
        "origin\n1\n",
        "\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
        "origin\n01\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
        "origin\n-1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
        "origin\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jx\n",
        "origin\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2J=\n",
        "origin\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\nmore\n",
        "origin\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\nmore",
    ],
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(NoteMalformed):
        Checkpoint.parse(text)


def test_a_cosignature_is_over_its_time_and_the_text() -> None:
    private = Ed25519PrivateKey.generate()
    key = Verifier("witness.example.com/w1", private.public_key().public_bytes_raw(), Type.COSIGNATURE)
    assert Verifier.parse(key.vkey) == key
    at = 1679315147
    signature = private.sign(b"cosignature/v1\ntime 1679315147\n" + TEXT.encode())
    assert key.verifies(TEXT, at.to_bytes(8) + signature)
    assert not key.verifies(TEXT, (at + 1).to_bytes(8) + signature)
    assert not key.verifies(TEXT + "x", at.to_bytes(8) + signature)
    assert not key.verifies(TEXT, signature)
