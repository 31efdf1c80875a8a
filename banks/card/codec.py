"""Messages to bytes and back. Whatever comes in, the only error is ``MalformedMessage``.

A frame on the wire is a two-byte big-endian length and that many bytes of message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import iso8583

from banks.card.spec import FIELDS, MESSAGE_TYPES, PATTERNS, codec_spec
from banks.errors import MalformedMessage

MAX_MESSAGE = 2048  # bytes; the longest message of the specification is well below
_SPEC = codec_spec()


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
    _check(message)
    document = {"t": message.mti} | {str(number): value for number, value in message.fields.items()}
    try:
        encoded, _ = iso8583.encode(document, _SPEC)
    except (iso8583.EncodeError, KeyError):
        encoded = None
    if encoded is None:  # Raised here, not in the handler: the codec's own error carries the card number.
        raise MalformedMessage("message", "cannot be encoded")
    return bytes(encoded)


def decode(body: bytes) -> Message:
    """The message in ``body``; raises ``MalformedMessage`` and nothing else."""
    document: dict[str, str] | None = None
    fault = "message"
    try:
        document, _ = iso8583.decode(body, _SPEC)
    except iso8583.DecodeError as error:
        fault = error.field
    except KeyError as error:
        fault = str(error.args[0])  # a field outside the specification
    if document is None:
        raise MalformedMessage(fault, "cannot be decoded")
    fields = {int(key): value for key, value in document.items() if key.isdigit() and key != "1"}
    message = Message(document["t"], fields)
    _check(message)
    return message


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


def _check(message: Message) -> None:
    if message.mti not in MESSAGE_TYPES:
        raise MalformedMessage("t", "unknown message type")
    for number, value in message.fields.items():
        pattern = PATTERNS.get(number)
        if pattern is None:
            raise MalformedMessage(str(number), "not in the specification")
        if not pattern.fullmatch(value):
            raise MalformedMessage(str(number), "does not have its form")
