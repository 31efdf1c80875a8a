"""Cuts the daily settlement files (docs/settlement-file.md), net of the acquirer's cost and its tax.

A file follows from its batch in the book alone: cut again, it is the same byte for byte.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from banks.simulators.acquirer.book import Batch, Book, Entry
from banks.simulators.acquirer.requests import Kind
from banks.simulators.acquirer.storage import write_whole
from banks.simulators.cards import COST_BPS, TAX_BPS, half_up

BANK = "meridian"


@dataclass(frozen=True, slots=True)
class Cut:
    """A file that is on disk."""

    file_id: str
    path: Path
    currency: str
    lines: int


class Settlement:
    """The files of ``book`` in ``directory``; whatever was cut and is missing there is written again."""

    def __init__(self, book: Book, directory: Path) -> None:
        self._book, self._directory = book, directory
        directory.mkdir(parents=True, exist_ok=True)
        for batch in book.batches.values():
            self._write(batch)

    def cut(self, on: date, now: datetime) -> list[Cut]:
        """A file for each currency with something to settle on ``on``, after those cut for it before."""
        for currency in self._book.unsettled_currencies(on):
            items = tuple(entry.number for entry in self._book.unsettled(on, currency))
            at = now.astimezone(UTC).isoformat(timespec="seconds")
            self._book.settle(Batch(self._next_id(on, currency), on.isoformat(), currency, items, at))
        return [
            self._write(batch) for batch in self._book.batches.values() if batch.settled_on == on.isoformat()
        ]

    def _next_id(self, on: date, currency: str) -> str:
        """Of the day's next file in this currency: the first has no number, then -2, -3, …"""
        cut = sum(
            b.settled_on == on.isoformat() and b.currency == currency for b in self._book.batches.values()
        )
        return f"{BANK}-{on:%Y%m%d}-{currency.lower()}" + (f"-{cut + 1}" if cut else "")

    def path(self, file_id: str) -> Path:
        return self._directory / f"{file_id}.txt"

    def _write(self, batch: Batch) -> Cut:
        path = self.path(batch.file_id)
        if not path.exists():
            write_whole(path, render(batch, [self._book.entries[number - 1] for number in batch.items]))
        return Cut(batch.file_id, path, batch.currency, len(batch.items))


def render(batch: Batch, entries: Iterable[Entry]) -> bytes:
    """The file's bytes: header, a line for each entry in the order of the book, trailer."""
    lines = [_line(entry) for entry in entries]
    costs = [line.cost for line in lines]
    taxes = [line.tax for line in lines]
    captured = [line.gross for line in lines if line.record == "C"]
    refunded = [line.gross for line in lines if line.record == "R"]
    net = sum(line.net for line in lines)
    texts = [
        f"H|1|{BANK}|{batch.file_id}|{batch.settled_on}|{batch.currency}|{len(lines)}|{net}",
        *(f"{x.record}|{x.rrn}|{x.gross}|{x.cost}|{x.tax}|{x.net}" for x in lines),
        f"T|{len(captured)}|{len(refunded)}|{sum(captured)}|{sum(refunded)}|{sum(costs)}|{sum(taxes)}|{net}",
    ]
    return seal(texts)


def seal(texts: list[str]) -> bytes:
    """End each line with the running SHA-256 of everything up to it: 16 hex digits, the trailer's all 64."""
    running = hashlib.sha256()
    sealed: list[str] = []
    for text in texts:
        running.update(text.encode("ascii"))
        digest = running.hexdigest()
        line = f"{text}|{digest if text.startswith('T') else digest[:16]}\n"
        running.update(line[len(text) :].encode("ascii"))
        sealed.append(line)
    return "".join(sealed).encode("ascii")


@dataclass(frozen=True, slots=True)
class _Line:
    record: str
    rrn: str
    gross: int
    cost: int
    tax: int

    @property
    def net(self) -> int:
        return (self.gross if self.record == "C" else -self.gross) - self.cost - self.tax


def _line(entry: Entry) -> _Line:
    """Captures pay the cost and its tax; a refund is kept back in full and no cost of it is given back."""
    if entry.kind is Kind.REFUND:
        return _Line("R", entry.rrn, entry.amount, 0, 0)
    cost = half_up(entry.amount, COST_BPS)
    return _Line("C", entry.rrn, entry.amount, cost, half_up(cost, TAX_BPS))
