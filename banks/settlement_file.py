"""Reads an acquirer's settlement file (docs/settlement-file.md): whole and right, or refused by line and field."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import BinaryIO

from banks.errors import SettlementRefused

VERSION = "1"
MAX_LINE = 256  # bytes with the line feed; the longest line of the format is well below
MAX_LINES = 1_000_000
_MAX_AMOUNT = 10**12 - 1

_BANK = re.compile(r"[a-z][a-z0-9]{1,30}")
_FILE_ID = re.compile(r"[a-z0-9-]{1,40}")
_CURRENCY = re.compile(r"[A-Z]{3}")
_RRN = re.compile(r"[0-9A-Z]{12}")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_AMOUNT = re.compile(r"0|[1-9][0-9]{0,11}")
_SIGNED = re.compile(r"0|-?[1-9][0-9]{0,17}")
_COUNT = re.compile(r"0|[1-9][0-9]{0,6}")
_TOTAL = re.compile(r"0|[1-9][0-9]{0,17}")


class LineKind(StrEnum):
    CAPTURE = "capture"
    REFUND = "refund"


@dataclass(frozen=True, slots=True)
class SettlementLine:
    """One settled capture or refund. ``line``: its place in the file, the header being line 1.

    Minor units. ``net``: what the bank pays for it; negative for a refund, which it keeps back.
    """

    line: int
    kind: LineKind
    rrn: str
    amount: int
    cost: int
    tax: int
    net: int


@dataclass(frozen=True, slots=True)
class Totals:
    """Counts of lines, and sums over them in minor units."""

    captures: int
    refunds: int
    gross_captured: int
    gross_refunded: int
    cost: int
    tax: int
    net: int

    @classmethod
    def of(cls, lines: Iterable[SettlementLine]) -> Totals:
        captures = refunds = captured = refunded = cost = tax = net = 0
        for line in lines:
            if line.kind is LineKind.CAPTURE:
                captures, captured = captures + 1, captured + line.amount
            else:
                refunds, refunded = refunds + 1, refunded + line.amount
            cost, tax, net = cost + line.cost, tax + line.tax, net + line.net
        return cls(captures, refunds, captured, refunded, cost, tax, net)


@dataclass(frozen=True, slots=True)
class SettlementFile:
    """A file whose form, sums and checks are right. ``sha256``: of its bytes."""

    bank: str
    file_id: str
    settled_on: date
    currency: str
    lines: tuple[SettlementLine, ...]
    totals: Totals
    sha256: bytes


@dataclass(frozen=True, slots=True)
class _Header:
    bank: str
    file_id: str
    settled_on: date
    currency: str
    count: int
    net: int


@dataclass(frozen=True, slots=True)
class _Row:
    """A line split at its bars, its check already verified and taken off."""

    line: int
    record: str
    values: tuple[str, ...]

    def text(self, at: int, name: str, pattern: re.Pattern[str]) -> str:
        value = self.values[at]
        if not pattern.fullmatch(value):
            raise SettlementRefused(self.line, name, "does not have its form")
        return value

    def number(self, at: int, name: str, pattern: re.Pattern[str] = _AMOUNT) -> int:
        return int(self.text(at, name, pattern))

    def expect(self, record: str, values: int) -> None:
        if self.record != record:
            raise SettlementRefused(self.line, "record", f"expected {record}")
        if len(self.values) != values:
            raise SettlementRefused(self.line, "line", f"{len(self.values)} values, expected {values}")


def parse(stream: BinaryIO) -> SettlementFile:
    """Read a settlement file; raises ``SettlementRefused`` for anything but a whole and right one."""
    running = _Running()
    rows = _rows(stream, running)
    header = _header(next(rows))
    lines: list[SettlementLine] = []
    totals: Totals | None = None
    last = 1
    for row in rows:
        last = row.line
        if totals is not None:
            raise SettlementRefused(row.line, "line", "comes after the trailer")
        if row.record == "T":
            totals = _trailer(row)
        else:
            lines.append(_line(row))
    if totals is None:
        raise SettlementRefused(last + 1, "record", "the trailer is missing")
    _check_references(lines)
    _check_totals(header, lines, totals, last)
    return SettlementFile(
        bank=header.bank,
        file_id=header.file_id,
        settled_on=header.settled_on,
        currency=header.currency,
        lines=tuple(lines),
        totals=totals,
        sha256=running.of_file(),
    )


class _Running:
    """The running SHA-256 of the file; each line ends with what it was before that line's check."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def take(self, line: str, number: int) -> _Row:
        """Split ``line`` once its check is right."""
        content, _, check = line.rpartition("|")
        self._hash.update(content.encode("ascii"))
        running = self._hash.hexdigest()
        if check != (running if content.startswith("T") else running[:16]):
            raise SettlementRefused(number, "check", "does not agree with what stands before it")
        self._hash.update(f"|{check}\n".encode("ascii"))
        record, *values = content.split("|")
        return _Row(number, record, tuple(values))

    def of_file(self) -> bytes:
        return self._hash.digest()


