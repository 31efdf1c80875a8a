"""Each hold's life, replayed from its postings: terms, pair, dates, ceiling, and that it ends once.

A hold's postings come together (ordered by hold), so memory does not grow with the number of holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from ledger.audit import lines
from ledger.audit.accounts import Account
from ledger.audit.report import Key, Tally
from ledger.audit.rows import HoldLine, HoldRow

_PLACE, _INCREASE, _CAPTURE, _RELEASE, _EXPIRE = range(5)
_SUMS = ("held", "consumed", "captured", "released", "expired")


@dataclass(slots=True)
class _Life:
    """What a hold has come to. Minor units; names as in ``ledger.hold``."""

    held: int = 0
    consumed: int = 0
    captured: int = 0
    released: int = 0
    expired: int = 0

    @property
    def remaining(self) -> int:
        return self.held - self.consumed - self.released - self.expired

    def ceiling(self, tolerance_bps: int) -> int:
        """What captures may come to: what was never given back, and the tolerance on it."""
        kept = self.held - self.released - self.expired
        return kept + kept * tolerance_bps // 10_000


@dataclass(frozen=True, slots=True)
class HoldCheck:
    """Feed it each hold with all its postings in order."""

    book_id: int
    accounts: Mapping[int, Account]
    tally: Tally

    def hold(self, hold_id: str, rows: Sequence[HoldRow], postings: Sequence[HoldLine]) -> None:
        self.tally.rows += len(rows)
        if len(rows) != 1:
            self.tally.find(
                "hold", self._key(hold_id), "row", f"{len(rows)} rows" if rows else "missing", "one row"
            )
            return
        row = rows[0]
        if not postings:
            self.tally.find("hold", self._key(hold_id), "row", "there", "missing: no posting places it")
            return
        self._terms(row, postings[0])
        life = _Life()
        for _, group in groupby(postings, key=lambda p: p.journal_seq):
            self._step(row, life, list(group))
        for name in _SUMS:
            if getattr(row, name) != getattr(life, name):
                self.tally.find("hold", self._key(hold_id), name, getattr(row, name), getattr(life, name))

    def _terms(self, row: HoldRow, first: HoldLine) -> None:
        """The row says what the canonical line of the placing journal says."""
        key = self._key(row.hold_id)
        if first.canonical is None:
            self.tally.find(
                "posting", self._line_key(first), "hold_action", first.action, "0: a hold is placed first"
            )
            return
        said = (lines.parse(first.canonical) or {}).get("hold")
        terms: dict[str, Any] = said if isinstance(said, dict) else {}
        for column in ("debit_account", "credit_account"):
            account = self.accounts.get(getattr(row, column))
            path = terms.get(column.removesuffix("_account"))
            # By number as well: while accounts may have been renamed, the placing line still has the number.
            if getattr(row, column) != getattr(first, column) or account is None:
                self.tally.find(
                    "hold", key, column, getattr(row, column), f"{getattr(first, column)}: {path}"
                )
        for name in ("tolerance_bps", "expires_at"):
            if getattr(row, name) != terms.get(name):
                self.tally.find("hold", key, name, getattr(row, name), terms.get(name))

    def _step(self, row: HoldRow, life: _Life, postings: list[HoldLine]) -> None:
        """One journal's lines of the hold."""
        pending = [p for p in postings if p.layer == 1]
        posted = [p for p in postings if p.layer != 1]
        for p in pending:
            if (p.debit_account, p.credit_account) != (row.debit_account, row.credit_account):
                stored = f"{p.debit_account} and {p.credit_account}"
                self._wrong(
                    p, "accounts", stored, f"the hold's own, {row.debit_account} and {row.credit_account}"
                )
        actions = [p.action for p in pending]
        match actions:
            case [0 | 1 | 3 | 4] if not posted:
                self._single(row, life, pending[0])
            case [2] | [2, 3] if len(posted) == 1:
                self._capture(row, life, pending, posted[0])
            case _:
                self._wrong(
                    postings[0],
                    "hold_action",
                    [p.action for p in postings],
                    "the lines of one hold operation",
                )
                _add(life, postings)

    def _single(self, row: HoldRow, life: _Life, p: HoldLine) -> None:
        if p.action == _PLACE and life.held:
            self._wrong(p, "hold_action", "place", "another: it was placed before")
        if p.action != _PLACE and life.remaining <= 0:
            self._wrong(p, "hold_action", p.action, "none: nothing was left of the hold")
        elif p.action in (_RELEASE, _EXPIRE) and -p.amount > life.remaining:
            self._wrong(p, "amount", p.amount, f"no more than what was left, {life.remaining}")
        elif p.action == _EXPIRE and -p.amount != life.remaining:
            self._wrong(p, "amount", p.amount, f"all that was left, {life.remaining}")
        self._date(row, p)
        _add(life, [p])

    def _capture(self, row: HoldRow, life: _Life, pending: list[HoldLine], posted: HoldLine) -> None:
        consumed = min(posted.amount, life.remaining)
        if life.remaining <= 0:
            self._wrong(pending[0], "hold_action", "capture", "none: nothing was left of the hold")
        elif -pending[0].amount != consumed:
            self._wrong(pending[0], "amount", pending[0].amount, -consumed)
        if len(pending) == 2 and -pending[1].amount != life.remaining - consumed:
            self._wrong(
                pending[1], "amount", pending[1].amount, f"all that was left, {life.remaining - consumed}"
            )
        ceiling = life.ceiling(row.tolerance_bps)
        if life.captured + posted.amount > ceiling:
            self._wrong(
                posted, "amount", posted.amount, f"at most {ceiling - life.captured}: the hold's ceiling"
            )
        self._date(row, pending[0])
        _add(life, [*pending, posted])

    def _date(self, row: HoldRow, p: HoldLine) -> None:
        """Placed, increased and captured before it expires; expired from then on."""
        if p.recorded_at is None or p.action == _RELEASE:
            return
        over = row.expires_at is not None and p.recorded_at >= row.expires_at
        if over != (p.action == _EXPIRE):
            stored = f"{p.action} at {p.recorded_at}"
            self._wrong(p, "hold_action", stored, f"another: the hold expires at {row.expires_at}")

    def _wrong(self, p: HoldLine, field: str, stored: object, recomputed: object) -> None:
        self.tally.find("posting", self._line_key(p), field, stored, recomputed, f"hold {p.hold_id}")

    def _key(self, hold_id: str) -> Key:
        return {"book_id": self.book_id, "hold_id": hold_id}

    def _line_key(self, p: HoldLine) -> Key:
        return {"book_id": self.book_id, "journal_seq": p.journal_seq, "line": p.line}


def _add(life: _Life, postings: Sequence[HoldLine]) -> None:
    for p in postings:
        if p.layer != 1:
            life.captured += p.amount
        elif p.action == _CAPTURE:
            life.consumed -= p.amount
        elif p.action == _RELEASE:
            life.released -= p.amount
        elif p.action == _EXPIRE:
            life.expired -= p.amount
        else:
            life.held += p.amount
