"""What a report refuses to say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ledger.errors import LedgerError


@dataclass(unsafe_hash=True)
class ReportBroken(LedgerError):
    """The books contradict themselves: a report that does not add up is never handed out. ``khata audit`` says why."""

    code: ClassVar[str] = "report_broken"
    report: str
    currency: str
    left: int
    right: int

    def __str__(self) -> str:
        return f"{self.report} in {self.currency}: {self.left} is not {self.right}"


@dataclass(unsafe_hash=True)
class NotRepresentable(LedgerError):
    """A figure has more digits than the format allows; another format shows it."""

    code: ClassVar[str] = "not_representable"
    format: str
    amount: int

    def __str__(self) -> str:
        return f"{self.amount} minor units have too many digits for {self.format}"


@dataclass(unsafe_hash=True)
class PeriodInvalid(LedgerError):
    """The days asked for are no period."""

    code: ClassVar[str] = "period_invalid"
    reason: str

    def __str__(self) -> str:
        return self.reason
