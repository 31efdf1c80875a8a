"""Errors of the banks package: one root, facts as attributes, a stable ``code``.

What a bank answers, or fails to answer, is never an error: see ``banks.outcomes``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


class BanksError(Exception):
    """Root of every error of this package. ``code`` never changes once published."""

    code: ClassVar[str] = "banks_error"


@dataclass(unsafe_hash=True)
class BankUnknown(BanksError):
    code: ClassVar[str] = "bank_unknown"
    bank: str

    def __str__(self) -> str:
        return f"there is no bank {self.bank!r}"


@dataclass(unsafe_hash=True)
class MalformedMessage(BanksError):
    """A message that breaks the specification. It never carries the bytes: they may hold a card number."""

    code: ClassVar[str] = "malformed_message"
    field: str
    reason: str

    def __str__(self) -> str:
        return f"field {self.field}: {self.reason}"


@dataclass(unsafe_hash=True)
class SettlementRefused(BanksError):
    """A settlement file refused whole; nothing of it is booked.

    ``line`` counts from 1 (the header is line 1); ``field`` is a name of docs/settlement-file.md.
    """

    code: ClassVar[str] = "settlement_refused"
    line: int
    field: str
    reason: str

    def __str__(self) -> str:
        return f"line {self.line}, {self.field}: {self.reason}"
