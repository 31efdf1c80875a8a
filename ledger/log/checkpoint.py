"""Checkpoints (c2sp.org/tlog-checkpoint): what a log says of itself at a size, as the text of a signed note."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ledger.log import note
from ledger.log.merkle import HASH_BYTES
from ledger.log.note import NoteMalformed, Signer, Verifier

_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The root of the tree of ``size`` leaves of the log ``origin``."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    def signed(self, signers: Sequence[Signer]) -> str:
        return note.sign(self.text, signers)

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Of a note's text. Raises ``NoteMalformed``, also if there are extension lines."""
        lines = text.split("\n")
        if len(lines) != 4 or lines[3] or not lines[0] or not _SIZE.fullmatch(lines[1]):
            raise NoteMalformed("a checkpoint is an origin, a size and a root")
        try:
            root = base64.b64decode(lines[2], validate=True)
        except (binascii.Error, ValueError) as error:
            raise NoteMalformed("a checkpoint's root is base64") from error
        found = cls(lines[0], int(lines[1]), root)
        if len(root) != HASH_BYTES or found.text != text:
            raise NoteMalformed("a checkpoint's root is 32 bytes in base64")
        return found

    @classmethod
    def opened(cls, signed: str | bytes, keys: Iterable[Verifier]) -> Checkpoint:
        """Of a note that one of the keys signed. Raises ``NoteMalformed`` and ``SignatureInvalid``."""
        return cls.parse(note.opened(signed, keys))
