"""What every account holds, line after line: 48 bytes an account, by its number."""

from __future__ import annotations

from array import array
from typing import NamedTuple


class Side(NamedTuple):
    """One side of a posting as its row states it: the account, its numbers after the line."""

    account: int
    seq: int
    posted: int
    available: int
    incoming: int


class Running:
    """Balances of the accounts 1 to ``count``, signed by their normal side; and gross posted sums of what was added."""

    def __init__(self, count: int) -> None:
        self.seq, self.posted, self.available, self.incoming, self.debits, self.credits = (
            array("q", bytes(8 * (count + 1))) for _ in range(6)
        )

    def set(self, side: Side) -> None:
        """What stood before the first line."""
        at = side.account
        self.seq[at], self.posted[at], self.available[at], self.incoming[at] = side[1:]

    def add(self, account: int, amount: int, *, pending: bool, debit: bool, debit_normal: bool) -> Side:
        """Book a line; the numbers after it."""
        inflow = debit == debit_normal
        self.seq[account] += 1
        if not pending:
            self.posted[account] += amount if inflow else -amount
            self.available[account] += amount if inflow else -amount
            if debit:
                self.debits[account] += amount
            else:
                self.credits[account] += amount
        elif inflow:
            self.incoming[account] += amount
        else:
            self.available[account] -= amount
        return self.of(account)

    def of(self, account: int) -> Side:
        return Side(
            account, self.seq[account], self.posted[account], self.available[account], self.incoming[account]
        )
