"""The lines of the range as ``lines.csv``, from the rows, each held against the canonical line that was hashed.

Whoever changes a row behind the ledger's back is found here: what a journal's columns and postings say must be what its
line says, and every line's balances must follow from those before it. The first that does not is named.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from itertools import groupby
from operator import itemgetter
from typing import Any

import orjson
from psycopg import AsyncConnection

from ledger.canonical import LAYER_NAMES
from ledger.export.errors import BookAltered
from ledger.export.pack.running import Running, Side
from ledger.export.rows import Names, check_count, check_journal, check_posting, learn, text

HEADER = b"seq,line,side,account,currency,layer,amount,account_seq,posted,available,incoming\n"
PAGE = 1000
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
_HOLDS = """
SELECT h.hold_id::text, d.path, c.path, d.currency, h.tolerance_bps, h.expires_at FROM ledger.hold h
  JOIN ledger.account d ON d.book_id = h.book_id AND d.account_id = h.debit_account
  JOIN ledger.account c ON c.book_id = h.book_id AND c.account_id = h.credit_account
 WHERE h.book_id = %(book)s AND h.hold_id = ANY(%(ids)s::uuid[])"""
_TERMS = ("debit", "credit", "currency", "tolerance_bps", "expires_at")


async def line_rows(
    conn: AsyncConnection[Any], book_id: int, after_seq: int, through_seq: int, running: Running
) -> AsyncGenerator[bytes]:
    """``lines.csv`` of the journals ``after_seq`` < seq ≤ ``through_seq``, in chunks. ``running``: what stood before
    them; it goes along. Raises ``BookAltered``."""
    yield HEADER
    names: Names = {}
    while after_seq < through_seq:
        last = min(after_seq + PAGE, through_seq)
        given = {"book": book_id, "after": after_seq, "through": last}
        journals = await (await conn.cursor(binary=True).execute(_JOURNALS, given)).fetchall()
        postings = await (await conn.cursor(binary=True).execute(_POSTINGS, given)).fetchall()
        await learn(conn, book_id, names, {side for row in postings for side in (row[2], row[7])})
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
        terms.append(at and text(at))
        for name, value in zip(_TERMS, terms, strict=True):
            if value != line["hold"][name]:
                raise BookAltered(f"hold {id_}, {name}", str(value), str(line["hold"][name]))


def _page(
    first: int,
    last: int,
    journals: Iterable[tuple[tuple[Any, ...], dict[str, Any]]],
    postings: list[tuple[Any, ...]],
    names: Names,
    running: Running,
) -> bytes:
    lines = {seq: list(rows) for seq, rows in groupby(postings, key=itemgetter(0))}
    out: list[str] = []
    due = first
    for row, said in journals:
        seq, due = due, due + 1
        if row[0] != seq:
            raise BookAltered(f"journal {seq}", "missing", "there")
        check_journal(seq, row[1:-1], said)
        check_count(seq, len(lines.get(seq, ())), len(said["postings"]))
        hold = said.get("hold", {}).get("id")
        for posting, stated in zip(lines.get(seq, ()), said["postings"], strict=True):
            _line(out, posting, stated, hold, names, running)
    if due <= last:
        raise BookAltered(f"journal {due}", "missing", "there")
    return "".join(out).encode()


def _line(
    out: list[str],
    row: tuple[Any, ...],
    stated: dict[str, str],
    hold: str | None,
    names: Names,
    running: Running,
) -> None:
    """Check one posting and write its two rows."""
    seq, line, amount, currency, layer, action, hold_id = row[0], row[1], *row[12:]
    debit, credit = Side(*row[2:7]), Side(*row[7:12])
    check_posting(
        *(seq, line, (debit.account, credit.account, amount, currency, layer, action, hold_id)),
        *(stated, hold, names),
    )
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


def _name_number(seq: int, line: int, word: str, side: Side, after: Side) -> None:
    for name, value, wanted in zip(Side._fields, side, after, strict=True):
        if value != wanted:
            raise BookAltered(f"journal {seq}, line {line}, {word}_{name}", str(value), str(wanted))
