"""Taking a book away: the canonical lines themselves, or the same in forms that other programs read.

Journals are made from the canonical lines and nothing else, so what another program adds up is what was hashed.
See docs/exports.md.

    chosen = Selection(after_seq=after, through_seq=through)        # or owner=, account=, currency=
    for name in FILES["hledger"]:
        async for chunk in export_file(conn, book_id, "hledger", name, chosen):
            file.write(chunk)
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from types import MappingProxyType
from typing import Any

from psycopg import AsyncConnection

from ledger.errors import InvalidEntry
from ledger.export import ads, parquet
from ledger.export.beancount import beancount
from ledger.export.money import decimal_text, exponent, minor_units
from ledger.export.plaintext import hledger, ledger
from ledger.export.selection import EVERYTHING, Chosen, Selection, choose, journal_pages, recorded_days
from ledger.export.tables import csv_header, csv_rows

__all__ = [
    "EVERYTHING",
    "FILES",
    "FORMATS",
    "Selection",
    "decimal_text",
    "exponent",
    "export_file",
    "export_journal",
    "minor_units",
    "recorded_days",
]

Chunks = AsyncGenerator[bytes]
Writer = Callable[[AsyncConnection[Any], Chosen], Chunks]


async def _jsonl(conn: AsyncConnection[Any], chosen: Chosen) -> Chunks:
    async for page in journal_pages(conn, chosen):
        yield b"".join(line + b"\n" for line in page)


async def _csv(conn: AsyncConnection[Any], chosen: Chosen) -> Chunks:
    yield csv_header()
    async for page in journal_pages(conn, chosen):
        yield csv_rows(page)


_WRITERS: dict[str, dict[str, Writer]] = {
    "jsonl": {"journal.jsonl": _jsonl},
    "csv": {"journal.csv": _csv},
    "hledger": {"books.hledger": hledger},
    "ledger": {"books.ledger": ledger},
    "beancount": {"books.beancount": beancount},
    "parquet": {
        "journals.parquet": parquet.journals,
        "lines.parquet": parquet.lines,
        "accounts.parquet": parquet.accounts,
    },
    "ads": {
        "GL_Detail.txt": ads.gl_detail,
        "Trial_Balance.txt": ads.trial_balance,
        "Chart_Of_Accounts.txt": ads.chart_of_accounts,
    },
}
FORMATS = tuple(_WRITERS)
"""The formats, by name."""
FILES = MappingProxyType({name: tuple(files) for name, files in _WRITERS.items()})
"""The files that each format is made of, by format."""


async def export_file(
    conn: AsyncConnection[Any], book_id: int, format: str, name: str, selection: Selection = EVERYTHING
) -> Chunks:
    """The file ``name`` of ``format`` (one of ``FILES[format]``), in chunks, none of them large: memory is flat.

    Reads by key: no transaction is needed for what is about journals and their balances alone, and all files of one
    export agree if ``selection.through_seq`` is given. In a snapshot they agree in everything. Raises ``InvalidEntry``,
    ``BookUnknown``, ``AccountUnknown`` before the first chunk.
    """
    writer = _WRITERS.get(format, {}).get(name)
    if writer is None:
        raise InvalidEntry("format", f"{format!r} with a file {name!r} is none of {', '.join(FORMATS)}")
    async for chunk in writer(conn, await choose(conn, book_id, selection)):
        yield chunk


async def export_journal(
    conn: AsyncConnection[Any],
    book_id: int,
    format: str,
    *,
    after_seq: int = 0,
    through_seq: int | None = None,
) -> Chunks:
    """``export_file`` for a format of one file, of a range of journals."""
    files = FILES.get(format, ())
    if len(files) != 1:
        raise InvalidEntry("format", f"{format!r} is no format of one file")
    async for chunk in export_file(
        *(conn, book_id, format, files[0]), Selection(after_seq=after_seq, through_seq=through_seq)
    ):
        yield chunk
