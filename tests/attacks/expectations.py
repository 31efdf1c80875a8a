"""Who may do what to the tables, views and functions of schema ledger: the closed list that the attacks go by.

What is in the catalogue and not here fails the suite.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Guard:
    """``append_only``: no UPDATE for anybody, its owner included; else its owner's functions keep it up to date.

    ``insert`` and ``update``: the columns that ``khata_app`` may insert or set itself; all else is written by functions
    with the owner's rights. ``merchant``: ``khata_merchant`` reads it, its own rows only.
    """

    append_only: bool = True
    insert: frozenset[str] = frozenset()
    update: frozenset[str] = frozenset()
    merchant: bool = False


EVERY_COLUMN = frozenset({"*"})
PLACED = frozenset({"book_id", "hold_id", "debit_account", "credit_account", "tolerance_bps", "expires_at"})

TABLES: dict[str, Guard] = {
    "account": Guard(merchant=True),
    "account_fact": Guard(),
    "account_leaf": Guard(),
    "act": Guard(),
    "arrival": Guard(),
    "balance": Guard(append_only=False, merchant=True),
    # Taking the book's lock is a write: the one column the application may set, and never back.
    "book": Guard(append_only=False, update=frozenset({"recorded_at"})),
    "checkpoint": Guard(),
    "cosignature": Guard(),
    "hold": Guard(append_only=False, insert=PLACED),
    "journal": Guard(insert=EVERY_COLUMN),
    "limit_fact": Guard(),
    "limit_use": Guard(append_only=False),
    "log_key": Guard(),
    "log_run": Guard(),
    "log_tile": Guard(),
    "period_fact": Guard(),
    "posting": Guard(insert=EVERY_COLUMN),
    "proposal": Guard(),
    "rollup": Guard(),
    "rollup_span": Guard(),
    "term": Guard(),
    "term_run": Guard(),
    "transfer": Guard(append_only=False),
    "verdict": Guard(),
}
VIEWS = {"day_end": Guard(), "line": Guard(), "own_line": Guard(merchant=True)}

# Columns that nobody but the application reads, by table.
WITHHELD = {"log_key": frozenset({"sealed_private"})}

# Functions that a role may run at all; those of the database's own machinery (triggers, parts of them) nobody may.
READS = frozenset(
    {
        *(
            "effective_lines",
            "known",
            "late_journals",
            "lines_among",
            "lines_as_of",
            "seq_at",
            "span_fan",
            "span_journals",
        ),
        *("spans_of", "spans_rolled_up", "sums_as_of", "day_of"),
        *("indexed_through", "metadata_of", "periods", "search", "term_bytes", "terms_in_use", "terms_of"),
        *("sealed", "entry_at"),
        *("limits_in_force", "plan_for", "total"),
    }
)
WRITES = frozenset(
    {
        *("append", "create_book", "open_accounts", "change_account", "set_limit"),
        *("propose", "decide_proposal", "close_period"),
        *("record_transfer", "record_arrival", "end_transfer"),
        *("roll_up", "index_journals"),
        *("seal", "add_log_key", "add_cosignature"),
    }
)
LOOK_UPS = frozenset({"broken", "find_sources", "find_accounts", "find_holds", "find_limits"})
RUN = {
    "khata_app": READS | WRITES | LOOK_UPS,
    "khata_audit": READS,
    "khata_merchant": frozenset[str](),
}
