"""A statement as PDF. The whole document is in memory until its end, so its lines are bounded."""

from __future__ import annotations

from collections.abc import Sequence

from api.documents.figures import day, figure
from api.documents.sheet import INK, MARGIN_MM, MUTED, Sheet, is_shaped
from api.errors import StatementTooLong
from api.pages import words
from ledger.reports.statement import StatementEntry, StatementHead

# A line costs 1 to 5 ms, a letter that is shaped up to 0.1 ms more: together they bound a document to seconds.
MOST_LINES, MOST_SHAPED = 1000, 50_000
# Left edge and width of each column, in mm: date, entry, amount, balance.
_DATE, _ENTRY, _AMOUNT, _BALANCE = (0, 22), (22, 88), (110, 36), (146, 36)


class StatementPdf:
    """``StatementWriter``; everything comes out of ``end``. Raises ``StatementTooLong``."""

    def __init__(self, head: StatementHead) -> None:
        self._head = head
        self._entries: list[StatementEntry] = []
        self._shaped = 0

    def begin(self) -> bytes:
        return b""

    def entries(self, page: Sequence[StatementEntry]) -> bytes:
        self._shaped += sum(len(entry.description) for entry in page if is_shaped(entry.description))
        if len(self._entries) + len(page) > MOST_LINES or self._shaped > MOST_SHAPED:
            raise StatementTooLong(MOST_LINES)
        self._entries += page
        return b""

    def end(self) -> bytes:
        head = self._head
        made = (
            f"Book {head.book}, as known at journal {head.known}. Days are UTC. Made on {day(head.made_at)}."
        )
        title = f"Statement {head.path} {head.currency}, {head.first} to {head.last}"
        sheet = Sheet(title=title, foot=made, made_at=head.made_at)
        sheet.add_page()
        self._top(sheet)
        self._headings(sheet)
        self._edge(sheet, day(head.first), "Opening balance", head.opening)
        for entry in self._entries:
            self._entry(sheet, entry)
        self._edge(sheet, day(head.last), "Closing balance", head.closing)
        self._bottom(sheet)
        return bytes(sheet.output())

    def _figure(self, amount: int) -> str:
        return figure(amount, self._head.currency)

    def _top(self, sheet: Sheet) -> None:
        head = self._head
        moved = f"In {self._figure(head.raised)}, out {self._figure(-head.lowered)}"
        period = f"{day(head.first)} to {day(head.last)}, {head.currency}"
        for text, size in (("Account statement", 16), (head.path, 9), (period, 9), (moved, 9)):
            _paragraph(sheet, text, size)
        sheet.ln(4)

    def _bottom(self, sheet: Sheet) -> None:
        head = self._head
        if head.available != head.closing:
            free = self._figure(head.available)
            sheet.ln(3)
            _paragraph(sheet, f"Of the closing balance {free} is available; the rest is reserved.", 9)

    def _headings(self, sheet: Sheet) -> None:
        height = sheet.style(7.5, MUTED)
        for text, column in (("Date", _DATE), ("Entry", _ENTRY)):
            sheet.write_line(text, *column, height)
        for text, column in (("Amount", _AMOUNT), ("Balance", _BALANCE)):
            sheet.write_line(text, *column, height, "R")
        _rule(sheet, height)

    def _edge(self, sheet: Sheet, on: str, text: str, amount: int) -> None:
        height = self._room(sheet, sheet.style(9) + 2)
        sheet.style(9)
        sheet.write_line(on, *_DATE, height)
        sheet.write_line(text, *_ENTRY, height)
        sheet.write_line(self._figure(amount), *_BALANCE, height, "R")
        _rule(sheet, height)

    def _entry(self, sheet: Sheet, entry: StatementEntry) -> None:
        about = ", ".join(filter(None, (words.journal(entry.kind), entry.description)))
        small = sheet.style(7, MUTED)
        below = [*sheet.wrapped(entry.counter_account, _ENTRY[1]), str(entry.journal_id)]
        large = sheet.style(8.5)
        lines = sheet.wrapped(about, _ENTRY[1])
        self._room(sheet, large * len(lines) + small * len(below) + 2)
        sheet.style(8.5)
        sheet.write_line(day(entry.effective_at), *_DATE, large)
        sheet.write_line(self._figure(entry.amount), *_AMOUNT, large, "R")
        sheet.write_line(self._figure(entry.balance), *_BALANCE, large, "R")
        for text in lines:
            sheet.write_line(text, *_ENTRY, large)
            sheet.ln(large)
        sheet.style(7, MUTED)
        for text in below:
            sheet.write_line(text, *_ENTRY, small)
            sheet.ln(small)
        _rule(sheet, 0)

    def _room(self, sheet: Sheet, height: float) -> float:
        """Go to the next page unless ``height`` is left on this one; returns it."""
        if not sheet.fits(height):
            sheet.add_page()
            self._headings(sheet)
        return height


def _paragraph(sheet: Sheet, text: str, size: float) -> None:
    height = sheet.style(size)
    for line in sheet.wrapped(text, sheet.epw):
        sheet.write_line(line, 0, sheet.epw, height)
        sheet.ln(height)


def _rule(sheet: Sheet, below: float) -> None:
    """A line across the page, ``below`` mm further down."""
    y = sheet.get_y() + below + 0.8
    sheet.line(MARGIN_MM, y, sheet.w - MARGIN_MM, y)
    sheet.set_y(y + 0.8)
    sheet.set_text_color(*INK)
