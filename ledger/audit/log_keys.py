"""The log's keys and what was signed with them: endorsements, checkpoints at the time of their keys, cosignatures."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from psycopg import AsyncConnection

from ledger.audit.report import Key, Tally
from ledger.log.checkpoint import Checkpoint
from ledger.log.keys import endorsement_text
from ledger.log.note import Note, NoteMalformed, SignatureInvalid, Verifier, parse_lines

_KEYS = """
SELECT key, name, public, signs_from, old_until, endorsement FROM ledger.log_key WHERE book_id = %s ORDER BY key"""
_COSIGNATURES = """
SELECT c.size, c.witness, c.line,
       (SELECT min(k.note) FROM ledger.checkpoint k WHERE k.book_id = c.book_id AND k.size = c.size)
  FROM ledger.cosignature c WHERE c.book_id = %s ORDER BY c.size, c.witness"""


class KeyRow(NamedTuple):
    """A row of ``ledger.log_key``, without the private part."""

    key: int
    name: str
    public: bytes
    signs_from: datetime
    old_until: datetime | None
    endorsement: str | None


@dataclass
class _Used:
    """A key, and which checkpoints of its time it signed or did not; ``wanting``: the first of those it did not."""

    row: KeyRow
    verifier: Verifier
    until: datetime | None = None
    signed: int = 0
    wanting: list[int] = field(default_factory=list[int])

    def signs_at(self, at: datetime) -> bool:
        return self.row.signs_from <= at and (self.until is None or at < self.until)


@dataclass
class Signatures:
    """Holds each checkpoint's note against the keys of its time."""

    book_id: int
    keys: list[_Used]
    misplaced: set[int] = field(default_factory=set[int])

    @property
    def origin(self) -> str:
        return self.keys[0].row.name if self.keys else ""

    def key(self, number: int) -> Key:
        return {"book_id": self.book_id, "key": number}

    def check(self, size: int, root: bytes, sealed_at: datetime, note: str, tally: Tally) -> None:
        key: Key = {"book_id": self.book_id, "size": size}
        expected = Checkpoint(self.origin, size, root).text
        try:
            parsed = Note.parse(note)
        except NoteMalformed as error:
            tally.find("checkpoint", key, "note", str(error), "a signed note")
            return
        if parsed.text != expected:
            tally.find("checkpoint", key, "note", repr(parsed.text), repr(expected))
        lines = {(s.name, s.key_id): s.value for s in parsed.signatures}
        for used in self.keys:
            value = lines.pop((used.verifier.name, used.verifier.key_id), None)
            signed = value is not None and used.verifier.verifies(parsed.text, value)
            if value is not None and not signed:
                tally.find(
                    "checkpoint",
                    key,
                    "note",
                    f"with a signature that key {used.row.key} did not make",
                    "signed",
                )
            elif signed and not used.signs_at(sealed_at):
                self._misplaced(used, key, sealed_at, tally)
            used.signed += signed
            if not signed and used.signs_at(sealed_at) and len(used.wanting) < 10:
                used.wanting.append(size)
        if lines:
            self._unknown(key, [f"{name}+{key_id.hex()}" for name, key_id in lines], tally)

    def _misplaced(self, used: _Used, key: Key, sealed_at: datetime, tally: Tally) -> None:
        time = f"{used.row.signs_from} to {used.until or 'now'}"
        tally.find("checkpoint", key, "sealed_at", sealed_at, f"within {time}, when key {used.row.key} signs")
        if used.row.key not in self.misplaced:
            self.misplaced.add(used.row.key)
            tally.find("log_key", self.key(used.row.key), "signs_from", time, f"a time that has {sealed_at}")

    def _unknown(self, key: Key, names: list[str], tally: Tally) -> None:
        tally.find(
            "checkpoint", key, "note", f"signed by {', '.join(names)}", "signed by the log's keys alone"
        )
        if 0 not in self.misplaced:  # once: it may be the last key that is gone
            self.misplaced.add(0)
            tally.find("log_key", self.key(len(self.keys) + 1), "row", "missing", f"perhaps {names[0]}")

    def end(self, tally: Tally) -> None:
        """A key that signed none of the checkpoints of its time is not the one that did."""
        for used in self.keys:
            if used.wanting and not used.signed:
                tally.find(
                    "log_key", self.key(used.row.key), "public", used.row.public, "of the key that signed"
                )
            for size in used.wanting:
                at: Key = {"book_id": self.book_id, "size": size}
                tally.find("checkpoint", at, "note", f"not signed by key {used.row.key}", "signed by it")


