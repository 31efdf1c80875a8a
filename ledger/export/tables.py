"""The journal as CSV (RFC 4180): one row a line, each posting being its debit line and its credit line.

Texts are quoted, and those that a spreadsheet would run as a formula start with an apostrophe: use jsonl where the
exact text matters.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator

import orjson

from ledger.export.money import decimal_text

COLUMNS = (
    *("seq", "id", "kind", "source", "effective_at", "recorded_at", "description"),
    *("line", "layer", "side", "account", "currency", "amount", "amount_minor"),
)
# What makes a cell a formula in one spreadsheet or another, full-width forms too.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")


def csv_header() -> bytes:
    return csv_text([COLUMNS])


def csv_rows(lines: Iterable[bytes]) -> bytes:
    """The rows of canonical ``lines``. ``amount`` in major units, negative only where a hold is given back."""
    return csv_text(row for line in lines for row in _rows(line))


def _rows(line: bytes) -> Iterator[tuple[object, ...]]:
    journal = orjson.loads(line)
    source = "/".join(journal["source"][part] for part in ("type", "id", "event"))
    head = (
        *(journal["seq"], journal["id"], journal["kind"], text_cell(source)),
        *(journal["effective_at"], journal["recorded_at"], text_cell(journal["description"])),
    )
    for number, p in enumerate(journal["postings"], start=1):
        amount, currency = int(p["amount"]), p["currency"]
        for side in ("debit", "credit"):
            figures = (currency, decimal_text(amount, currency), amount)
            yield (*head, number, p["layer"], side, p[side], *figures)


def text_cell(text: str) -> str:
    """``text`` as a cell that no spreadsheet runs."""
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text


def csv_text(rows: Iterable[tuple[object, ...]]) -> bytes:
    """``rows`` as UTF-8; every text is quoted, no number is."""
    out = io.StringIO(newline="")
    csv.writer(out, quoting=csv.QUOTE_NONNUMERIC).writerows(rows)
    return out.getvalue().encode()
