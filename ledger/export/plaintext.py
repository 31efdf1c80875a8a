"""The journal as plain-text accounting, for hledger and ledger-cli, in a form their strictest checks accept.

A transaction: dated by its effective day in UTC, its code the journal's number, its payee the journal's kind, the rest
as tags. Posted lines are real postings. Pending lines are *balanced virtual* postings on accounts below ``Pending:``:
no posted account's balance is touched by them, ``--real`` leaves them out, and since both programs balance virtual
postings apart from real ones, they prove that a journal sums to zero in each layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Any
from urllib.parse import quote

import orjson
from psycopg import AsyncConnection

from ledger.export.money import decimal_text, exponent

PENDING = "Pending:"
TAGS = ("id", "source", "effective_at", "recorded_at", "description", "reverses", "hold")

_ACCOUNTS = "SELECT DISTINCT path FROM ledger.account WHERE book_id = %(book)s ORDER BY path"
_HELD = """
SELECT DISTINCT a.path FROM ledger.account a JOIN (
  SELECT debit_account AS account_id FROM ledger.hold WHERE book_id = %(book)s
  UNION SELECT credit_account FROM ledger.hold WHERE book_id = %(book)s) h USING (account_id)
 WHERE a.book_id = %(book)s ORDER BY a.path"""
_CURRENCIES = "SELECT DISTINCT currency FROM ledger.account WHERE book_id = %(book)s ORDER BY currency"
# By the search index, and what it has not come to yet: reading all journals would take as long as the export.
_KINDS = """
SELECT substr(term, 6) FROM ledger.terms_in_use(%(book)s, 'kind:', 'kind;') AS term
 UNION
SELECT kind FROM ledger.journal WHERE book_id = %(book)s AND seq > ledger.indexed_through(%(book)s) ORDER BY 1"""


class Dialect(StrEnum):
    HLEDGER = "hledger"
    LEDGER = "ledger"


async def declarations(conn: AsyncConnection[Any], book_id: int, dialect: Dialect, title: str) -> bytes:
    """What strict checking wants declared before the first transaction: commodities, accounts, payees, tags."""
    out = [f"; Khata: {title}"]
    if dialect is Dialect.HLEDGER:
        out.append("decimal-mark .")
    for currency in await _column(conn, _CURRENCIES, book_id):
        out += _commodity(currency, dialect)
    out += [f"account {path}" for path in await _column(conn, _ACCOUNTS, book_id)]
    out += [f"account {PENDING}{path}" for path in await _column(conn, _HELD, book_id)]
    out += [f"payee {kind}" for kind in await _column(conn, _KINDS, book_id)]
    out += [f"tag {tag}" for tag in TAGS]
    return ("\n".join(out) + "\n\n").encode()


async def _column(conn: AsyncConnection[Any], sql: str, book_id: int) -> list[str]:
    cursor = await conn.execute(sql.encode(), {"book": book_id})
    return [value for (value,) in await cursor.fetchall()]


def _commodity(currency: str, dialect: Dialect) -> list[str]:
    # A sample amount gives the precision; hledger wants a decimal mark in it, with or without decimals.
    places = exponent(currency)
    if dialect is Dialect.HLEDGER:
        return [f"commodity 1000.{'0' * places} {currency}"]
    return [f"commodity {currency}", f"    format {decimal_text(1000 * 10**places, currency)} {currency}"]


def transactions(lines: Iterable[bytes]) -> bytes:
    """The transactions of canonical ``lines``; the same text for both programs."""
    return "".join(_transaction(orjson.loads(line)) for line in lines).encode()


def _transaction(journal: dict[str, Any]) -> str:
    out = [f"{journal['effective_at'][:10]} ({journal['seq']}) {journal['kind']}"]
    out += [f"    ; {tag}: {tag_value(value)}" for tag, value in _tags(journal) if value]
    for p in journal["postings"]:
        amount, currency = int(p["amount"]), p["currency"]
        for side, signed in (("debit", amount), ("credit", -amount)):
            account = p[side] if p["layer"] == "posted" else f"[{PENDING}{p[side]}]"
            out.append(f"    {account}  {decimal_text(signed, currency)} {currency}")
    return "\n".join(out) + "\n\n"


def _tags(journal: dict[str, Any]) -> Iterator[tuple[str, str]]:
    source, hold = journal["source"], journal.get("hold")
    yield "id", journal["id"]
    yield "source", f"{source['type']}/{source['id']}/{source['event']}"
    yield "effective_at", journal["effective_at"]
    yield "recorded_at", journal["recorded_at"]
    yield "description", journal["description"]
    yield "reverses", str(journal.get("reverses", ""))
    yield "hold", f"{hold['action']} {hold['id']}" if hold else ""


def tag_value(text: str) -> str:
    """``text`` with what the programs would read as more than text percent-encoded: a comma ends a tag in hledger,
    a bracket starts a date in both, and outer spaces are lost."""
    inner = "".join(quote(c, safe="") if c in "%,[]" else c for c in text)
    left = len(inner) - len(inner.lstrip(" "))
    right = len(inner) - len(inner.rstrip(" ")) if left < len(inner) else 0
    return "%20" * left + inner[left : len(inner) - right] + "%20" * right
