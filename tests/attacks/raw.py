"""Raw rows for the ledger's tables: honest ones, so that an attack changes one thing and nothing else is wrong."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import secrets
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
import pytest
from psycopg import AsyncConnection, sql
from psycopg.rows import dict_row

from tests.attacks import tally
from tests.ledger.words import new_id

Row = dict[str, Any]
CANONICAL = '{"forged":true}'
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
    """Rows of journals with their postings and new holds, as the ledger itself would write them. Change one, then try
    both ways in: by hand (``insert``), and through ``ledger.append``, to a book at ``version``."""

    journals: list[Row] = field(default_factory=list)
    postings: list[Row] = field(default_factory=list)
    holds: list[Row] = field(default_factory=list)
    version: int = 0

    async def insert(self, conn: AsyncConnection[Any]) -> None:
        """By hand, postings first, in one transaction, committed."""
        await self.insert_only(conn)
        await conn.commit()

    async def insert_only(self, conn: AsyncConnection[Any]) -> None:
        for table, rows in (("hold", self.holds), ("posting", self.postings), ("journal", self.journals)):
            await insert_rows(conn, table, rows)

    async def append(self, conn: AsyncConnection[Any], **changed: Any) -> None:
        """Through ``ledger.append``, committed. ``changed``: arguments to be other than the rows make them."""
        await call_append(conn, self.arguments() | changed)
        await conn.commit()

    def arguments(self) -> dict[str, Any]:
        """Of ``ledger.append``; the numbers, book and time of all journals are those of the first."""
        first = self.journals[0]

        def of_journals(name: str) -> list[Any]:
            return [row.get(name) for row in self.journals]

        def of_holds(name: str) -> list[Any]:
            return [row.get(name) for row in self.holds]

        return {
            "of_book": first["book_id"], "expected": self.version, "next": secrets.randbits(62),
            "first": first["seq"], "at": first["recorded_at"], "postings": self.postings,
            "ids": of_journals("id"), "effective_ats": of_journals("effective_at"),
            "reversed": of_journals("reverses"), "lines": of_journals("lines"), "kinds": of_journals("kind"),
            "source_types": of_journals("source_type"), "source_ids": of_journals("source_id"),
            "source_events": of_journals("source_event"), "leaf_hashes": of_journals("leaf_hash"),
            "canonicals": of_journals("canonical"), "hold_ids": of_holds("hold_id"),
            "hold_debits": of_holds("debit_account"), "hold_credits": of_holds("credit_account"),
            "tolerances": of_holds("tolerance_bps"), "expiries": of_holds("expires_at"),
            "follows": None,
        }  # fmt: skip


# By the names of the catalogue: a caller may have types of its own.
_INT2, _INT4, _INT8, _TEXT = "pg_catalog.int2", "pg_catalog.int4", "pg_catalog.int8", "pg_catalog.text"
_TIME, _UUID, _BYTEA = "pg_catalog.timestamptz", "pg_catalog.uuid", "pg_catalog.bytea"
APPEND = {
    "of_book": _INT4, "expected": _INT8, "next": _INT8, "first": _INT8, "at": _TIME,
    "postings": "ledger.posting[]", "ids": f"{_UUID}[]", "effective_ats": f"{_TIME}[]",
    "reversed": f"{_INT8}[]", "lines": f"{_INT2}[]", "kinds": f"{_TEXT}[]", "source_types": f"{_TEXT}[]",
    "source_ids": f"{_TEXT}[]", "source_events": f"{_TEXT}[]", "leaf_hashes": f"{_BYTEA}[]",
    "canonicals": f"{_TEXT}[]", "hold_ids": f"{_UUID}[]", "hold_debits": f"{_INT4}[]",
    "hold_credits": f"{_INT4}[]", "tolerances": f"{_INT4}[]", "expiries": f"{_TIME}[]",
    "follows": _INT8,
}  # fmt: skip
# Postings come as JSON, one object a row by column name, or null.
POSTINGS = """
coalesce((SELECT array_agg(CASE jsonb_typeof(e) WHEN 'object' THEN jsonb_populate_record(NULL::ledger.posting, e) END
                           ORDER BY n)
            FROM jsonb_array_elements(%s::pg_catalog.jsonb) WITH ORDINALITY AS p(e, n)), '{}')"""


async def call_append(conn: AsyncConnection[Any], arguments: Mapping[str, Any]) -> None:
    """``SELECT ledger.append(…)``. Lists are arrays; a string is what PostgreSQL reads as one, whatever its form."""
    words: list[str] = []
    values: list[Any] = []
    for name, type_ in APPEND.items():
        value = arguments[name]
        if name == "postings" and isinstance(value, list):
            words.append(POSTINGS)
            values.append(json.dumps(value, default=str))
        elif isinstance(value, list):
            words.append(f"%s::pg_catalog.text[]::{type_}")
            values.append([_text(each) for each in value])  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        else:
            words.append(f"%s::{type_}")
            values.append(value)
    await conn.execute(f"SELECT ledger.append({', '.join(words)})".encode(), values)


def _text(value: Any) -> str | None:
    match value:
        case None:
            return None
        case bytes():
            return f"\\x{value.hex()}"
        case datetime():
            return value.isoformat()
        case _:
            return str(value)


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
    forged = Forged(version=book["version"])
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
    return {
        "book_id": book["book_id"], "seq": seq, "id": new_id(), "effective_at": book["recorded_at"],
        "recorded_at": book["recorded_at"], "lines": lines, "kind": "transfer", "source_type": "forged",
        "source_id": f"forged-{next(_numbers)}", "source_event": "done", "canonical": CANONICAL,
        "leaf_hash": hashlib.sha256(b"\0" + CANONICAL.encode()).digest(),
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


async def is_refused(
    conn: AsyncConnection[Any], forged: Forged, state: str, words: str = "", *, appended: str | None = None
) -> None:
    """Neither way in takes these rows; ``appended``: the SQLSTATE of ``ledger.append`` where it is another."""
    with refused(state, words):
        await forged.insert(conn)
    await conn.rollback()
    with refused(appended or state, "" if appended else words):
        await forged.append(conn)
    await conn.rollback()


async def is_taken(conn: AsyncConnection[Any], forged: Forged) -> None:
    """Both ways in take these rows. They stand once: those that are inserted by hand are rolled back."""
    await forged.insert_only(conn)
    await conn.rollback()
    await forged.append(conn)


# Ours (migrations/sql/0001_ledger.sql, the list at ledger.refuse).
VALUE, POSTING, HOLD, ARGUMENT = "KH014", "KH015", "KH016", "KH019"
POSTINGS_STATED, OTHER_VERSION = "KH003", "KH036"
# PostgreSQL's own, raised before any rule of ours is asked (docs/attacks.md).
NOT_NULL, UNIQUE, NO_PRIVILEGE = "23502", "23505", "42501"
