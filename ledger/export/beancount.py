"""The journal for beancount: dated and bounded as the plain-text formats (``plaintext``), in its own grammar.

Beancount knows no virtual postings and only five roots. So a journal's pending lines are a transaction of their own,
flagged ``!`` and linked to that of its posted lines (``^journal-17``): each layer must sum to zero by itself. They are
on accounts below ``Equity:X-Pending``, which sum to zero over the book.

Names: beancount wants each word of an account to begin with an upper-case letter or a digit, and has no underscore.
A word that it would not take is written ``X-`` and then itself with ``-`` doubled and ``_`` as ``-u``; so is one
that begins with ``X-``. ``path_of`` undoes it, and every account's path stands in its metadata.

Balances are asserted as of the day after the last journal, without tolerance. An assertion of beancount's covers the
accounts below as well: of an account above others it is the sum; in an export of some accounts it is then left out.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable, Iterator
from datetime import date, timedelta
from itertools import groupby
from operator import attrgetter
from typing import Any

import orjson
from psycopg import AsyncConnection

from ledger.as_of import AsOf, totals
from ledger.export.money import decimal_text
from ledger.export.selection import Chosen, journal_pages
from ledger.export.standing import Accounts, Standing, accounts_of
from ledger.model import TYPE_BY_ROOT

PENDING = "Equity:X-Pending"
ELSEWHERE = "X-Elsewhere"
_TAKEN = re.compile(r"[A-Z0-9][A-Za-z0-9-]*")
_MARK = "X-"
_DAY = timedelta(days=1)
_ROOTS = ("Equity", PENDING)  # above what is elsewhere, by layer


def account_name(path: str) -> str:
    """A path of Khata's as an account of beancount's. No two paths have one name."""
    return ":".join(_word(word) for word in path.split(":"))


def _word(word: str) -> str:
    if _TAKEN.fullmatch(word) and not word.startswith(_MARK):
        return word
    return _MARK + word.replace("-", "--").replace("_", "-u")


def path_of(account: str) -> str:
    """The inverse of ``account_name``."""
    return ":".join(_unmarked(word) for word in account.split(":"))


def _unmarked(word: str) -> str:
    if not word.startswith(_MARK):
        return word
    return re.sub("-[-u]", lambda found: "-" if found[0] == "--" else "_", word.removeprefix(_MARK))


def pending_name(path: str) -> str:
    return f"{PENDING}:{account_name(path)}"


# ---------------------------------------------------------------- the file


async def beancount(conn: AsyncConnection[Any], chosen: Chosen) -> AsyncGenerator[bytes]:
    accounts = await accounts_of(conn, chosen)
    yield _head(chosen)
    if not chosen.whole and chosen.after_seq:
        yield "".join(f"{chosen.first_day} open {at}:{ELSEWHERE}\n" for at in _ROOTS).encode()
    async for standings in accounts.pages(conn):
        yield _opens(standings)
    yield b"\n"
    if chosen.after_seq:
        async for lines in _opening(conn, accounts):
            yield lines
    async for page in journal_pages(conn, chosen):
        yield "".join(_journal(orjson.loads(line)) for line in page).encode()
    below = await _accounts_above_others(conn, chosen)
    async for standings in accounts.pages(conn):
        yield await _closing(conn, chosen, standings, below)


def _head(chosen: Chosen) -> bytes:
    title = f"Khata: book {chosen.book}, journals {chosen.after_seq + 1} to {chosen.through_seq}"
    return f'option "title" "{title}"\n'.encode()


def _opens(standings: Iterable[Standing]) -> bytes:
    out = ""
    for path, found in groupby(standings, attrgetter("path")):
        of = list(found)
        opened, currencies = min(s.opened_on for s in of), ",".join(s.currency for s in of)
        about = _meta("path", path) + (_meta("owner", of[0].owner) if of[0].owner else "")
        out += "".join(f"{opened} open {name} {currencies}\n{about}" for name in _names(path, of))
    return out.encode()


def _names(path: str, of: list[Standing]) -> Iterator[str]:
    yield account_name(path)
    if any(s.held for s in of):
        yield pending_name(path)


async def _opening(conn: AsyncConnection[Any], accounts: Accounts) -> AsyncGenerator[bytes]:
    """One transaction a layer, however many accounts there are: in no part of it they sum to zero."""
    of = accounts.chosen
    for place, flag in enumerate("*!"):
        rest: defaultdict[str, int] = defaultdict(int)
        async for standings in accounts.pages(conn):
            out = "" if rest else f'{of.first_day} {flag} "Opening balances"\n'
            for s in standings:
                if amount := (s.opening, s.opening_pending)[place]:
                    out += _posting((account_name, pending_name)[place](s.path), amount, s.currency)
                    rest[s.currency] -= amount
            if rest:
                yield out.encode()
        elsewhere = f"{_ROOTS[place]}:{ELSEWHERE}"
        yield "".join(_posting(elsewhere, amount, c) for c, amount in rest.items() if amount).encode() + b"\n"


def _journal(journal: dict[str, Any]) -> str:
    """Its posted lines as one transaction, its pending ones as another."""
    layers: dict[str, str] = {}
    for p in journal["postings"]:
        name = account_name if p["layer"] == "posted" else pending_name
        amount, currency = int(p["amount"]), p["currency"]
        lines = _posting(name(p["debit"]), amount, currency) + _posting(name(p["credit"]), -amount, currency)
        layers[p["layer"]] = layers.get(p["layer"], "") + lines
    head = f"{_text(journal['kind'])} {_text(journal['description'])} ^journal-{journal['seq']}\n"
    head += "".join(_meta(key, value) for key, value in _about(journal) if value)
    head += f"  effective: {journal['effective_at'][:10]}\n"
    day = journal["recorded_at"][:10]
    return "".join(f"{day} {_FLAGS[layer]} {head}{lines}\n" for layer, lines in layers.items())


_FLAGS = {"posted": "*", "pending": "!"}


def _about(journal: dict[str, Any]) -> Iterator[tuple[str, str]]:
    source, hold = journal["source"], journal.get("hold")
    yield "id", journal["id"]
    yield "source", f"{source['type']}/{source['id']}/{source['event']}"
    yield "effective_at", journal["effective_at"]
    yield "recorded_at", journal["recorded_at"]
    yield "reverses", str(journal.get("reverses", ""))
    yield "hold", f"{hold['action']} {hold['id']}" if hold else ""
    yield "metadata", orjson.dumps(journal["metadata"]).decode() if journal["metadata"] else ""


def _posting(account: str, amount: int, currency: str) -> str:
    return f"  {account}  {decimal_text(amount, currency)} {currency}\n"


def _meta(key: str, value: str) -> str:
    return f"  {key}: {_text(value)}\n"


def _text(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


# ---------------------------------------------------------------- the balances at its end

_ABOVE_OTHERS = """
SELECT DISTINCT a.path FROM ledger.account a
 WHERE a.book_id = %s AND EXISTS (
   SELECT FROM ledger.account b
    WHERE b.book_id = a.book_id AND b.path > a.path || ':' AND b.path < a.path || ';')"""


async def _accounts_above_others(conn: AsyncConnection[Any], chosen: Chosen) -> set[str]:
    rows = await (await conn.execute(_ABOVE_OTHERS, [chosen.book_id])).fetchall()
    return {path for (path,) in rows}


async def _closing(
    conn: AsyncConnection[Any], chosen: Chosen, standings: Iterable[Standing], above: set[str]
) -> bytes:
    out = ""
    for path, found in groupby(standings, attrgetter("path")):
        of = list(found)
        closed = [s.closed_on for s in of if s.closed_on is not None]
        ended = len(closed) == len(of)
        day = (max(closed) if ended else chosen.last_day) + _DAY
        if path not in above:
            out += _balances(day, of)
        elif chosen.whole and not ended:
            out += await _balances_below(conn, chosen, day, of)
        if ended:  # closed in all its currencies; on one day, beancount takes balances first
            out += "".join(f"{day} close {name}\n" for name in _names(path, of))
    return out.encode()


def _balances(day: date, of: list[Standing]) -> str:
    out = ""
    for s in of:
        if s.chosen:
            out += _balance(day, account_name(s.path), s.closing, s.currency)
            out += _balance(day, pending_name(s.path), s.closing_pending, s.currency) if s.held else ""
    return out


async def _balances_below(conn: AsyncConnection[Any], chosen: Chosen, day: date, of: list[Standing]) -> str:
    """Of an account in all its currencies with those below it."""
    path, out = of[0].path, ""
    sign = 1 if TYPE_BY_ROOT[path.split(":", 1)[0]].debit_normal else -1
    for total in await totals(conn, chosen.book_id, path, AsOf(known=chosen.through_seq)):
        if total.currency in {s.currency for s in of}:
            pending = total.pending_in - total.pending_out
            out += _balance(day, account_name(path), sign * total.posted, total.currency)
            if any(s.held for s in of):
                out += _balance(day, pending_name(path), sign * pending, total.currency)
    return out


def _balance(day: date, account: str, amount: int, currency: str) -> str:
    return f"{day} balance {account}  {decimal_text(amount, currency)} ~ 0 {currency}\n"
