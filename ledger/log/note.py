"""Signed notes (c2sp.org/signed-note), Ed25519; and the cosignatures of witnesses (c2sp.org/tlog-cosignature).

A note is a text of lines, an empty line, and a signature line ``— NAME BASE64(key id, signature)`` a key. A key is
told by its name and the first four bytes of SHA-256(name, newline, type, public key).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from hashlib import sha256
from typing import ClassVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger.errors import LedgerError

_NAME = re.compile(r"[^\s+\x00-\x1f]+")
_LINE = re.compile(r"— ([^\s+]+) ([A-Za-z0-9+/]+={0,2})\n")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
MOST_SIGNATURES = 100
MOST_BYTES = 1_000_000


class Type(IntEnum):
    """The signature types spoken here: over the text, or over time and text."""

    ED25519 = 1
    COSIGNATURE = 4


@dataclass(unsafe_hash=True)
class NoteMalformed(LedgerError):
    """What was given is no signed note, key or checkpoint."""

    code: ClassVar[str] = "note_malformed"
    why: str

    def __str__(self) -> str:
        return self.why


@dataclass(unsafe_hash=True)
class SignatureInvalid(LedgerError):
    """A known key's signature does not fit its text, or no known key signed it."""

    code: ClassVar[str] = "signature_invalid"
    why: str

    def __str__(self) -> str:
        return self.why


def key_id(name: str, type_: int, public: bytes) -> bytes:
    return sha256(name.encode() + b"\n" + bytes([type_]) + public).digest()[:4]


def _decode(text: str) -> bytes:
    try:
        value = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise NoteMalformed(f"{text!r} is not base64") from error
    if base64.b64encode(value).decode() != text:  # bits that base64 leaves free
        raise NoteMalformed(f"{text!r} is not base64")
    return value


@dataclass(frozen=True, slots=True)
class Verifier:
    """A public key as others know it. Text form (vkey): ``NAME+KEY ID in hex+BASE64(type, public key)``."""

    name: str
    public: bytes
    type: Type = Type.ED25519

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or len(self.public) != 32:
            raise NoteMalformed(f"no key of the name {self.name!r}")

    @classmethod
    def parse(cls, vkey: str) -> Verifier:
        """Raises ``NoteMalformed``, also if the key id is another one's."""
        name, *rest = vkey.split("+", 2)
        if len(rest) != 2:
            raise NoteMalformed(f"{vkey!r} is no verifier key")
        data = _decode(rest[1])
        if len(data) != 33 or data[0] not in list(Type):
            raise NoteMalformed(f"{vkey!r} is of a type that is not known here")
        key = cls(name, data[1:], Type(data[0]))
        if rest[0] != key.key_id.hex():
            raise NoteMalformed(f"{vkey!r} has another key's id")
        return key

    @property
    def key_id(self) -> bytes:
        return key_id(self.name, self.type, self.public)

    @property
    def vkey(self) -> str:
        data = base64.b64encode(bytes([self.type]) + self.public).decode()
        return f"{self.name}+{self.key_id.hex()}+{data}"

    def verifies(self, text: str, signature: bytes) -> bool:
        """Whether it is this key's over the text; a cosignature begins with its time (8 bytes)."""
        message = text.encode()
        if self.type is Type.COSIGNATURE:
            message, signature = cosigned(text, int.from_bytes(signature[:8])), signature[8:]
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


def cosigned(text: str, at: int) -> bytes:
    """What a witness signs: ``at`` in seconds since 1970."""
    return f"cosignature/v1\ntime {at}\n{text}".encode()


@dataclass(frozen=True, slots=True)
class Signer:
    """A key that signs texts under a name."""

    name: str
    private: Ed25519PrivateKey = field(repr=False)

    @property
    def verifier(self) -> Verifier:
        return Verifier(self.name, self.private.public_key().public_bytes_raw())

    def line(self, text: str) -> str:
        return signature_line(self.name, self.verifier.key_id, self.private.sign(text.encode()))


def signature_line(name: str, of_key: bytes, signature: bytes) -> str:
    return f"— {name} {base64.b64encode(of_key + signature).decode()}\n"


@dataclass(frozen=True, slots=True)
class Signature:
    name: str
    key_id: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Note:
    """``text`` ends in a newline."""

    text: str
    signatures: tuple[Signature, ...]

    @classmethod
    def parse(cls, note: str | bytes) -> Note:
        """Its parts, with nothing verified. Raises ``NoteMalformed``."""
        if isinstance(note, bytes):
            try:
                note = note.decode()
            except UnicodeDecodeError as error:
                raise NoteMalformed("a note is UTF-8") from error
        text, empty_line, lines = note.rpartition("\n\n")
        if not empty_line or not lines or len(note) > MOST_BYTES or _CONTROL.search(note):
            raise NoteMalformed("a note is a text, an empty line and signature lines")
        return cls(text + "\n", parse_lines(lines))

    def signed_by(self, keys: Iterable[Verifier]) -> tuple[Verifier, ...]:
        """Those of the keys that signed it. Raises ``SignatureInvalid`` if a signature of one does not fit."""
        known = {(key.name, key.key_id): key for key in keys}
        found: dict[str, Verifier] = {}
        for signature in self.signatures:
            key = known.get((signature.name, signature.key_id))
            if key is None:
                continue
            if not key.verifies(self.text, signature.value):
                raise SignatureInvalid(
                    f"the signature of {key.name}+{key.key_id.hex()} does not fit the text"
                )
            found[key.vkey] = key
        return tuple(found.values())


def parse_lines(lines: str) -> tuple[Signature, ...]:
    """Signature lines, each with its newline. Raises ``NoteMalformed``."""
    found: list[Signature] = []
    for line in lines.splitlines(keepends=True):
        match = _LINE.fullmatch(line)
        value = _decode(match[2]) if match else b""
        if match is None or len(value) < 5 or len(found) == MOST_SIGNATURES:
            raise NoteMalformed(f"{line!r} is no signature line")
        found.append(Signature(match[1], value[:4], value[4:]))
    return tuple(found)


def sign(text: str, signers: Sequence[Signer]) -> str:
    """The text with a signature of each. Raises ``NoteMalformed`` for a text that no note can have."""
    if not text.endswith("\n") or not signers or _CONTROL.search(text):
        raise NoteMalformed("a note's text is lines without control characters, and somebody signs it")
    return text + "\n" + "".join(signer.line(text) for signer in signers)


def opened(note: str | bytes, keys: Iterable[Verifier]) -> str:
    """The text of a note that at least one of the keys signed. Raises ``NoteMalformed`` and ``SignatureInvalid``."""
    parsed = Note.parse(note)
    if not parsed.signed_by(keys):
        raise SignatureInvalid("no known key signed the note")
    return parsed.text
