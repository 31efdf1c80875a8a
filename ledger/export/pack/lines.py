"""The lines of the range as ``lines.csv``, from the rows, each held against the canonical line that was hashed.

Whoever changes a row behind the ledger's back is found here: what a journal's columns and postings say must be what its
line says, and every line's balances must follow from those before it. The first that does not is named.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from datetime import UTC, datetime
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

import orjson
from psycopg import AsyncConnection

from ledger.canonical import HOLD_ACTIONS, LAYER_NAMES, rfc3339
from ledger.export.pack.errors import BookAltered
from ledger.export.pack.running import Running, Side

HEADER = b"seq,line,side,account,currency,layer,amount,account_seq,posted,available,incoming\n"
PAGE = 1000
_MOST_NAMES = 100_000
_JOURNAL_COLUMNS = (
    *("id", "kind", "source_type", "source_id", "source_event", "effective_at", "recorded_at"),
    *("reverses", "lines"),
)
_POSTING_COLUMNS = ("debit", "credit", "amount", "currency", "layer", "hold_action", "hold_id")

_JOURNALS = """
SELECT seq, id::text, kind, source_type, source_id, source_event, effective_at, recorded_at, reverses, lines,
       convert_to(canonical, 'UTF8')
  FROM ledger.journal WHERE book_id = %(book)s AND seq > %(after)s AND seq <= %(through)s ORDER BY seq"""
_POSTINGS = """
SELECT journal_seq, line, debit_account, debit_seq, debit_posted, debit_available, debit_incoming,
       credit_account, credit_seq, credit_posted, credit_available, credit_incoming,
       amount, currency, layer, hold_action, hold_id::text
  FROM ledger.posting WHERE book_id = %(book)s AND journal_seq > %(after)s AND journal_seq <= %(through)s
 ORDER BY journal_seq, line"""
_NAMES = """
SELECT account_id, path, currency, debit_normal FROM ledger.account
 WHERE book_id = %(book)s AND account_id = ANY(%(ids)s)"""

_HOLDS = """
SELECT h.hold_id::text, d.path, c.path, d.currency, h.tolerance_bps, h.expires_at FROM ledger.hold h
  JOIN ledger.account d ON d.book_id = h.book_id AND d.account_id = h.debit_account
  JOIN ledger.account c ON c.book_id = h.book_id AND c.account_id = h.credit_account
 WHERE h.book_id = %(book)s AND h.hold_id = ANY(%(ids)s::uuid[])"""
_TERMS = ("debit", "credit", "currency", "tolerance_bps", "expires_at")


class Name(NamedTuple):
    path: str
    currency: str
    debit_normal: bool


async def line_rows(
    conn: AsyncConnection[Any], book_id: int, after_seq: int, through_seq: int, running: Running
) -> AsyncGenerator[bytes]:
    """``lines.csv`` of the journals ``after_seq`` < seq ≤ ``through_seq``, in chunks. ``running``: what stood before
    them; it goes along. Raises ``BookAltered``."""
    yield HEADER
    names: dict[int, Name] = {}
    while after_seq < through_seq:
        last = min(after_seq + PAGE, through_seq)
        given = {"book": book_id, "after": after_seq, "through": last}
        journals = await (await conn.cursor(binary=True).execute(_JOURNALS, given)).fetchall()
        postings = await (await conn.cursor(binary=True).execute(_POSTINGS, given)).fetchall()
        await _learn(conn, book_id, names, {side for row in postings for side in (row[2], row[7])})
        said = [orjson.loads(row[-1]) for row in journals]
        await _check_holds(conn, book_id, said)
        yield _page(after_seq + 1, last, zip(journals, said, strict=True), postings, names, running)
        after_seq = last


async def _check_holds(conn: AsyncConnection[Any], book_id: int, said: list[dict[str, Any]]) -> None:
    """The terms of a hold's row are those that its journal placed it with."""
    placed = {line["hold"]["id"]: line for line in said if line.get("hold", {}).get("action") == "place"}
    if not placed:
        return
    cursor = await conn.execute(_HOLDS, {"book": book_id, "ids": list(placed)})
    found = {row[0]: row[1:] for row in await cursor.fetchall()}
    for id_, line in placed.items():
        *terms, at = found.get(id_) or (None,) * len(_TERMS)
        terms.append(at and _text(at))
        for name, value in zip(_TERMS, terms, strict=True):
            if value != line["hold"][name]:
                raise BookAltered(f"hold {id_}, {name}", str(value), str(line["hold"][name]))


