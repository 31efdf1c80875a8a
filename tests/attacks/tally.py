"""What was attempted and how it was refused, counted for the table that ``make attack`` prints."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROLES = ("khata_app", "khata_audit", "khata_merchant", "khata_owner")
MIGRATIONS = Path(__file__).parents[2] / "migrations" / "sql"

# PostgreSQL's own states, raised before any rule of ours is asked (docs/attacks.md).
NATIVE = {
    "42501": "no privilege",
    "23505": "key used twice",
    "23502": "column left out",
    "22003": "sum past 64 bits",
    "40001": "snapshot from before the head",
    "55P03": "book taken by somebody else",
    "428C9": "generated column",
}

met: Counter[tuple[str, str]] = Counter()  # (SQLSTATE, role)


def count(state: str, role: str) -> None:
    if state.startswith("KH") or state in NATIVE:
        met[state, role] += 1


def own_states() -> dict[str, str]:
    """Our SQLSTATEs and what each refuses, from the list in the migrations."""
    listed = "\n".join(path.read_text() for path in sorted(MIGRATIONS.glob("*.sql")))
    return dict(re.findall(r"(KH0\d\d) (.+?)(?=\s{2,}|\n|\Z)", "\n".join(_list_lines(listed))))


def _list_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if re.match(r"-- +KH0\d\d ", line)]


def raised_states() -> set[str]:
    """Our SQLSTATEs that the migrations raise somewhere."""
    text = "\n".join(path.read_text() for path in sorted(MIGRATIONS.glob("*.sql")))
    return set(re.findall(r"'(KH0\d\d)'", text))


def unmet() -> set[str]:
    """Our SQLSTATEs that no attack of this run has met."""
    return raised_states() - {state for state, _ in met}


def print_table() -> None:
    """Refusals by role."""
    words = own_states() | NATIVE
    table = Table("SQLSTATE", "what is refused", *ROLES, title="Attacks refused")
    for state in sorted({state for state, _ in met} | raised_states()):
        counts = (met[state, role] for role in ROLES)
        table.add_row(state, words.get(state, ""), *(f"{n:,}" if n else "-" for n in counts))
    totals = (sum(n for (_, role), n in met.items() if role == of_role) for of_role in ROLES)
    table.add_section()
    table.add_row("", "attempts, all refused", *(f"{n:,}" for n in totals))
    Console(width=None if Console().is_terminal else 120).print(table)
