"""What is posted in bulk: batches as columns, each checked as a whole, and any row of one as a unit."""

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

    __slots__ = ("__weakref__", "_paths", "_places")

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = tuple(paths)
        for path in self._paths:
            m.check_path(path, "paths")
        self._places = dict(zip(self._paths, range(len(self._paths)), strict=True))
        m.check(len(self._places) == len(self._paths), "paths", "one path twice")

    def place(self, path: str) -> int:
        return self._places[path]

    def __len__(self) -> int:
        return len(self._paths)

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __getitem__(self, place):  # type: ignore[no-untyped-def,override]
        return self._paths[place]


@dataclass(frozen=True, eq=False, kw_only=True)
class _Journals:
    """What every kind of batch says of its journals, one a row.

    ``ids``: 16 bytes a row (``uuid7s``). ``source_ids``: one a row; type and event are those of all. ``description``
    and each value of ``metadata``: for all rows or one a row. ``effective_at`` as in ``ledger.model.Journal``, for all.
    Arrays are copied. What could not be a ``Journal`` cannot be a row: ``InvalidEntry`` names the first such row.
    """

    kind: str
    source_type: str
    source_event: str
    source_ids: Sequence[str]
    ids: NDArray[np.uint8]
    amount: NDArray[np.int64]
    description: Text = ""
    metadata: Mapping[str, Text] = field(default_factory=lambda: MappingProxyType({}))
    effective_at: datetime | None = None

    def __post_init__(self) -> None:
        m.check_word(self.kind, "kind")
        m.check_word(self.source_type, "source.type")
        m.check_word(self.source_event, "source.event")
        n = len(self.source_ids)
        m.check(0 < n <= MOST_ROWS, "source_ids", f"1 to {MOST_ROWS} rows")
        self._check_source_ids()
        self._keep(ids=_uuids(self.ids, n, "ids"), amount=_column(self.amount, np.int64, n, "amount"))
        within = (self.amount > 0) & (self.amount <= m.MAX_AMOUNT)
        _check_rows(within, "amount", f"is not between 1 and {m.MAX_AMOUNT}")
        self._check_texts()
        if self.effective_at is not None:
            self._keep(effective_at=m.utc(self.effective_at, "effective_at"))

    def _keep(self, **values: object) -> None:
        """In place of what was given, which may change."""
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _check_source_ids(self) -> None:
        self._keep(source_ids=tuple(self.source_ids))
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
        m.check(len(self.metadata) <= 20, "metadata", "at most 20 keys")
        metadata = {key: _texts(value, n, "metadata") for key, value in sorted(self.metadata.items())}
        m.check_metadata(dict.fromkeys(metadata, ""))
        self._keep(
            description=_texts(self.description, n, "description"), metadata=MappingProxyType(metadata)
        )

    def __len__(self) -> int:
        return len(self.source_ids)

    def unit(self, row: int) -> m.Unit:
        """The row as ``ledger.post`` takes it."""
        journal = m.Journal(
            id=UUID(bytes=self.ids[row].tobytes()),
            kind=self.kind,
            source=m.Source(self.source_type, self.source_ids[row], self.source_event),
            postings=self._postings(row),
            hold=self._hold(row),
            effective_at=self.effective_at,
            description=_of_row(self.description, row),
            metadata={key: _of_row(value, row) for key, value in self.metadata.items()},
        )
        return m.Unit((journal,))

    def _postings(self, row: int) -> tuple[m.Posting, ...]:
        return ()

    def _hold(self, row: int) -> m.HoldAction | None:
        return None


@dataclass(frozen=True, eq=False, kw_only=True)
class _Pairs(_Journals):
    """Row i is between ``paths[debit[i]]`` and ``paths[credit[i]]``, all in one currency."""

    paths: Paths
    debit: NDArray[np.int32]
    credit: NDArray[np.int32]
    currency: str

    def __post_init__(self) -> None:
        _Journals.__post_init__(self)
        m.check_currency(self.currency)
        for name, places in (("debit", self.debit), ("credit", self.credit)):
            column = _column(places, np.int32, len(self), name)
            _check_rows((column >= 0) & (column < len(self.paths)), name, "is no place in paths")
            self._keep(**{name: column})
        _check_rows(self.debit != self.credit, "credit", "both sides are the same account")

    def _sides(self, row: int) -> tuple[str, str]:
        return self.paths[self.debit[row]], self.paths[self.credit[row]]


@dataclass(frozen=True, eq=False, kw_only=True)
class Transfers(_Pairs):
    """Journals of one posting each: row i moves ``amount[i]`` from ``paths[credit[i]]`` to ``paths[debit[i]]``."""

    def _postings(self, row: int) -> tuple[m.Posting, ...]:
        return (m.Posting(*self._sides(row), int(self.amount[row]), self.currency),)


@dataclass(frozen=True, eq=False, kw_only=True)
class Places(_Pairs):
    """Holds to place: row i reserves ``amount[i]`` on its pair, as ``ledger.model.Place``; ``hold_ids`` as ``ids``.

    ``expires_at`` and ``tolerance_bps`` are those of all.
    """

    hold_ids: NDArray[np.uint8]
    expires_at: datetime | None = None
    tolerance_bps: int = 0

    def __post_init__(self) -> None:
        _Pairs.__post_init__(self)
        self._keep(hold_ids=_uuids(self.hold_ids, len(self), "hold_ids"))
        m.check(type(self.tolerance_bps) is int, "tolerance_bps", "an integer")
        m.check(0 <= self.tolerance_bps <= 10_000, "tolerance_bps", "between 0 and 10000")
        if self.expires_at is not None:
            self._keep(expires_at=m.utc(self.expires_at, "expires_at"))

    def _hold(self, row: int) -> m.Place:
        id_, amount = UUID(bytes=self.hold_ids[row].tobytes()), int(self.amount[row])
        return m.Place(id_, *self._sides(row), amount, self.currency, self.expires_at, self.tolerance_bps)


@dataclass(frozen=True, eq=False, kw_only=True)
class Captures(_Journals):
    """Final captures: row i takes ``amount[i]`` out of hold ``hold_ids[i]`` and books it on the hold's own pair; what
    is left is given back. A batch stands whole where every row takes all of a hold that nothing was done to.
    """

    hold_ids: NDArray[np.uint8]

    def __post_init__(self) -> None:
        _Journals.__post_init__(self)
        self._keep(hold_ids=_uuids(self.hold_ids, len(self), "hold_ids"))

    def _hold(self, row: int) -> m.Capture:
        return m.Capture(UUID(bytes=self.hold_ids[row].tobytes()), int(self.amount[row]), final=True)


Batch = Transfers | Places | Captures


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


def _uuids(given: ArrayLike, n: int, name: str) -> NDArray[np.uint8]:
    ids = np.array(given, np.uint8)
    m.check(ids.shape == (n, 16), name, "16 bytes a row")
    return _frozen(ids)


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