async def _learn(conn: AsyncConnection[Any], book_id: int, names: dict[int, Name], wanted: set[int]) -> None:
    if len(names) > _MOST_NAMES:
        names.clear()
    missing = list(wanted - names.keys())
    if missing:
        cursor = await conn.execute(_NAMES, {"book": book_id, "ids": missing})
        names |= {id_: Name(*name) for id_, *name in await cursor.fetchall()}


def _page(
    first: int,
    last: int,
    journals: Iterable[tuple[tuple[Any, ...], dict[str, Any]]],
    postings: list[tuple[Any, ...]],
    names: dict[int, Name],
    running: Running,
) -> bytes:
    lines = {seq: list(rows) for seq, rows in groupby(postings, key=itemgetter(0))}
    out: list[str] = []
    due = first
    for row, said in journals:
        seq, due = due, due + 1
        if row[0] != seq:
            raise BookAltered(f"journal {seq}", "missing", "there")
        _check_journal(seq, row[1:-1], said)
        _check_count(seq, len(lines.get(seq, ())), len(said["postings"]))
        hold = said.get("hold", {}).get("id")
        for posting, stated in zip(lines.get(seq, ()), said["postings"], strict=True):
            _line(out, posting, stated, hold, names, running)
    if due <= last:
        raise BookAltered(f"journal {due}", "missing", "there")
    return "".join(out).encode()


def _check_journal(seq: int, row: tuple[Any, ...], said: dict[str, Any]) -> None:
    """The columns beside the line, which is what was hashed."""
    source = said["source"]
    expected = (
        *(said["id"], said["kind"], source["type"], source["id"], source["event"]),
        *(said["effective_at"], said["recorded_at"], said.get("reverses"), len(said["postings"])),
    )
    id_, kind, type_, source_id, event, effective, recorded, reverses, lines = row
    stated = (id_, kind, type_, source_id, event, _text(effective), _text(recorded), reverses, lines)
    if said["seq"] != seq:
        raise BookAltered(f"journal {seq}", f"numbered {said['seq']} in its line", str(seq))
    for name, value, wanted in zip(_JOURNAL_COLUMNS, stated, expected, strict=True):
        if value != wanted:
            raise BookAltered(f"journal {seq}, {name}", str(value), str(wanted))


def _text(at: datetime) -> str:
    return rfc3339(at if at.tzinfo is UTC else at.astimezone(UTC))


def _check_count(seq: int, postings: int, stated: int) -> None:
    if postings != stated:
        raise BookAltered(f"journal {seq}", f"{postings} postings", str(stated))


def _line(
    out: list[str],
    row: tuple[Any, ...],
    stated: dict[str, str],
    hold: str | None,
    names: dict[int, Name],
    running: Running,
) -> None:
    """Check one posting and write its two rows."""
    seq, line, amount, currency, layer, action, hold_id = row[0], row[1], *row[12:]
    debit, credit = Side(*row[2:7]), Side(*row[7:12])
    of_hold = stated.get("hold")
    expected = (
        *(stated["debit"], stated["credit"], stated["amount"], stated["currency"], stated["layer"]),
        *(of_hold, hold if of_hold else None),
    )
    found = (
        *(_path(names, debit.account, currency), _path(names, credit.account, currency)),
        *(str(amount), currency, LAYER_NAMES[layer]),
        *(None if action is None else HOLD_ACTIONS[action], hold_id),
    )
    if found != expected:
        for name, value, wanted in zip(_POSTING_COLUMNS, found, expected, strict=True):
            if value != wanted:
                raise BookAltered(f"journal {seq}, line {line}, {name}", str(value), str(wanted))
    for side, is_debit in ((debit, True), (credit, False)):
        account = names[side.account]
        after = running.add(
            side.account, amount, pending=layer == 1, debit=is_debit, debit_normal=account.debit_normal
        )
        word = "debit" if is_debit else "credit"
        if after != side:
            _name_number(seq, line, word, side, after)
        out.append(
            f"{seq},{line},{word},{account.path},{currency},{LAYER_NAMES[layer]},{amount},"
            f"{side.seq},{side.posted},{side.available},{side.incoming}\n"
        )


def _path(names: dict[int, Name], account: int, currency: str) -> str:
    name = names.get(account)
    return name.path if name is not None and name.currency == currency else f"account {account}"


def _name_number(seq: int, line: int, word: str, side: Side, after: Side) -> None:
    for name, value, wanted in zip(Side._fields, side, after, strict=True):
        if value != wanted:
            raise BookAltered(f"journal {seq}, line {line}, {word}_{name}", str(value), str(wanted))
