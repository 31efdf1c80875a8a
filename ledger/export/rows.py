"""A journal's columns and postings held against its canonical line, which is what was hashed."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any, NamedTuple

from psycopg import AsyncConnection

from ledger.canonical import HOLD_ACTIONS, LAYER_NAMES, leaf_hash, rfc3339
from ledger.export.errors import BookAltered

_MOST_NAMES = 100_000
_JOURNAL_COLUMNS = (
    *("id", "kind", "source_type", "source_id", "source_event", "effective_at", "recorded_at"),
    *("reverses", "lines"),
)
_POSTING_COLUMNS = ("debit", "credit", "amount", "currency", "layer", "hold_action", "hold_id")
_NAMES = """
SELECT account_id, path, currency, debit_normal FROM ledger.account
 WHERE book_id = %(book)s AND account_id = ANY(%(ids)s)"""


class Name(NamedTuple):
    path: str
    currency: str
    debit_normal: bool


Names = dict[int, Name]


async def learn(conn: AsyncConnection[Any], book_id: int, names: Names, wanted: Collection[int]) -> None:
    """Add the accounts ``wanted`` to ``names``, which is emptied before it grows large."""
    if len(names) > _MOST_NAMES:
        names.clear()
    missing = list(set(wanted) - names.keys())
    if missing:
        cursor = await conn.execute(_NAMES, {"book": book_id, "ids": missing})
        names |= {id_: Name(*name) for id_, *name in await cursor.fetchall()}


def check_leaf(seq: int, line: bytes, stored: bytes) -> None:
    """The line is the preimage of the leaf hash beside it. Raises ``BookAltered``."""
    made = leaf_hash(line)
    if made != stored:
        raise BookAltered(f"journal {seq}, canonical", f"a line of leaf hash {made.hex()}", stored.hex())


def check_journal(seq: int, row: tuple[Any, ...], said: dict[str, Any]) -> None:
    """The columns beside the line. Raises ``BookAltered``."""
    source = said["source"]
    expected = (
        *(said["id"], said["kind"], source["type"], source["id"], source["event"]),
        *(said["effective_at"], said["recorded_at"], said.get("reverses"), len(said["postings"])),
    )
    id_, kind, type_, source_id, event, effective, recorded, reverses, lines = row
    stated = (id_, kind, type_, source_id, event, text(effective), text(recorded), reverses, lines)
    if said["seq"] != seq:
        raise BookAltered(f"journal {seq}", f"numbered {said['seq']} in its line", str(seq))
    if stated != expected:
        for name, value, wanted in zip(_JOURNAL_COLUMNS, stated, expected, strict=True):
            if value != wanted:
                raise BookAltered(f"journal {seq}, {name}", str(value), str(wanted))


def text(at: datetime) -> str:
    return rfc3339(at if at.tzinfo is UTC else at.astimezone(UTC))


def check_count(seq: int, postings: int, stated: int) -> None:
    if postings != stated:
        raise BookAltered(f"journal {seq}", f"{postings} postings", str(stated))


def check_posting(
    seq: int, line: int, row: tuple[Any, ...], stated: dict[str, str], hold: str | None, names: Names
) -> None:
    """``row``: debit and credit account, amount, currency, layer, hold action and hold id. ``hold``: the journal's.

    Raises ``BookAltered``.
    """
    debit, credit, amount, currency, layer, action, hold_id = row
    of_hold = stated.get("hold")
    expected = (
        *(stated["debit"], stated["credit"], stated["amount"], stated["currency"], stated["layer"]),
        *(of_hold, hold if of_hold else None),
    )
    found = (
        *(_path(names, debit, currency), _path(names, credit, currency)),
        *(str(amount), currency, LAYER_NAMES[layer]),
        *(None if action is None else HOLD_ACTIONS[action], hold_id),
    )
    if found != expected:
        for name, value, wanted in zip(_POSTING_COLUMNS, found, expected, strict=True):
            if value != wanted:
                raise BookAltered(f"journal {seq}, line {line}, {name}", str(value), str(wanted))


def _path(names: Names, account: int, currency: str) -> str:
    name = names.get(account)
    return name.path if name is not None and name.currency == currency else f"account {account}"
