"""The journal as plain-text accounting, for hledger and ledger-cli, in a form their strictest checks accept.

A transaction is dated by the day it was recorded, so that the file is in order and a period has one opening and one
closing balance; where it counts from another day, that is its secondary date (hledger ``--date2``, ledger
``--aux-date``). Its code is the journal's number, its payee the journal's kind, the rest are tags. Posted lines are
real postings. Pending lines are *balanced virtual* postings on accounts below ``Pending:``: no posted account's balance
is touched by them, ``--real`` leaves them out, and since both programs balance virtual postings apart from real ones,
they prove that a journal sums to zero in each layer.

A range that does not begin the book opens with the balances before it; what a partial selection's do not sum to is
``Elsewhere``. Every file ends with an assertion of the balance of each account asked about, in each layer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable, Iterator
from datetime import date
from enum import StrEnum
from typing import Any
from urllib.parse import quote

import orjson
from psycopg import AsyncConnection

from ledger.export.money import decimal_text, exponent
from ledger.export.selection import Chosen, journal_pages
from ledger.export.standing import Accounts, Standing, accounts_of

PENDING = "Pending:"
ELSEWHERE = "Elsewhere"
OPENING, CLOSING = "Opening balances", "Closing balances"
TAGS = ("id", "source", "effective_at", "recorded_at", "description", "reverses", "hold")

_CURRENCIES = "SELECT DISTINCT currency FROM ledger.account WHERE book_id = %(book)s ORDER BY currency"
# By the search index, and what it has not come to yet: reading all journals would take as long as the export.
_KINDS = """
SELECT substr(term, 6) FROM ledger.terms_in_use(%(book)s, 'kind:', 'kind;') AS term
 UNION
SELECT kind FROM ledger.journal WHERE book_id = %(book)s AND seq > ledger.indexed_through(%(book)s) ORDER BY 1"""


class Dialect(StrEnum):
    HLEDGER = "hledger"
    LEDGER = "ledger"


def hledger(conn: AsyncConnection[Any], chosen: Chosen) -> AsyncGenerator[bytes]:
    return _file(conn, chosen, Dialect.HLEDGER)


def ledger(conn: AsyncConnection[Any], chosen: Chosen) -> AsyncGenerator[bytes]:
    return _file(conn, chosen, Dialect.LEDGER)


async def _file(conn: AsyncConnection[Any], chosen: Chosen, dialect: Dialect) -> AsyncGenerator[bytes]:
    accounts = await accounts_of(conn, chosen)
    yield await _declarations(conn, chosen, dialect)
    async for lines in _account_directives(conn, accounts):
        yield lines
    if chosen.after_seq:
        async for lines in _opening(conn, accounts):
            yield lines
    async for page in journal_pages(conn, chosen):
        yield transactions(page)
    async for standings in accounts.pages(conn):
        yield _closing(chosen.last_day, standings)


async def _declarations(conn: AsyncConnection[Any], chosen: Chosen, dialect: Dialect) -> bytes:
    """What strict checking wants declared before the first transaction, but for accounts: commodities, payees, tags."""
    out = [f"; Khata: book {chosen.book}, journals {chosen.after_seq + 1} to {chosen.through_seq}"]
    if dialect is Dialect.HLEDGER:
        out.append("decimal-mark .")
    for currency in await _column(conn, _CURRENCIES, chosen):
        out += _commodity(currency, dialect)
    out += [f"payee {kind}" for kind in (OPENING, CLOSING, *await _column(conn, _KINDS, chosen))]
    out += [f"tag {tag}" for tag in TAGS]
    return ("\n".join(out) + "\n").encode()


async def _column(conn: AsyncConnection[Any], sql: str, chosen: Chosen) -> list[str]:
    cursor = await conn.execute(sql.encode(), {"book": chosen.book_id})
    return [value for (value,) in await cursor.fetchall()]


def _commodity(currency: str, dialect: Dialect) -> list[str]:
    # A sample amount gives the precision; hledger wants a decimal mark in it, with or without decimals.
    places = exponent(currency)
    if dialect is Dialect.HLEDGER:
        return [f"commodity 1000.{'0' * places} {currency}"]
    return [f"commodity {currency}", f"    format {decimal_text(1000 * 10**places, currency)} {currency}"]


async def _account_directives(conn: AsyncConnection[Any], accounts: Accounts) -> AsyncGenerator[bytes]:
    if not accounts.chosen.whole:
        yield f"account {ELSEWHERE}\naccount {PENDING}{ELSEWHERE}\n".encode()
    async for standings in accounts.pages(conn):
        names = dict.fromkeys(
            name for s in standings for name in _names(s)
        )  # a path is one account, in all currencies
        yield "".join(f"account {name}\n" for name in names).encode()
    yield b"\n"


def _names(standing: Standing) -> Iterator[str]:
    yield standing.path
    if standing.held:
        yield PENDING + standing.path


async def _opening(conn: AsyncConnection[Any], accounts: Accounts) -> AsyncGenerator[bytes]:
    """One transaction, however many accounts there are: in no part of it they sum to zero."""
    rest: defaultdict[tuple[str, str], int] = defaultdict(int)
    begun = False
    async for standings in accounts.pages(conn):
        out = "" if begun else f"{accounts.chosen.first_day} {OPENING}\n"
        for s in standings:
            for pattern, amount in (("{}", s.opening), (f"[{PENDING}{{}}]", s.opening_pending)):
                if amount:
                    out += _posting(pattern.format(s.path), amount, s.currency)
                    rest[pattern, s.currency] -= amount
                    begun = True
        if begun:
            yield out.encode()
    if begun:
        balance = (_posting(at.format(ELSEWHERE), amount, c) for (at, c), amount in rest.items() if amount)
        yield ("".join(balance) + "\n").encode()


def _closing(day: date, standings: Iterable[Standing]) -> bytes:
    out = ""
    for s in standings:
        if s.chosen:
            out += _assertion(s.path, s.closing, s.currency)
            out += _assertion(f"[{PENDING}{s.path}]", s.closing_pending, s.currency) if s.held else ""
    return f"{day} {CLOSING}\n{out}\n".encode() if out else b""


def _assertion(account: str, balance: int, currency: str) -> str:
    zero = decimal_text(0, currency)
    return f"    {account}  {zero} {currency} = {decimal_text(balance, currency)} {currency}\n"


def _posting(account: str, amount: int, currency: str) -> str:
    return f"    {account}  {decimal_text(amount, currency)} {currency}\n"


def transactions(lines: Iterable[bytes]) -> bytes:
    """The transactions of canonical ``lines``; the same text for both programs."""
    return "".join(_transaction(orjson.loads(line)) for line in lines).encode()


def _transaction(journal: dict[str, Any]) -> str:
    recorded, effective = journal["recorded_at"][:10], journal["effective_at"][:10]
    day = recorded if recorded == effective else f"{recorded}={effective}"
    out = [f"{day} ({journal['seq']}) {journal['kind']}\n"]
    out += [f"    ; {tag}: {tag_value(value)}\n" for tag, value in _tags(journal) if value]
    for p in journal["postings"]:
        amount, currency = int(p["amount"]), p["currency"]
        for side, signed in (("debit", amount), ("credit", -amount)):
            account = p[side] if p["layer"] == "posted" else f"[{PENDING}{p[side]}]"
            out.append(_posting(account, signed, currency))
    return "".join(out) + "\n"


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
