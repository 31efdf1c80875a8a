"""A statement as CSV (RFC 4180): a row with the opening balance, one a line, a row with the closing balance.

Amounts come twice: in major units with exactly the currency's ISO 4217 decimals, and in minor units. Texts that a
spreadsheet would run as a formula start with an apostrophe (``ledger.export.tables``).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC

from ledger.export.money import decimal_text
from ledger.export.tables import csv_text, text_cell
from ledger.reports.statement import StatementEntry, StatementHead

COLUMNS = (
    *("row", "date", "recorded_at", "number", "journal", "journal_seq", "kind", "counter_account"),
    *("description", "currency", "amount", "amount_minor", "balance", "balance_minor"),
)
_NO_JOURNAL = ("", "", "", "", "", "", "")


class StatementCsv:
    """``StatementWriter``. ``row`` is ``opening``, ``line`` or ``closing``; ``date`` the UTC day of effect."""

    def __init__(self, head: StatementHead) -> None:
        self._head = head

    def begin(self) -> bytes:
        head = self._head
        opening = ("opening", head.first.isoformat(), *_NO_JOURNAL, head.currency, "", "")
        return csv_text([COLUMNS, (*opening, *self._figure(head.opening))])

    def entries(self, page: Sequence[StatementEntry]) -> bytes:
        return csv_text(self._row(entry) for entry in page)

    def end(self) -> bytes:
        head = self._head
        closing = ("closing", head.last.isoformat(), *_NO_JOURNAL, head.currency, "", "")
        return csv_text([(*closing, *self._figure(head.closing))])

    def _row(self, entry: StatementEntry) -> tuple[object, ...]:
        return (
            *("line", entry.effective_at.astimezone(UTC).date().isoformat()),
            entry.recorded_at.astimezone(UTC).isoformat(),
            *(entry.number, str(entry.journal_id), entry.journal_seq, entry.kind, entry.counter_account),
            *(text_cell(entry.description), self._head.currency),
            *(*self._figure(entry.amount), *self._figure(entry.balance)),
        )

    def _figure(self, amount: int) -> tuple[str, int]:
        return decimal_text(amount, self._head.currency), amount
