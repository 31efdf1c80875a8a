"""The order in which a book's entries were made, found anew from three files that are each in order.

By their times; where those are the same an act comes right after the journal that it says was the last, and what an act
or a journal needs comes before it: accounts first, then acts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import orjson

from ledger.import_pack import entries
from ledger.import_pack.errors import NotImportable
from ledger.import_pack.source import FILES, Pack, lines


class Entry(NamedTuple):
    """``said``: what the line says. ``at``: when it was recorded; RFC 3339 texts of one length sort as times do."""

    source: str
    number: int
    line: bytes
    said: dict[str, Any]
    at: str


def in_order(pack: Pack) -> Iterator[Entry]:
    """Every entry of the pack. Raises ``NotImportable`` for an act after a journal that there is not."""
    accounts, acts, journals = (_entries(pack, source) for source in FILES)
    account, act, journal = next(accounts, None), next(acts, None), next(journals, None)
    head = 0
    while account or act or journal:
        if account and _first(account, act) and _first(account, journal):
            yield account
            account = next(accounts, None)
        elif act and _due(act, head, journal):
            yield act
            act = next(acts, None)
        elif journal:
            yield journal
            head, journal = journal.number, next(journals, None)
        elif account:  # an act that cannot be due does not keep it
            yield account
            account = next(accounts, None)
        else:
            assert act is not None
            raise NotImportable(f"act {act.number} was done after a journal that the pack does not hold")


def _entries(pack: Pack, source: str) -> Iterator[Entry]:
    time = "opened_at" if source == "account" else "recorded_at"
    for number, line in enumerate(lines(pack, FILES[source]), start=1):
        said = orjson.loads(line)
        yield Entry(source, number, line, said, said[time])


def _first(entry: Entry, other: Entry | None) -> bool:
    return other is None or entry.at <= other.at


def _due(act: Entry, head: int, journal: Entry | None) -> bool:
    last = entries.after(act.said)
    return _first(act, journal) if last is None else last <= head
