"""What an audit says: checks, what each examined, and findings that name a row, a field and both values.

Other packages bring their own ``Examiner``; the ledger knows none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from psycopg import AsyncConnection

FINDINGS_KEPT = 100  # of each check: the rest are counted, so that a ruined book still fits in memory

Progress = Callable[[int, int], None]  # journals examined so far, journals in all

Key = dict[str, int | str]  # a row's primary key by column name


@dataclass(frozen=True, slots=True)
class Check:
    """One claim about the books. ``id`` is that of the invariant it proves, with a suffix where there are several."""

    id: str
    title: str


@dataclass(frozen=True, slots=True)
class Finding:
    """A row that does not say what it should.

    ``key``: the row's primary key by column name; ``about``: the account, for people. ``stored`` is what the row
    says, ``recomputed`` what the other rows say it must be; "missing" where there is no row.
    """

    table: str
    key: Mapping[str, int | str]
    field: str
    stored: str
    recomputed: str
    about: str = ""

    def __str__(self) -> str:
        key = ", ".join(f"{name}={value}" for name, value in self.key.items())
        about = f" ({self.about})" if self.about else ""
        return f"{self.table} {key}{about}: {self.field} is {self.stored}, must be {self.recomputed}"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """``rows`` were examined; ``found`` is how many did not fit, ``findings`` the first of them."""

    check: Check
    rows: int
    findings: tuple[Finding, ...]
    found: int

    @property
    def passed(self) -> bool:
        return self.found == 0


@dataclass(slots=True)
class Tally:
    """A check while it runs."""

    check: Check
    rows: int = 0
    found: int = 0
    findings: list[Finding] = field(default_factory=list)

    def find(
        self,
        table: str,
        key: Mapping[str, int | str],
        field: str,
        stored: object,
        recomputed: object,
        about: str = "",
    ) -> None:
        """Note that ``field`` of a row is ``stored`` and not ``recomputed``."""
        self.found += 1
        if len(self.findings) < FINDINGS_KEPT:
            self.findings.append(Finding(table, key, field, _shown(stored), _shown(recomputed), about))

    def follows(self) -> None:
        """Count a row that is wrong only because of one that has been named already."""
        self.found += 1

    def result(self) -> CheckResult:
        return CheckResult(self.check, self.rows, tuple(self.findings), self.found)


def _shown(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex()
    return "none" if value is None else str(value)


class Tallies:
    """The tally of each check, by its id."""

    def __init__(self, checks: Iterable[Check]) -> None:
        self._by_id: dict[str, Tally] = {}
        for check in checks:
            if check.id in self._by_id:
                raise ValueError(f"two checks are called {check.id}")
            self._by_id[check.id] = Tally(check)

    def __getitem__(self, check: Check) -> Tally:
        return self._by_id[check.id]

    def results(self) -> list[CheckResult]:
        return [tally.result() for tally in self._by_id.values()]


class Examiner(Protocol):
    """Proves some checks over one book. ``conn`` is in a read-only snapshot: read what you like, write nothing."""

    @property
    def checks(self) -> tuple[Check, ...]: ...

    async def examine(
        self, conn: AsyncConnection[Any], book_id: int, tallies: Tallies, progress: Progress
    ) -> None: ...
