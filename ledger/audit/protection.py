"""What the audit protects: every column of every table of schema ledger but those listed here, each with its reason.

A table or column that is added is protected, or is added here: `khata audit --tamper-test` changes each of them.
"""

from __future__ import annotations

Field = tuple[str, str]  # table, column

# The database has one copy only: nothing can be recomputed, whatever the row.
UNPROVABLE: dict[Field, str] = {
    (
        "book",
        "version",
    ): "by which a writer sees whether somebody else wrote; no figure and no rule is made of it",
    (
        "log_key",
        "sealed_private",
    ): "sealed under the master secret: who signs with it finds that it does not open",
}

# Rows whose value has a second copy, as a condition on the row; the others' cannot be recomputed, for the reason given.
PROVABLE_ROWS: dict[Field, tuple[str, str]] = {
    ("account", "owner"): (
        "account_id IN (SELECT account_id FROM ledger.account_leaf)",
        "of an account that is not in the log yet: no other row tells it",
    ),
    ("account", "path"): (
        "account_id IN (SELECT account_id FROM ledger.balance WHERE seq > 0"
        " UNION ALL SELECT account_id FROM ledger.account_leaf)",
        "of an account without lines that is not in the log yet: no other row repeats its name",
    ),
    ("account_fact", "floor"): (
        "fact > 1 OR account_id IN (SELECT account_id FROM ledger.balance WHERE fact = 1"
        " UNION ALL SELECT account_id FROM ledger.account_leaf)",
        "of the fact that opened an account that is not in the log yet and that a later one replaced, as long as no"
        " line broke it: an opening is no act, and the balance repeats the last fact only",
    ),
}

# Rows whose loss no other row tells, each with its reason.
LOSABLE: dict[str, str] = {
    "cosignature": "what a witness added is the witness's: nobody else counts it",
}

# How to change a value of which one more may be right: a book's clock may stand anywhere after its last row.
# A checkpoint may be sealed any time after the one before, while its keys sign; a key may sign from before the first.
WRONG: dict[Field, str] = {
    ("book", "recorded_at"): "{c} - interval '1 day'",
    ("checkpoint", "sealed_at"): "{c} - interval '400 days'",
    ("log_key", "signs_from"): "{c} + interval '100 days'",
    ("log_key", "old_until"): "coalesce({c} - interval '400 days', '2026-11-22')",
}
