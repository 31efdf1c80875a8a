"""Raw rows for the ledger's tables: honest ones, so that an attack changes one thing and nothing else is wrong."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
import pytest
from psycopg import AsyncConnection, sql
from psycopg.rows import dict_row

from tests.attacks import tally
from tests.ledger.words import new_id

Row = dict[str, Any]
_numbers = itertools.count(1)


class Leg(NamedTuple):
    """One posting to forge: account paths, amount, currency; ``action`` indexes place … expire."""

    debit: str
    credit: str
    amount: int
    currency: str = "INR"
    layer: int = 0
    action: int | None = None
    hold_id: UUID | None = None


@dataclass
class Forged:
    """Rows to insert, postings first, as the ledger itself would. Change one before ``insert``."""

    journals: list[Row] = field(default_factory=list)
    postings: list[Row] = field(default_factory=list)

    async def insert(self, conn: AsyncConnection[Any]) -> None:
        """In one transaction, committed."""
        await insert_rows(conn, "posting", self.postings)
        await insert_rows(conn, "journal", self.journals)
        await conn.commit()


async def insert_rows(conn: AsyncConnection[Any], table: str, rows: Sequence[Row]) -> None:
    """One INSERT statement."""
    if not rows:
        return
    columns = sql.SQL(", ").join(map(sql.Identifier, rows[0]))
    values = sql.SQL("({})").format(sql.SQL(", ").join(sql.Placeholder() * len(rows[0])))
    statement = sql.SQL("INSERT INTO ledger.{} ({}) VALUES {}").format(
        sql.Identifier(table), columns, sql.SQL(", ").join([values] * len(rows))
    )
    await conn.execute(statement, [value for row in rows for value in row.values()])


async def forge(conn: AsyncConnection[Any], book_id: int, *journals: Sequence[Leg]) -> Forged:
    """Rows of ``journals`` that the database accepts as they are, read from the book as it stands now."""
    cursor = conn.cursor(row_factory=dict_row)
    await cursor.execute("SELECT * FROM ledger.book WHERE book_id = %s", [book_id])
    book = await cursor.fetchone()
    assert book is not None
    await cursor.execute(
        "SELECT a.path, b.* FROM ledger.balance b JOIN ledger.account a USING (book_id, account_id) WHERE book_id = %s",
        [book_id],
    )
    balances = {(row["path"], row["currency"]): row for row in await cursor.fetchall()}
    await conn.rollback()
    forged = Forged()
    for seq, legs in enumerate(journals, start=book["head"] + 1):
        for line, leg in enumerate(legs, start=1):
            debit, credit = balances[leg.debit, leg.currency], balances[leg.credit, leg.currency]
            _move(debit, leg, "debits")
            _move(credit, leg, "credits")
            forged.postings.append(_posting(book_id, seq, line, leg, debit, credit))
        forged.journals.append(_journal(book, seq, len(legs)))
    return forged


def _move(balance: Row, leg: Leg, side: str) -> None:
    balance["seq"] += 1
    balance[f"{'pending' if leg.layer else 'posted'}_{side}"] += leg.amount


def _posting(book_id: int, seq: int, line: int, leg: Leg, debit: Row, credit: Row) -> Row:
    row: Row = {
        "book_id": book_id, "journal_seq": seq, "line": line, "amount": leg.amount, "currency": leg.currency,
        "layer": leg.layer, "hold_action": leg.action, "hold_id": leg.hold_id,
    }  # fmt: skip
    for name, b in (("debit", debit), ("credit", credit)):
        posted = b["posted_debits"] - b["posted_credits"]
        inward, outward = b["pending_debits"], b["pending_credits"]
        if not b["debit_normal"]:
            posted, inward, outward = -posted, outward, inward
        row |= {
            f"{name}_account": b["account_id"], f"{name}_seq": b["seq"], f"{name}_posted": posted,
            f"{name}_available": posted - outward, f"{name}_incoming": inward,
        }  # fmt: skip
    return row


def _journal(book: Mapping[str, Any], seq: int, lines: int) -> Row:
    canonical = '{"forged":true}'
    return {
        "book_id": book["book_id"], "seq": seq, "id": new_id(), "effective_at": book["recorded_at"],
        "recorded_at": book["recorded_at"], "lines": lines, "kind": "transfer", "source_type": "forged",
        "source_id": f"forged-{next(_numbers)}", "source_event": "done", "canonical": canonical,
        "leaf_hash": hashlib.sha256(b"\0" + canonical.encode()).digest(),
    }  # fmt: skip


@contextlib.contextmanager
def refused(state: str, words: str = "", role: str = "khata_app") -> Generator[None]:
    """The block, run as ``role``, must fail with this SQLSTATE, and with ``words`` in the message or as the
    constraint's name."""
    with pytest.raises(psycopg.Error) as caught:
        yield
    error = caught.value
    said = f"{error.sqlstate} {error.diag.constraint_name} {error.diag.message_primary}"
    assert error.sqlstate == state, said
    assert words in (error.diag.constraint_name or "") or words in (error.diag.message_primary or ""), said
    tally.count(state, role)


# Ours (migrations/sql/0001_ledger.sql, the list at ledger.refuse).
VALUE, POSTING, HOLD, ARGUMENT = "KH014", "KH015", "KH016", "KH019"
# PostgreSQL's own, raised before any rule of ours is asked (docs/attacks.md).
NOT_NULL, UNIQUE, NO_PRIVILEGE = "23502", "23505", "42501"
