"""Why a pack is not imported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ledger.errors import LedgerError


@dataclass(unsafe_hash=True)
class NotImportable(LedgerError):
    """The pack is in order, but no book can be made of it; nothing was changed."""

    code: ClassVar[str] = "pack_not_importable"
    why: str

    def __str__(self) -> str:
        return self.why


@dataclass(unsafe_hash=True)
class BookNotEmpty(LedgerError):
    """The book of that name is another than the pack begins with; nothing was changed."""

    code: ClassVar[str] = "book_not_empty"
    book: str
    where: str

    def __str__(self) -> str:
        return f"book {self.book} is there, and not as this pack begins: {self.where}"


@dataclass(unsafe_hash=True)
class ImportDiffers(LedgerError):
    """The ledger refused an entry of the pack, or made something else of it. What came before it is in the book."""

    code: ClassVar[str] = "import_differs"
    where: str
    made: str
    said: str

    def __str__(self) -> str:
        return f"{self.where}: the ledger says {self.made}; the pack says {self.said}"