async def load_signatures(conn: AsyncConnection[Any], book_id: int, tally: Tally) -> Signatures:
    """The keys, checked among themselves: numbered without a gap, each endorsed by the one before it."""
    cursor = await conn.execute(_KEYS, [book_id])
    found = Signatures(book_id, [])
    for row in [KeyRow(*row) for row in await cursor.fetchall()]:
        tally.rows += 1
        key, expected = found.key(row.key), len(found.keys) + 1
        if row.key < expected:
            tally.find("log_key", key, "row", "there twice", "there once")
            continue
        if row.key > expected:
            tally.find("log_key", found.key(expected), "row", "missing", "there: keys have no gaps")
        try:
            verifier = Verifier(row.name, bytes(row.public))
        except NoteMalformed as error:
            tally.find("log_key", key, "name", str(error), "a key's name")
            continue
        before = found.keys[-1] if found.keys else None
        _check_key(row, verifier, before, key, tally)
        if before is not None:
            before.until = row.old_until
        found.keys.append(_Used(row, verifier))
    return found


def _check_key(row: KeyRow, verifier: Verifier, before: _Used | None, key: Key, tally: Tally) -> None:
    if before is None:
        for name, value in (("old_until", row.old_until), ("endorsement", row.endorsement)):
            if value is not None:
                tally.find("log_key", key, name, value, "none: it is the first key")
        return
    if row.name != before.row.name:
        tally.find("log_key", key, "name", row.name, before.row.name)
    if row.signs_from < before.row.signs_from:
        tally.find("log_key", key, "signs_from", row.signs_from, f"{before.row.signs_from} or later")
    if row.old_until is None or row.old_until < row.signs_from:
        tally.find("log_key", key, "old_until", row.old_until, f"{row.signs_from} or later")
    text = endorsement_text(row.name, verifier.vkey)
    try:
        note = Note.parse(row.endorsement or "")
        good = note.text == text and note.signed_by([before.verifier]) == (before.verifier,)
    except (NoteMalformed, SignatureInvalid):
        good = False
    if not good:
        words = f"{text!r} signed by key {before.row.key}"
        tally.find("log_key", key, "endorsement", repr(row.endorsement), words)


async def check_cosignatures(conn: AsyncConnection[Any], book_id: int, tally: Tally) -> None:
    """Each line is its witness's, over the checkpoint of its size."""
    async with conn.cursor(name="audit_cosignatures") as stream:
        await stream.execute(_COSIGNATURES, [book_id])
        last: tuple[int, str] | None = None
        async for size, witness, line, note in stream:
            tally.rows += 1
            key: Key = {"book_id": book_id, "size": size, "witness": witness}
            if (size, witness) == last:
                tally.find("cosignature", key, "row", "there twice", "there once")
            last = (size, witness)
            if note is None or not _cosigned(note, witness, line):
                tally.find("cosignature", key, "line", line, "the witness's signature of the checkpoint")


def _cosigned(note: str, witness: str, line: str) -> bool:
    try:
        verifier, text = Verifier.parse(witness), Note.parse(note).text
        [signature] = parse_lines(f"{line}\n")
    except (NoteMalformed, ValueError):
        return False
    told = (signature.name, signature.key_id) == (verifier.name, verifier.key_id)
    return told and verifier.verifies(text, signature.value)
