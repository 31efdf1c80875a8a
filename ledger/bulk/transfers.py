"""What is posted in bulk: a batch of transfers as columns, checked as a whole, and any row of it as a unit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ledger import model as m
from ledger.errors import InvalidEntry

MOST_ROWS = 1 << 16

Text = str | Sequence[str]
"""One text for all rows, or one a row."""


class Paths(Sequence[str]):
    """Account paths that transfers name by their place in here: checked once, for every batch that uses them.

    Keep one for as long as you post: what is known of its accounts is found by place.
    """

    __slots__ = ("__weakref__", "_paths")

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = tuple(paths)
        for path in self._paths:
            m.check_path(path, "paths")
        m.check(len(set(self._paths)) == len(self._paths), "paths", "one path twice")

    def __len__(self) -> int:
        return len(self._paths)

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __getitem__(self, place):  # type: ignore[no-untyped-def,override]
        return self._paths[place]


@dataclass(frozen=True, slots=True, eq=False)
class Transfers:
    """Journals of one posting each: row i moves ``amount[i]`` from ``paths[credit[i]]`` to ``paths[debit[i]]``.

    ``ids``: 16 bytes a row (``uuid7s``). ``source_ids``: one a row; type and event are those of all. ``description``
    and each value of ``metadata``: for all rows or one a row. ``effective_at`` as in ``ledger.model.Journal``, for all.
    Arrays are copied. What could not be a ``Journal`` cannot be a row: ``InvalidEntry`` names the first such row.
    """

    paths: Paths
    debit: NDArray[np.int32]
    credit: NDArray[np.int32]
    amount: NDArray[np.int64]
    currency: str
    kind: str
    source_type: str
    source_event: str
    source_ids: Sequence[str]
    ids: NDArray[np.uint8]
    description: Text = ""
    metadata: Mapping[str, Text] = field(default_factory=lambda: MappingProxyType({}))
    effective_at: datetime | None = None

    def __post_init__(self) -> None:
        m.check_currency(self.currency)
        m.check_word(self.kind, "kind")
        m.check_word(self.source_type, "source.type")
        m.check_word(self.source_event, "source.event")
        self._check_columns()
        self._check_source_ids()
        self._check_texts()
        if self.effective_at is not None:
            object.__setattr__(self, "effective_at", m.utc(self.effective_at, "effective_at"))

    def _check_columns(self) -> None:
        places = len(self.paths)
        n = len(self.source_ids)
        m.check(0 < n <= MOST_ROWS, "source_ids", f"1 to {MOST_ROWS} rows")
        for name, kind in (("debit", np.int32), ("credit", np.int32), ("amount", np.int64)):
            object.__setattr__(self, name, _column(getattr(self, name), kind, n, name))
        for name, column in (("debit", self.debit), ("credit", self.credit)):
            _check_rows((column >= 0) & (column < places), name, "is no place in paths")
        _check_rows(self.debit != self.credit, "credit", "both sides are the same account")
        within = (self.amount > 0) & (self.amount <= m.MAX_AMOUNT)
        _check_rows(within, "amount", f"is not between 1 and {m.MAX_AMOUNT}")
        ids = np.array(self.ids, np.uint8)
        m.check(ids.shape == (n, 16), "ids", "16 bytes a row")
        object.__setattr__(self, "ids", _frozen(ids))

    def _check_source_ids(self) -> None:
        object.__setattr__(self, "source_ids", tuple(self.source_ids))
        given = self.source_ids
        # All at once; what fails is then looked for.
        together = "".join(given) if all(type(id_) is str for id_ in given) else " "
        fine = _is_one_ascii_word(together)
        lengths = set(map(len, given)) if fine else {0}
        if not (fine and min(lengths) >= 1 and max(lengths) <= 64):
            for row, id_ in enumerate(given):
                ok = type(id_) is str and 1 <= len(id_) <= 64 and _is_one_ascii_word(id_)
                m.check(ok, "source.id", f"row {row}: 1 to 64 printable ASCII characters")

    def _check_texts(self) -> None:
        n = len(self)
        object.__setattr__(self, "description", _texts(self.description, n, "description"))
        m.check(len(self.metadata) <= 20, "metadata", "at most 20 keys")
        metadata = {key: _texts(value, n, "metadata") for key, value in sorted(self.metadata.items())}
        m.check_metadata(dict.fromkeys(metadata, ""))
        object.__setattr__(self, "metadata", MappingProxyType(metadata))

    def __len__(self) -> int:
        return len(self.source_ids)

    def unit(self, row: int) -> m.Unit:
        """The row as ``ledger.post`` takes it."""
        posting = m.Posting(
            self.paths[self.debit[row]], self.paths[self.credit[row]], int(self.amount[row]), self.currency
        )
        journal = m.Journal(
            id=UUID(bytes=self.ids[row].tobytes()),
            kind=self.kind,
            source=m.Source(self.source_type, self.source_ids[row], self.source_event),
            postings=(posting,),
            effective_at=self.effective_at,
            description=_of_row(self.description, row),
            metadata={key: _of_row(value, row) for key, value in self.metadata.items()},
        )
        return m.Unit((journal,))


def _of_row(text: Text, row: int) -> str:
    return text if isinstance(text, str) else text[row]


def _column(
    given: ArrayLike, kind: type[np.int32] | type[np.int64], n: int, name: str
) -> NDArray[np.integer]:
    column = np.asarray(given)
    # Of integers only: what is cast from floats or truncated would be other money than was meant.
    m.check(column.dtype.kind == "i", name, "integers")
    m.check(column.shape == (n,), name, f"{n} rows, as many as source_ids")
    limits = np.iinfo(kind)
    _check_rows((column >= limits.min) & (column <= limits.max), name, "is out of range")
    return _frozen(np.array(column, kind))


def _is_one_ascii_word(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text


def _frozen(column: NDArray[Any]) -> NDArray[Any]:
    column.flags.writeable = False
    return column


def _check_rows(fine: NDArray[np.bool_], name: str, reason: str) -> None:
    if not fine.all():
        raise InvalidEntry(name, f"row {int(np.argmin(fine))}: {reason}")


def _is_text(text: str) -> bool:
    return len(text) <= 200 and text.isprintable()


def _texts(given: Text, n: int, name: str) -> Text:
    """Printable and at most 200 long, each."""
    if isinstance(given, str):
        m.check(_is_text(given), name, "at most 200 printable")
        return given
    texts = tuple(given)
    m.check(len(texts) == n, name, f"{n} rows, as many as source_ids")
    whole = all(type(text) is str for text in texts) and "".join(texts).isprintable()
    if not (whole and max(map(len, texts)) <= 200):
        for row, text in enumerate(texts):
            m.check(type(text) is str and _is_text(text), name, f"row {row}: at most 200 printable")
    return texts
