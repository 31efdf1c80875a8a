"""What the audit protects: every column of every table of schema ledger but those listed here, each with its reason.

A table or column that is added is protected, or is added here: `khata audit --tamper-test` changes each of them.
"""

from __future__ import annotations

Field = tuple[str, str]  # table, column

# The database has one copy only: nothing can be recomputed, whatever the row.
UNPROVABLE: dict[Field, str] = {
    ("account", "owner"): "who may read; it moves no money and no other row tells it",
    (
        "book",
        "version",
    ): "by which a writer sees whether somebody else wrote; no figure and no rule is made of it",
}

# Rows whose value has a second copy, as a condition on the row; the others' cannot be recomputed, for the reason given.
PROVABLE_ROWS: dict[Field, tuple[str, str]] = {
    ("account", "path"): (
        "account_id IN (SELECT account_id FROM ledger.balance WHERE seq > 0)",
        "of an account without lines: journals repeat the names of the accounts they book on, and no other row does",
    ),
    ("account_fact", "floor"): (
        "fact > 1 OR account_id IN (SELECT account_id FROM ledger.balance WHERE fact = 1)",
        "of the fact that opened an account and that a later one replaced, as long as no line broke it: an opening is"
        " no act of the log, and the balance repeats the last fact only",
    ),
}

# How to change a value of which one more may be right: a book's clock may stand anywhere after its last row.
WRONG: dict[Field, str] = {("book", "recorded_at"): "{c} - interval '1 day'"}
