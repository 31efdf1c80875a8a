"""add-checkpoint of c2sp.org/tlog-witness: what is refused, with which status, and in which order."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

import structlog

from khata.witness.memory import Cosigner, Memory, Seen
from ledger.log.checkpoint import Checkpoint
from ledger.log.merkle import EMPTY_ROOT, HASH_BYTES, consistent
from ledger.log.note import Note, NoteMalformed, SignatureInvalid, Verifier, signature_line

log = structlog.get_logger("khata.witness")

MOST_PROOF_LINES = 63
TEXT = "text/plain; charset=utf-8"
SIZE = "text/x.tlog.size"
_OLD = re.compile(r"old (0|[1-9][0-9]{0,18})")


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    body: str
    media_type: str = TEXT


@dataclass(frozen=True, slots=True)
class Submission:
    """What is asked: the tree of ``checkpoint`` has grown from one of ``old_size`` leaves, as ``proof`` shows."""

    old_size: int
    proof: list[bytes]
    note: Note
    checkpoint: Checkpoint

    @classmethod
    def parse(cls, body: bytes) -> Submission:
        """Raises ``NoteMalformed``."""
        try:
            head, empty_line, note = body.decode().partition("\n\n")
        except UnicodeDecodeError:
            raise NoteMalformed("the body is UTF-8") from None
        first, *rest = head.split("\n")
        old = _OLD.fullmatch(first)
        if old is None or not empty_line or len(rest) > MOST_PROOF_LINES:
            raise NoteMalformed(
                "the body is a line `old SIZE`, at most 63 proof lines, an empty line and a checkpoint"
            )
        parsed = Note.parse(note)
        return cls(int(old[1]), [_hash(line) for line in rest], parsed, checkpoint_of(parsed.text))


def checkpoint_of(text: str) -> Checkpoint:
    """The three lines that a witness judges; a log may have more of its own after them. Raises ``NoteMalformed``."""
    lines = text.split("\n")
    if "" in lines[:-1]:
        raise NoteMalformed("a checkpoint has no empty line")
    return Checkpoint.parse("\n".join(lines[:3]) + "\n")


def _hash(line: str) -> bytes:
    try:
        value = base64.b64decode(line, validate=True)
    except (binascii.Error, ValueError):
        value = b""
    if len(value) != HASH_BYTES or base64.b64encode(value).decode() != line:
        raise NoteMalformed("a proof line is a hash of 32 bytes in base64")
    return value


class Witness:
    """Judges and signs for the logs of ``keys``: the name of a log's key is its origin, and several may be its keys.

    Nothing in ``add_checkpoint`` waits for anything but the disk, so no two submissions are judged at the same time.
    """

    def __init__(
        self, cosigner: Cosigner, memory: Memory, keys: Iterable[Verifier], clock: Callable[[], datetime]
    ) -> None:
        self._cosigner = cosigner
        self._memory = memory
        self._clock = clock
        self._keys: dict[str, list[Verifier]] = {}
        for key in keys:
            self._keys.setdefault(key.name, []).append(key)
        self._origins = {sha256(origin.encode()).hexdigest(): origin for origin in self._keys}

    def add_checkpoint(self, body: bytes) -> Reply:
        """Raises ``OSError`` if it cannot be remembered; then nothing was signed."""
        try:
            asked = Submission.parse(body)
        except NoteMalformed as error:
            return Reply(400, f"{error}\n")
        keys = self._keys.get(asked.checkpoint.origin)
        if keys is None:
            return Reply(404, "no log of that origin is known here\n")
        try:
            signed = asked.note.signed_by(keys)
        except SignatureInvalid as error:
            return Reply(403, f"{error}\n")
        if not signed:
            return Reply(403, "no known key of that log signed the checkpoint\n")
        return self._judge(asked) or self._sign(asked, signed)

    def _judge(self, asked: Submission) -> Reply | None:
        """The refusal; None: the tree has grown from what was signed last, or is the same."""
        new, last = asked.checkpoint, self._memory.last(asked.checkpoint.origin)
        size, root = (last.size, bytes.fromhex(last.root)) if last else (0, EMPTY_ROOT)
        if asked.old_size > new.size:
            return Reply(400, "the old size is larger than the checkpoint's\n")
        if asked.old_size != size:
            return Reply(409, f"{size}\n", SIZE)
        forked = new.size == size and new.root != root
        if not forked and consistent(size, new.size, root, new.root, asked.proof):
            return None
        # Signed by the log itself: if what it says is not a fault of the proof, the log has two histories.
        log.warning("not_consistent", origin=new.origin, size=new.size, root=new.root.hex(), signed_size=size)
        if forked:
            return Reply(409, f"another root was signed for the size {size}\n")
        return Reply(422, f"the proof does not show that this tree has grown from that of size {size}\n")

    def _sign(self, asked: Submission, signed: Iterable[Verifier]) -> Reply:
        line = self._cosigner.line(asked.note.text, int(self._clock().timestamp()))
        good = {(key.name, key.key_id) for key in signed}
        kept = [
            signature_line(s.name, s.key_id, s.value)
            for s in asked.note.signatures
            if (s.name, s.key_id) in good
        ]
        note = asked.note.text + "\n" + "".join(dict.fromkeys([*kept, line]))
        new = asked.checkpoint
        self._memory.remember(new.origin, Seen(new.size, new.root.hex(), note))
        log.info("cosigned", origin=new.origin, size=new.size, root=new.root.hex())
        return Reply(200, line)

    def checkpoint(self, origin_hash: str) -> str | None:
        """The last one signed of the log with that SHA-256 of its origin, in lower-case hexadecimal; None: none."""
        origin = self._origins.get(origin_hash)
        last = self._memory.last(origin) if origin else None
        return last.note if last else None
