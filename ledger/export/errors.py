"""Why a book is not exported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ledger.errors import LedgerError


@dataclass(unsafe_hash=True)
class BookAltered(LedgerError):
    """A row says something else than what was hashed, or than the rows before it: somebody changed it behind the
    ledger's back. ``where``: the first such place."""

    code: ClassVar[str] = "book_altered"
    where: str
    says: str
    expected: str

    def __str__(self) -> str:
        return f"{self.where}: is {self.says}, must be {self.expected}"
