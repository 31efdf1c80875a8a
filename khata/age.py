"""The age format (age-encryption.org/v1) with a passphrase: what the ``age`` and ``rage`` programs open, as a stream.

A file key is wrapped by scrypt; the payload is ChaCha20-Poly1305 in chunks of 64 KiB, the last one marked, so that a
file cut short is refused. Memory is one chunk, and 128 MiB for a moment while the passphrase is stretched.
"""

from __future__ import annotations

import hmac
import os
from base64 import b64decode, b64encode
from collections.abc import Iterator
from hashlib import sha256
from typing import IO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from khata.errors import KhataError

_VERSION = b"age-encryption.org/v1\n"
_CHUNK = 64 * 1024
_TAG = 16
_WORK = 17
"""log2 of scrypt's N; OWASP's first choice for r = 8, p = 1."""
_MOST_WORK = 20
"""What a file may ask of us: 1 GiB."""
_LONGEST_HEADER = 1024


class NotDecrypted(KhataError):
    """It is no age file for a passphrase, it was changed or cut short, or the passphrase is another."""

    code = "not_decrypted"


class Encryptor:
    """Writes what is written to it to ``out``, encrypted; whole only after ``close``."""

    def __init__(self, out: IO[bytes], passphrase: str) -> None:
        file_key, salt, nonce = os.urandom(16), os.urandom(16), os.urandom(16)
        wrapped = ChaCha20Poly1305(_stretch(passphrase, salt, _WORK)).encrypt(bytes(12), file_key, None)
        header = _VERSION + b"-> scrypt %b %d\n%b\n---" % (_text(salt), _WORK, _text(wrapped))
        out.write(header + b" " + _text(_mac(file_key, header)) + b"\n" + nonce)
        self._out = out
        self._cipher = ChaCha20Poly1305(_derived(file_key, b"payload", nonce))
        self._count = 0
        self._pending = bytearray()

    def write(self, data: bytes) -> int:
        self._pending += data
        while len(self._pending) > _CHUNK:  # one that is just full may be the last
            self._chunk(bytes(self._pending[:_CHUNK]), last=False)
            del self._pending[:_CHUNK]
        return len(data)

    def flush(self) -> None:
        """Nothing: a chunk is written when it is known whether it is the last."""

    def close(self) -> None:
        """The last chunk. ``out`` stays open."""
        self._chunk(bytes(self._pending), last=True)

    def _chunk(self, data: bytes, *, last: bool) -> None:
        self._out.write(self._cipher.encrypt(_nonce(self._count, last=last), data, None))
        self._count += 1


def decrypt(source: IO[bytes], passphrase: str) -> Iterator[bytes]:
    """The plain text, chunk by chunk. Raises ``NotDecrypted``, after what was in order has been given: use nothing of
    it before the end."""
    file_key = _open_header(source, passphrase)
    cipher = ChaCha20Poly1305(_derived(file_key, b"payload", source.read(16)))
    chunk, count = source.read(_CHUNK + _TAG), 0
    while True:
        following = source.read(_CHUNK + _TAG)
        try:
            plain = cipher.decrypt(_nonce(count, last=not following), chunk, None)
        except InvalidTag:
            raise NotDecrypted("the file was changed or cut short") from None
        if not plain and count:
            raise NotDecrypted("the file ends in an empty chunk")
        yield plain
        if not following:
            return
        chunk, count = following, count + 1


def _open_header(source: IO[bytes], passphrase: str) -> bytes:
    """The file key."""
    lines = [source.readline(_LONGEST_HEADER) for _ in range(4)]
    try:
        version, stanza, body, end = lines
        arrow, kind, salt, work = stanza.split()
        dashes, mac = end.split()
        if version != _VERSION or (arrow, kind, dashes) != (b"->", b"scrypt", b"---"):
            raise ValueError
        if not 1 <= int(work) <= _MOST_WORK:
            raise ValueError
        key = _stretch(passphrase, _bytes(salt), int(work))
        wrapped = _bytes(body.strip())
    except ValueError:
        raise NotDecrypted("not an age file for a passphrase") from None
    try:
        file_key = ChaCha20Poly1305(key).decrypt(bytes(12), wrapped, None)
    except InvalidTag:
        raise NotDecrypted("the passphrase is another") from None
    header = b"".join(lines[:3]) + b"---"
    if not hmac.compare_digest(_text(_mac(file_key, header)), mac):
        raise NotDecrypted("the header was changed")
    return file_key


def _stretch(passphrase: str, salt: bytes, work: int) -> bytes:
    kdf = Scrypt(b"age-encryption.org/v1/scrypt" + salt, length=32, n=1 << work, r=8, p=1)
    return kdf.derive(passphrase.encode())


def _derived(file_key: bytes, info: bytes, salt: bytes = b"") -> bytes:
    return HKDF(SHA256(), length=32, salt=salt or None, info=info).derive(file_key)


def _mac(file_key: bytes, header: bytes) -> bytes:
    return hmac.digest(_derived(file_key, b"header"), header, sha256)


def _nonce(count: int, *, last: bool) -> bytes:
    return count.to_bytes(11, "big") + bytes([last])


def _text(data: bytes) -> bytes:
    return b64encode(data).rstrip(b"=")


def _bytes(text: bytes) -> bytes:
    return b64decode(text + b"=" * (-len(text) % 4), validate=True)
