"""Why no pack is made of a book."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ledger.errors import LedgerError


@dataclass(unsafe_hash=True)
class NothingSealed(LedgerError):
    """The log has no leaf in the range: there is nothing to prove."""

    code: ClassVar[str] = "nothing_sealed"
    book: str

    def __str__(self) -> str:
        return f"nothing of book {self.book} is in its log up to then"
