"""The books as of the past, on both axes of time: effective on a day, known at a journal or an instant.

Each question takes no lock. What was known is read from running balances, what was effective from rollups
(migrations, 0006_rollups.sql), so the length of the book does not matter. Amounts are minor units; balances are
signed by the account's normal side. Days are UTC, and whole.

Raises ``NotRecorded`` where ``known`` names a journal that the book does not have yet.
"""

from ledger.as_of.axes import AsOf, known_seq
from ledger.as_of.balances import BalanceAsOf, Total, balance, balances, totals, trial_balance
from ledger.as_of.restatement import LateJournal, RestatedBalance, Restatement, restated
from ledger.as_of.statement import DayPosition, EffectiveLine, EffectiveStatement, statement

__all__ = [
    "AsOf",
    "BalanceAsOf",
    "DayPosition",
    "EffectiveLine",
    "EffectiveStatement",
    "LateJournal",
    "RestatedBalance",
    "Restatement",
    "Total",
    "balance",
    "balances",
    "known_seq",
    "restated",
    "statement",
    "totals",
    "trial_balance",
]