def _rows(stream: BinaryIO, running: _Running) -> Iterator[_Row]:
    """Each line, once it is whole and its running check is right; at least one."""
    number = 0
    while data := stream.readline(MAX_LINE + 1):
        number += 1
        if number > MAX_LINES:
            raise SettlementRefused(number, "line", f"more than {MAX_LINES} lines")
        if not data.endswith(b"\n"):
            raise SettlementRefused(number, "line", "cut off" if len(data) <= MAX_LINE else "too long")
        if not data.isascii():
            raise SettlementRefused(number, "line", "not ASCII")
        yield running.take(data[:-1].decode("ascii"), number)
    if number == 0:
        raise SettlementRefused(1, "line", "the file is empty")


def _header(row: _Row) -> _Header:
    row.expect("H", 7)
    if row.values[0] != VERSION:
        raise SettlementRefused(row.line, "version", f"not {VERSION}")
    return _Header(
        bank=row.text(1, "bank", _BANK),
        file_id=row.text(2, "file_id", _FILE_ID),
        settled_on=_date(row, 3),
        currency=row.text(4, "currency", _CURRENCY),
        count=row.number(5, "count", _COUNT),
        net=row.number(6, "net", _SIGNED),
    )


def _date(row: _Row, at: int) -> date:
    try:
        return date.fromisoformat(row.text(at, "date", _DATE))
    except ValueError:
        raise SettlementRefused(row.line, "date", "there is no such day") from None


def _line(row: _Row) -> SettlementLine:
    kind = LineKind.REFUND if row.record == "R" else LineKind.CAPTURE
    row.expect("R" if kind is LineKind.REFUND else "C", 5)
    amount, cost, tax = row.number(1, "amount"), row.number(2, "cost"), row.number(3, "tax")
    if amount == 0:
        raise SettlementRefused(row.line, "amount", "is zero")
    if kind is LineKind.REFUND and (cost or tax):
        raise SettlementRefused(row.line, "cost" if cost else "tax", "a refund bears none")
    net = amount - cost - tax if kind is LineKind.CAPTURE else -amount
    if kind is LineKind.CAPTURE and net < 0:
        raise SettlementRefused(row.line, "cost", "cost and tax exceed the amount")
    if row.number(4, "net", _SIGNED) != net:
        raise SettlementRefused(row.line, "net", f"is {row.values[4]}, the line's own amounts give {net}")
    return SettlementLine(row.line, kind, row.text(0, "rrn", _RRN), amount, cost, tax, net)


def _trailer(row: _Row) -> Totals:
    row.expect("T", 7)
    return Totals(
        captures=row.number(0, "captures", _COUNT),
        refunds=row.number(1, "refunds", _COUNT),
        gross_captured=row.number(2, "gross_captured", _TOTAL),
        gross_refunded=row.number(3, "gross_refunded", _TOTAL),
        cost=row.number(4, "cost", _TOTAL),
        tax=row.number(5, "tax", _TOTAL),
        net=row.number(6, "net", _SIGNED),
    )


def _check_references(lines: list[SettlementLine]) -> None:
    seen: dict[str, int] = {}
    for line in lines:
        first = seen.setdefault(line.rrn, line.line)
        if first != line.line:
            raise SettlementRefused(line.line, "rrn", f"stands on line {first} already")


def _check_totals(header: _Header, lines: list[SettlementLine], stated: Totals, trailer: int) -> None:
    """Σ lines = trailer = header."""
    if not lines:
        raise SettlementRefused(1, "count", "a file settles at least one item")
    if header.count != len(lines):
        raise SettlementRefused(1, "count", f"is {header.count}, the file has {len(lines)} lines")
    found = Totals.of(lines)
    for name in Totals.__dataclass_fields__:
        if getattr(stated, name) != getattr(found, name):
            reason = f"is {getattr(stated, name)}, the lines give {getattr(found, name)}"
            raise SettlementRefused(trailer, name, reason)
    if header.net != found.net:
        raise SettlementRefused(1, "net", f"is {header.net}, the lines give {found.net}")
