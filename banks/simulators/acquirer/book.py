"""The acquirer's own book: every request it decided, and what follows for authorizations and captures.

State is nothing but the fold of the book's lines, so a restart knows what the process before it knew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from typing import Any

from banks.card.spec import APPROVED
from banks.simulators.acquirer.requests import ORIGINAL_KINDS, Kind, Request
from banks.simulators.acquirer.storage import Storage


@dataclass(frozen=True, slots=True)
class Entry:
    """One request and its decision. ``original``: number of the entry it is about.

    ``awaits``: a reversal came before the message it is about, which is named "mti/stan/transmission" and
    will be declined.
    """

    number: int
    at: str
    kind: Kind
    stan: str
    rrn: str
    transmission: str
    amount: int
    currency: str
    code: str
    authorization_code: str | None = None
    original: int | None = None
    awaits: str | None = None
    replacement: int | None = None
    final: bool = False
    card: str | None = None
    merchant: str = ""
    terminal: str = ""
    tolerance_bps: int = 0

    @property
    def approved(self) -> bool:
        return self.code == APPROVED

    @property
    def booked_on(self) -> date:
        return datetime.fromisoformat(self.at).date()


@dataclass(frozen=True, slots=True)
class Batch:
    """A settlement file that was cut: its entries are settled. ``at``: when."""

    file_id: str
    settled_on: str
    currency: str
    items: tuple[int, ...]
    at: str


@dataclass(slots=True)
class Standing:
    """What is left of an approved authorization (``limit``, ``used`` by captures) or capture (by refunds).

    ``tolerance_bps``: how far captures may go beyond the limit.
    """

    limit: int
    used: int = 0
    open: bool = True
    tolerance_bps: int = 0

    @property
    def left(self) -> int:
        return self.limit - self.used

    @property
    def allowed(self) -> int:
        return self.left + self.limit * self.tolerance_bps // 10_000


@dataclass(frozen=True, slots=True)
class Decision:
    code: str
    original: Entry | None = None


@dataclass(slots=True)
class Book:
    """``Book(storage)`` loads what is there. One writer, one thread."""

    storage: Storage
    entries: list[Entry] = field(default_factory=list[Entry])
    batches: dict[str, Batch] = field(default_factory=dict[str, Batch])
    standing: dict[int, Standing] = field(default_factory=dict[int, Standing])
    settled: set[int] = field(default_factory=set[int])
    _by_key: dict[tuple[str, str, str], Entry] = field(default_factory=dict[tuple[str, str, str], Entry])
    _by_original: dict[str, Entry] = field(default_factory=dict[str, Entry])
    _awaited: set[str] = field(default_factory=set[str])

    def __post_init__(self) -> None:
        for line in self.storage.load():
            if line["kind"] == "batch":
                self._apply_batch(_batch(line))
            else:
                self._apply(_read_entry(line))

    def book(self, request: Request, decide: Callable[[Book, Request], Decision], now: datetime) -> Entry:
        """The entry of ``request``, on disk: the one it has already, or a new one as ``decide`` says."""
        known = self._by_key.get(request.key)
        if known is not None:
            return known if same(known, request) else _entry(request, Decision("94"), 0, now, None)
        decision = decide(self, request)
        awaits = None
        if request.kind is Kind.REVERSAL and request.original and decision.original is None:
            awaits = _name(request.original.mti, request.original.stan, request.original.transmission)
        entry = _entry(request, decision, len(self.entries) + 1, now, awaits)
        self.storage.append({k: v for k, v in asdict(entry).items() if not _is_empty(v)})
        self._apply(entry)
        return entry

    def find_original(self, request: Request) -> Entry | None:
        """The entry that field 90 names; the latest, as STANs wrap."""
        original = request.original
        if original is None:
            return None
        return self._by_original.get(_name(original.mti, original.stan, original.transmission))

    def is_awaited(self, request: Request) -> bool:
        """A reversal of this very request came before it."""
        return any(
            _name(mti, request.stan, request.transmission) in self._awaited for mti in _types(request.kind)
        )

    def unsettled(self, on: date, currency: str) -> list[Entry]:
        """Completed captures and refunds booked up to ``on`` that no file has settled, oldest first."""
        return [e for e in self.entries if self._is_due(e) and e.currency == currency and e.booked_on <= on]

    def unsettled_currencies(self, on: date) -> list[str]:
        return sorted({e.currency for e in self.entries if self._is_due(e) and e.booked_on <= on})

    def settle(self, batch: Batch) -> None:
        """Record that ``batch`` was cut, on disk."""
        self.storage.append({"kind": "batch", **asdict(batch)})
        self._apply_batch(batch)

    def open_authorizations(self) -> list[Entry]:
        """Approved, neither reversed nor finally captured: what issuers still hold."""
        kinds = (e for e in self.entries if e.kind is Kind.AUTHORIZATION)
        return [e for e in kinds if e.number in self.standing and self.standing[e.number].open]

    def _is_due(self, entry: Entry) -> bool:
        completed = entry.approved and entry.kind in (Kind.CAPTURE, Kind.REFUND)
        return completed and entry.number not in self.settled

    def _apply_batch(self, batch: Batch) -> None:
        self.batches[batch.file_id] = batch
        self.settled.update(batch.items)

    def _apply(self, entry: Entry) -> None:
        self.entries.append(entry)
        self._by_key[entry.stan, entry.rrn, entry.transmission] = entry
        for mti in _types(entry.kind):
            self._by_original[_name(mti, entry.stan, entry.transmission)] = entry
        if entry.awaits:
            self._awaited.add(entry.awaits)
        if entry.approved:
            self._move(entry)

    def _move(self, entry: Entry) -> None:
        """What an approved entry does to the standing of itself and of its original."""
        if entry.kind in (Kind.AUTHORIZATION, Kind.CAPTURE):
            self.standing[entry.number] = Standing(entry.amount, tolerance_bps=entry.tolerance_bps)
        original = self.standing.get(entry.original or 0)
        if original is None:
            return
        if entry.kind is Kind.REVERSAL:
            original.limit = entry.replacement or 0
        else:
            original.used += entry.amount
        original.open = original.open and not entry.final and original.left > 0


def same(entry: Entry, request: Request) -> bool:
    """A repeat, not another request under a used reference."""
    asked = (request.kind, request.amount, request.currency, request.replacement, request.final)
    return asked == (entry.kind, entry.amount, entry.currency, entry.replacement, entry.final)


def _is_empty(value: object) -> bool:
    return value is None or value is False or value == ""


def _types(kind: Kind) -> list[str]:
    return [mti for mti, original in ORIGINAL_KINDS.items() if original is kind]


def _name(mti: str, stan: str, transmission: str) -> str:
    return f"{mti}/{stan}/{transmission}"


def _entry(request: Request, decision: Decision, number: int, now: datetime, awaits: str | None) -> Entry:
    approved = decision.code == APPROVED
    original = decision.original
    code = None
    if approved:
        code = (
            f"{number % 1_000_000:06d}" if request.kind is Kind.AUTHORIZATION else request.authorization_code
        )
    return Entry(
        number=number,
        at=now.astimezone(UTC).isoformat(timespec="microseconds"),
        kind=request.kind,
        stan=request.stan,
        rrn=request.rrn,
        transmission=request.transmission,
        amount=request.amount,
        currency=request.currency,
        code=decision.code,
        authorization_code=code,
        original=original.number if original else None,
        awaits=awaits,
        replacement=request.replacement,
        final=request.final,
        card=request.card,
        merchant=request.merchant or (original.merchant if original else ""),
        terminal=request.terminal,
        tolerance_bps=request.tolerance_bps,
    )


def _read_entry(line: dict[str, Any]) -> Entry:
    kind = Kind(line.pop("kind"))
    return Entry(kind=kind, **line)


def _batch(line: dict[str, Any]) -> Batch:
    return Batch(line["file_id"], line["settled_on"], line["currency"], tuple(line["items"]), line["at"])
