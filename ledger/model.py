"""What can be said to the ledger: journals, their postings, what they do to holds, and units.

Every value is valid or cannot be built (``InvalidEntry``), and is frozen. Amounts are integers in the
currency's minor unit (ISO 4217). A posting is a debit/credit pair of one amount in one currency, so a
journal that does not balance cannot be written down.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from functools import lru_cache
from types import MappingProxyType
from typing import Any
from uuid import UUID

from ledger.errors import InvalidEntry, Refusal

MAX_AMOUNT = 10**15  # minor units; leaves three decimal orders below int64 for balances
MAX_LINES = 1000
_PATH = re.compile(r"(Assets|Liabilities|Equity|Income|Expenses)(:[A-Za-z0-9][A-Za-z0-9_-]{0,63}){1,7}")
_CURRENCY = re.compile(r"[A-Z]{3}")
_WORD = re.compile(r"[a-z][a-z0-9_]{0,39}")
_SOURCE_ID = re.compile(r"[!-~]{1,64}")
_METADATA_KEY = re.compile(r"[a-z][a-z0-9_.]{0,39}")
_NO_METADATA: Mapping[str, str] = MappingProxyType({})


class Layer(IntEnum):
    """``POSTED`` has moved or is owed; ``PENDING`` is promised and reserved (accounting.md, "Layers")."""

    POSTED = 0
    PENDING = 1


class AccountType(StrEnum):
    ASSET = "asset"
    LIABILITY = "liability"
    EQUITY = "equity"
    INCOME = "income"
    EXPENSE = "expense"

    @property
    def debit_normal(self) -> bool:
        return self in (AccountType.ASSET, AccountType.EXPENSE)


TYPE_BY_ROOT = {
    "Assets": AccountType.ASSET,
    "Liabilities": AccountType.LIABILITY,
    "Equity": AccountType.EQUITY,
    "Income": AccountType.INCOME,
    "Expenses": AccountType.EXPENSE,
}


class AccountStatus(StrEnum):
    OPEN = "open"
    FROZEN = "frozen"
    CLOSED = "closed"


class OnClosed(StrEnum):
    """What becomes of a journal that is effective in a closed period."""

    REFUSE = "refuse"
    FIRST_OPEN_DAY = "first_open_day"


def check(ok: object, name: str, reason: str) -> None:
    """Raise ``InvalidEntry`` unless ``ok``."""
    if not ok:
        raise InvalidEntry(name, reason)


# What bulk posting checks for every journal: known words are looked up, and a reason is only written for a refusal.
@lru_cache(maxsize=1 << 16)
def _is_path(path: str) -> bool:
    return _PATH.fullmatch(path) is not None


@lru_cache(maxsize=1 << 10)
def _is_currency(currency: str) -> bool:
    return _CURRENCY.fullmatch(currency) is not None


@lru_cache(maxsize=1 << 10)
def _is_word(word: str) -> bool:
    return _WORD.fullmatch(word) is not None


@lru_cache(maxsize=1 << 10)
def _is_metadata_key(key: str) -> bool:
    return _METADATA_KEY.fullmatch(key) is not None


def check_path(path: str, name: str = "account") -> None:
    if not _is_path(path):
        raise InvalidEntry(name, f"{path!r} is not an account path such as Assets:Bank:Meridian:Escrow")


def check_currency(currency: str) -> None:
    if not _is_currency(currency):
        raise InvalidEntry("currency", f"{currency!r} is not three capital letters")


def check_word(word: str, name: str) -> None:
    if not _is_word(word):
        raise InvalidEntry(name, f"{word!r} is not a lower-case word")


def check_amount(amount: int, name: str = "amount") -> None:
    # bool is an int to Python, and 1.0 == 1: only a true int is money.
    if type(amount) is not int:
        raise InvalidEntry(name, "an amount is an integer in minor units")
    if not 0 < amount <= MAX_AMOUNT:
        raise InvalidEntry(name, f"{amount} is not between 1 and {MAX_AMOUNT}")


def utc(at: datetime, name: str) -> datetime:
    """``at`` in UTC: one instant is one text in the canonical line, whatever zone it came in."""
    check(at.tzinfo is not None and at.utcoffset() is not None, name, "a time needs its zone")
    check(1901 <= at.year <= 8999, name, "out of range")
    return at.astimezone(UTC)


@dataclass(frozen=True, slots=True)
class NewAccount:
    """An account to open. Its type follows from the first word of the path.

    ``floor``: the lowest ``available`` may fall to, in minor units; None for no floor, 0 for no overdraft.
    ``owner``: opaque id of who may read it (row-level security); None for the platform's own accounts.
    """

    path: str
    currency: str
    floor: int | None = None
    owner: str | None = None

    def __post_init__(self) -> None:
        check_path(self.path)
        check_currency(self.currency)
        check(self.floor is None or type(self.floor) is int, "floor", "an integer in minor units, or none")
        check(self.floor is None or abs(self.floor) <= MAX_AMOUNT, "floor", "out of range")
        check(self.owner is None or _SOURCE_ID.fullmatch(self.owner), "owner", "1 to 64 printable characters")

    @property
    def type(self) -> AccountType:
        return TYPE_BY_ROOT[self.path.split(":", 1)[0]]


@dataclass(frozen=True, slots=True)
class Posting:
    """``amount`` minor units of ``currency`` from ``credit`` to ``debit`` (account paths).

    ``up_to``: as much as is available, at most ``amount``: the least of available − floor over the sides whose
    available falls (no floor counts as 0 here). The journal that stands says both what was asked and what was booked.
    """

    debit: str
    credit: str
    amount: int
    currency: str
    layer: Layer = Layer.POSTED
    up_to: bool = False

    def __post_init__(self) -> None:
        check_path(self.debit, "debit")
        check_path(self.credit, "credit")
        check(self.debit != self.credit, "credit", "both sides are the same account")
        check_amount(self.amount)
        check_currency(self.currency)
        check(type(self.up_to) is bool, "up_to", "true or false")


@dataclass(frozen=True, slots=True)
class Source:
    """What in the world caused a journal: unique in its book, so a replay changes nothing."""

    type: str
    id: str
    event: str

    def __post_init__(self) -> None:
        check_word(self.type, "source.type")
        check(_SOURCE_ID.fullmatch(self.id), "source.id", "1 to 64 printable ASCII characters")
        check_word(self.event, "source.event")

    def __str__(self) -> str:
        return f"{self.type}/{self.id}/{self.event}"


@dataclass(frozen=True, slots=True)
class Place:
    """Reserve ``amount`` on the pair. ``tolerance_bps``: how far captures may exceed it, in 1/10000."""

    hold_id: UUID
    debit: str
    credit: str
    amount: int
    currency: str
    expires_at: datetime | None = None
    tolerance_bps: int = 0

    def __post_init__(self) -> None:
        Posting(self.debit, self.credit, self.amount, self.currency)
        check(type(self.tolerance_bps) is int, "tolerance_bps", "an integer")
        check(0 <= self.tolerance_bps <= 10_000, "tolerance_bps", "between 0 and 10000")
        if self.expires_at is not None:
            object.__setattr__(self, "expires_at", utc(self.expires_at, "expires_at"))


@dataclass(frozen=True, slots=True)
class Increase:
    """Reserve ``amount`` more on the same pair."""

    hold_id: UUID
    amount: int

    def __post_init__(self) -> None:
        check_amount(self.amount)


@dataclass(frozen=True, slots=True)
class Capture:
    """Take ``amount`` out of the hold and book it; ``final`` releases what is left.

    ``debit``/``credit``: the pair the captured amount is booked on; None books it on the hold's own pair
    (a wallet), a card hold names the receivable and the merchant instead.
    """

    hold_id: UUID
    amount: int
    final: bool = False
    debit: str | None = None
    credit: str | None = None

    def __post_init__(self) -> None:
        check_amount(self.amount)
        check((self.debit is None) == (self.credit is None), "debit", "name both accounts or neither")
        if self.debit is not None and self.credit is not None:
            check_path(self.debit, "debit")
            check_path(self.credit, "credit")
            check(self.debit != self.credit, "credit", "both sides are the same account")


@dataclass(frozen=True, slots=True)
class Release:
    """Give back ``amount`` of the hold, or all that is left when None."""

    hold_id: UUID
    amount: int | None = None

    def __post_init__(self) -> None:
        if self.amount is not None:
            check_amount(self.amount)


@dataclass(frozen=True, slots=True)
class Expire:
    """Give back all that is left, once ``expires_at`` has passed."""

    hold_id: UUID


HoldAction = Place | Increase | Capture | Release | Expire


@dataclass(frozen=True, slots=True)
class Journal:
    """One balanced entry. ``postings`` are booked as given; ``hold`` adds the lines of a hold operation.

    ``effective_at``: when it counts; None means the time it is recorded. ``reverses``: seq of the journal it
    undoes; then ``postings`` must be left empty, the ledger books the mirror image.
    ``description`` and ``metadata`` must carry no personal data: opaque ids only.
    ``on_closed``: where the period of a stated ``effective_at`` is closed, refuse or count it on the first open day
    (from 00:00 UTC); the time asked for stays in the canonical line.
    """

    id: UUID
    kind: str
    source: Source
    postings: tuple[Posting, ...] = ()
    hold: HoldAction | None = None
    effective_at: datetime | None = None
    description: str = ""
    metadata: Mapping[str, str] = field(default_factory=lambda: _NO_METADATA)
    reverses: int | None = None
    on_closed: OnClosed = OnClosed.REFUSE

    def __post_init__(self) -> None:
        check_word(self.kind, "kind")
        self._check_lines()
        if self.effective_at is not None:
            object.__setattr__(self, "effective_at", utc(self.effective_at, "effective_at"))
        if self.on_closed is not OnClosed.REFUSE:
            check(type(self.on_closed) is OnClosed, "on_closed", "refuse or first_open_day")
        if self.description:
            check(_is_text(self.description), "description", "at most 200 printable")
        if self.metadata:
            # A copy: what is checked here must be what is posted later.
            object.__setattr__(self, "metadata", MappingProxyType(dict(self.metadata)))
            check_metadata(self.metadata)

    def _check_lines(self) -> None:
        check(len(self.postings) <= MAX_LINES, "postings", f"more than {MAX_LINES}")
        if self.reverses is not None:
            check(
                not self.postings and self.hold is None,
                "reverses",
                "a reversal books the mirror image and nothing else",
            )
        elif not self.postings and self.hold is None:
            raise InvalidEntry(
                "postings", "a journal needs a posting, a hold operation or a journal to reverse"
            )
        for posting in self.postings:
            # Pending lines exist only through holds, so that every one of them ends (invariant I3).
            if posting.layer is not Layer.POSTED:
                raise InvalidEntry("postings", "pending lines come from holds")


def _is_text(value: str) -> bool:
    return len(value) <= 200 and value.isprintable()


def check_metadata(metadata: Mapping[str, str]) -> None:
    check(len(metadata) <= 20, "metadata", "at most 20 keys")
    for key, value in metadata.items():
        if not _is_metadata_key(key):
            raise InvalidEntry("metadata", f"{key!r} is not a key such as payment_id")
        if type(value) is not str:
            raise InvalidEntry("metadata", f"the value of {key} is not a string")
        if not _is_text(value):
            raise InvalidEntry("metadata", f"the value of {key} is too long or unprintable")


@dataclass(frozen=True, slots=True)
class Statement:
    """A caller's own SQL to run in the unit's transaction (its status change, its answer, its event).

    ``sql`` with ``%(name)s`` parameters; ``rows`` is the number of rows it must hit (None for any): another
    number refuses the unit with ``StatementRefused``.
    ``together``: run once for all units of a batch that have it. Its only parameter is then ``%(rows)s``, a JSON
    array of everybody's ``params`` (``jsonb_to_recordset``; UUIDs and times as text), and it must hit their ``rows``
    in all: write it so that none can hit more than its own.
    """

    sql: str
    params: Mapping[str, Any]
    rows: int | None = 1
    together: bool = False


@dataclass(frozen=True, slots=True)
class Unit:
    """Journals that stand or fall together, and the caller's statements that go with them."""

    journals: tuple[Journal, ...]
    statements: tuple[Statement, ...] = ()

    def __post_init__(self) -> None:
        check(self.journals, "journals", "a unit needs a journal")
        if len(self.journals) > 1:
            sources = {journal.source for journal in self.journals}
            check(len(sources) == len(self.journals), "journals", "one source key twice")


@dataclass(frozen=True, slots=True)
class Posted:
    """A unit that stands: the gap-free numbers of its journals. ``replayed``: it stood before it came."""

    seqs: tuple[int, ...]
    ids: tuple[UUID, ...]
    replayed: bool = False


Result = Posted | Refusal
