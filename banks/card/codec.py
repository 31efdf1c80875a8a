"""Messages to bytes and back. Whatever comes in, the only error is ``MalformedMessage``.

A frame on the wire is a two-byte big-endian length and that many bytes of message: its type, one bitmap of eight
bytes or two, then its fields in order, those of variable length behind their length in digits.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from banks.card.spec import FIELDS, MESSAGE_TYPES, PATTERNS, Field
from banks.errors import MalformedMessage

MAX_MESSAGE = 2048  # bytes; the longest message of the specification is well below
_BITS = 128
_SECOND, _LOWER = 1 << 127, (1 << 64) - 1


@dataclass(frozen=True, slots=True, repr=False)
class Message:
    """``fields`` by number, as text. Shown with card data masked, whoever prints it."""

    mti: str
    fields: Mapping[int, str]

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{number}: {shown_value(number, self.fields[number])}" for number in sorted(self.fields)
        )
        return f"Message({self.mti}, {shown})"

    def get(self, number: int) -> str | None:
        return self.fields.get(number)

    def need(self, number: int) -> str:
        """The field's value; raises ``MalformedMessage`` if it is missing."""
        value = self.fields.get(number)
        if value is None:
            raise MalformedMessage(str(number), "missing")
        return value


def shown_value(number: int, value: str) -> str:
    """How a field may be shown to people and logs; an unknown field not at all."""
    field = FIELDS.get(number)
    if field is None:
        return "?"
    return field.mask(value) if field.mask else value


def describe(message: Message) -> str:
    """The message as a table, one field a line, card data masked."""
    lines = [f"{message.mti}     {MESSAGE_TYPES.get(message.mti, 'unknown message type')}"]
    for number in sorted(message.fields):
        name = FIELDS[number].name if number in FIELDS else "unknown field"
        lines.append(f"  {number:>3}    {name}: {shown_value(number, message.fields[number])}")
    return "\n".join(lines)


def encode(message: Message) -> bytes:
    """The bytes of ``message`` without its length; raises ``MalformedMessage``."""
    if message.mti not in MESSAGE_TYPES:
        raise MalformedMessage("t", "unknown message type")
    bitmap, parts = 0, list[str]()
    for number, value in sorted(message.fields.items()):
        field = FIELDS.get(number)
        if field is None:
            raise MalformedMessage(str(number), "not in the specification")
        if not PATTERNS[number].fullmatch(value):
            raise MalformedMessage(str(number), "does not have its form")
        bitmap |= 1 << _BITS - number
        parts.append(f"{len(value):0{field.prefix}d}{value}" if field.prefix else value)
    # The first bit says that a second bitmap follows; the fields of the specification are ASCII by their patterns.
    halves = (bitmap | _SECOND).to_bytes(16, "big") if bitmap & _LOWER else (bitmap >> 64).to_bytes(8, "big")
    return b"".join((message.mti.encode("ascii"), halves, "".join(parts).encode("ascii")))


def decode(body: bytes) -> Message:
    """The message in ``body``; raises ``MalformedMessage`` and nothing else."""
    mti = body[:4].decode("latin-1")
    if mti not in MESSAGE_TYPES:
        raise MalformedMessage("t", "unknown message type")
    start = 20 if body[4:5] >= b"\x80" else 12
    if len(body) < start:
        raise MalformedMessage("p", "a bitmap is cut")
    # One character a byte: what is no ASCII fits no pattern.
    text, at, fields = body.decode("latin-1"), start, dict[int, str]()
    for field, pattern in _layout(body[4:start]):
        end = at + (field.prefix or field.length)
        if field.prefix:
            digits = text[at:end]
            if not (len(digits) == field.prefix and digits.isascii() and digits.isdigit()):
                raise MalformedMessage(str(field.number), "has no length")
            at, end = end, end + int(digits)
        value = text[at:end]
        # A value that is cut has lost its form, unless its length is its own to say.
        if end > len(text) or not pattern.fullmatch(value):
            raise MalformedMessage(str(field.number), "does not have its form")
        fields[field.number] = value
        at = end
    if at != len(text):
        raise MalformedMessage("message", "goes on after its last field")
    return Message(mti, fields)


@lru_cache(maxsize=256)
def _layout(bitmaps: bytes) -> tuple[tuple[Field, re.Pattern[str]], ...]:
    """The fields a message with these bitmaps has, in order; raises ``MalformedMessage`` for an unknown one."""
    bits = int.from_bytes(bitmaps.ljust(16, b"\x00"), "big") & ~_SECOND
    numbers = [number for number in range(1, _BITS + 1) if bits >> _BITS - number & 1]
    for number in numbers:
        if number not in FIELDS:
            raise MalformedMessage(str(number), "not in the specification")
    return tuple((FIELDS[number], PATTERNS[number]) for number in numbers)


def frame(body: bytes) -> bytes:
    """``body`` with its length in front."""
    if not 0 < len(body) <= MAX_MESSAGE:
        raise MalformedMessage("length", f"{len(body)} is not between 1 and {MAX_MESSAGE}")
    return len(body).to_bytes(2, "big") + body


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    """The next message's bytes.

    Raises ``MalformedMessage`` on a length out of bounds (where the next message starts is lost then: close
    the stream) and ``asyncio.IncompleteReadError`` at its end.
    """
    length = int.from_bytes(await reader.readexactly(2), "big")
    if not 0 < length <= MAX_MESSAGE:
        raise MalformedMessage("length", f"{length} is not between 1 and {MAX_MESSAGE}")
    return await reader.readexactly(length)
