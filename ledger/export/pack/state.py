"""What stood at an end of the range: every account, and every hold that had not ended.

Balances come from the lines themselves (each states its accounts' balances after it) and terms from the sealed acts;
what the balance rows say must be the same. Nothing is summed up over the book but the lines after the range.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from datetime import UTC, datetime
from itertools import pairwise, zip_longest
from typing import Any

import orjson
from psycopg import AsyncConnection

from ledger.canonical import rfc3339
from ledger.export.errors import BookAltered
from ledger.export.pack.running import Running, Side
from ledger.export.pack.scope import Counts, Scope

PAGE = 1000

_NUMBERS = "SELECT account_id, seq, posted, available, incoming FROM ledger.lines_as_of(%s, %s, %s)"
# Terms as the acts tell them that the log has at that size; of an account that nobody changed, as it was opened.
_ACCOUNTS = """
SELECT a.account_id, a.path, a.currency, a.debit_normal, o.floor, c.detail, l.active
  FROM ledger.account a
  JOIN ledger.account_fact o ON o.book_id = a.book_id AND o.account_id = a.account_id AND o.fact = 1
  LEFT JOIN LATERAL (
   SELECT x.detail FROM ledger.act x
    WHERE x.book_id = a.book_id AND x.subject = a.path || ' ' || a.currency AND x.action = 'change_account'
      AND x.act <= %(acts)s ORDER BY x.act DESC LIMIT 1) AS c ON true
 CROSS JOIN LATERAL (
   SELECT count(*) FILTER (WHERE y.active) AS active FROM (
     SELECT DISTINCT ON (x.detail::jsonb ->> 'name') (x.detail::jsonb ->> 'active')::boolean AS active FROM ledger.act x
      WHERE x.book_id = a.book_id AND x.subject = a.path || ' ' || a.currency AND x.action = 'set_limit'
        AND x.act <= %(acts)s ORDER BY x.detail::jsonb ->> 'name', x.act DESC) AS y) AS l
 WHERE a.book_id = %(book)s AND a.account_id > %(after)s AND a.account_id <= %(through)s
 ORDER BY a.account_id LIMIT %(page)s"""
_ROWS = """
SELECT account_id, seq, posted_debits, posted_credits, pending_debits, pending_credits, debit_normal FROM ledger.balance
 WHERE book_id = %(book)s AND account_id > %(after)s AND account_id <= %(through)s ORDER BY account_id LIMIT %(page)s"""
_SINCE = """
SELECT side.account, sum(side.debit)::bigint, sum(side.credit)::bigint, count(*) FROM ledger.posting p,
       LATERAL (VALUES (p.debit_account, p.amount * (1 - p.layer), 0), (p.credit_account, 0, p.amount * (1 - p.layer)))
               AS side(account, debit, credit)
 WHERE p.book_id = %(book)s AND p.journal_seq > %(after)s AND p.journal_seq <= %(head)s GROUP BY side.account"""
# What each hold's postings up to then make of it: few of each, found by its id.
_HOLDS = """
SELECT h.hold_id, d.path, c.path, d.currency, h.tolerance_bps, h.expires_at,
       s.held, s.consumed, s.captured, s.released, s.expired, h.held, h.consumed, h.captured, h.released, h.expired
  FROM (SELECT * FROM ledger.hold x WHERE x.book_id = %(book)s AND x.hold_id > %(after)s
         ORDER BY x.hold_id LIMIT %(page)s) AS h
 CROSS JOIN LATERAL (
   SELECT coalesce(sum(p.amount) FILTER (WHERE p.hold_action <= 1), 0)::bigint AS held,
          coalesce(-sum(p.amount) FILTER (WHERE p.hold_action = 2 AND p.layer = 1), 0)::bigint AS consumed,
          coalesce(sum(p.amount) FILTER (WHERE p.layer = 0), 0)::bigint AS captured,
          coalesce(-sum(p.amount) FILTER (WHERE p.hold_action = 3), 0)::bigint AS released,
          coalesce(-sum(p.amount) FILTER (WHERE p.hold_action = 4), 0)::bigint AS expired
     FROM ledger.posting p
    WHERE p.book_id = h.book_id AND p.hold_id = h.hold_id AND p.journal_seq <= %(seq)s OFFSET 0) AS s
  JOIN ledger.account d ON d.book_id = h.book_id AND d.account_id = h.debit_account
  JOIN ledger.account c ON c.book_id = h.book_id AND c.account_id = h.credit_account
 ORDER BY h.hold_id"""
_SUMS = ("held", "consumed", "captured", "released", "expired")


async def opening_numbers(conn: AsyncConnection[Any], scope: Scope, running: Running) -> None:
    """Fill in what stood before the range."""
    if scope.before.journal == 0:
        return
    for first in range(1, scope.before.account + 1, PAGE):
        ids = list(range(first, min(first + PAGE, scope.before.account + 1)))
        cursor = conn.cursor(binary=True)
        await cursor.execute(_NUMBERS, [scope.book_id, ids, scope.before.journal])
        for row in await cursor.fetchall():
            running.set(Side(*row))


async def check_balances(conn: AsyncConnection[Any], scope: Scope, running: Running) -> None:
    """Make the gross sums of ``running``, which are those of the range, what they are over all time.

    From the balance rows less what came after the range. Raises ``BookAltered`` where those rows are not what the lines
    make: for a range from the beginning in every sum, else in their differences.
    """
    since: dict[int, tuple[int, int, int]] = {}
    given: dict[str, Any] = {"book": scope.book_id, "after": scope.after.journal, "head": scope.head}
    if scope.after.journal < scope.head:
        async for row in conn.cursor(binary=True).stream(_SINCE, given):
            since[row[0]] = row[1:]
    given = {"book": scope.book_id, "after": 0, "through": scope.after.account, "page": PAGE}
    while given["after"] < scope.after.account:
        rows = await (await conn.cursor(binary=True).execute(_ROWS, given)).fetchall()
        for number, row in enumerate(rows, given["after"] + 1):
            if row[0] != number:
                raise BookAltered(f"balance of account {number}", "missing", "there")
            _check_row(row, since.get(number, (0, 0, 0)), scope, running)
        if not rows:
            raise BookAltered(f"balance of account {given['after'] + 1}", "missing", "there")
        given["after"] = rows[-1][0]


def _check_row(row: tuple[Any, ...], since: tuple[int, int, int], scope: Scope, running: Running) -> None:
    account, seq, debits, credits, pending_debits, pending_credits, debit_normal = row
    debits, credits = debits - since[0], credits - since[1]
    at = running.of(account)
    whole = scope.before.journal == 0
    net = debits - credits if debit_normal else credits - debits
    found = {"seq": seq - since[2], "posted": net}
    expected = {"seq": at.seq, "posted": at.posted}
    if whole:
        found |= {"posted_debits": debits, "posted_credits": credits}
        expected |= {"posted_debits": running.debits[account], "posted_credits": running.credits[account]}
    if scope.after.journal == scope.head:
        found |= {"pending_debits": pending_debits, "pending_credits": pending_credits}
        expected |= dict(zip(("pending_debits", "pending_credits"), _pending(at, debit_normal), strict=True))
    for name, value in found.items():
        if value != expected[name]:
            raise BookAltered(f"balance of account {account}, {name}", str(value), str(expected[name]))
    running.debits[account], running.credits[account] = debits, credits


def _pending(at: Side, debit_normal: bool) -> tuple[int, int]:
    """Pending debits and credits."""
    outgoing = at.posted - at.available
    return (at.incoming, outgoing) if debit_normal else (outgoing, at.incoming)


def opening_gross(running: Running, closing: Running) -> None:
    """``running``: as before the range; its gross sums follow from those after it less those of the range."""
    for at in range(len(running.seq)):
        running.debits[at] = closing.debits[at] - running.debits[at]
        running.credits[at] = closing.credits[at] - running.credits[at]


async def account_states(
    conn: AsyncConnection[Any], book_id: int, at: Counts, running: Running
) -> AsyncGenerator[bytes]:
    """``opening.jsonl`` or ``trial_balance.jsonl``: what ``running`` holds, and the terms at that size of the log."""
    given = {"book": book_id, "acts": at.act, "after": 0, "through": at.account, "page": PAGE}
    while given["after"] < at.account:
        rows = await (await conn.execute(_ACCOUNTS, given)).fetchall()
        last = min(given["after"] + PAGE, at.account)
        for number, row in zip_longest(range(given["after"] + 1, last + 1), rows):
            if row is None or row[0] != number:
                raise BookAltered(f"account {number}", "not there once, with its opening", "there once")
        yield b"".join(_account_line(row, running) for row in rows)
        given["after"] = last


def _account_line(row: tuple[Any, ...], running: Running) -> bytes:
    account, path, currency, debit_normal, opening_floor, changed, limits = row
    opened = {"floor": None if opening_floor is None else str(opening_floor), "status": "open"}
    terms = opened if changed is None else orjson.loads(changed)
    at = running.of(account)
    pending_debits, pending_credits = _pending(at, debit_normal)
    return json_line(
        {
            "account": path,
            "account_id": account,
            "active_limits": limits,
            "currency": currency,
            "floor": terms["floor"],
            "pending_credits": str(pending_credits),
            "pending_debits": str(pending_debits),
            "posted_credits": str(running.credits[account]),
            "posted_debits": str(running.debits[account]),
            "seq": at.seq,
            "status": terms["status"],
        }
    )


async def open_holds(conn: AsyncConnection[Any], scope: Scope, seq: int) -> AsyncGenerator[bytes]:
    """``opening_holds.jsonl`` or ``holds.jsonl``: those that had not ended after journal ``seq``. Where that is the
    head, raises ``BookAltered`` for a hold whose row says something else."""
    given: dict[str, Any] = {"book": scope.book_id, "after": "00000000-0000-0000-0000-000000000000"}
    given |= {"seq": seq, "page": PAGE}
    while True:
        rows = await (await conn.execute(_HOLDS, given)).fetchall()
        for one, other in pairwise(rows):
            if one[0] == other[0]:
                raise BookAltered(f"hold {one[0]}", "there twice", "there once")
        if seq == scope.head:
            _check_holds(rows)
        yield b"".join(_hold_line(row[:11]) for row in rows if row[6] > row[7] + row[9] + row[10])
        if len(rows) < PAGE:
            return
        given["after"] = rows[-1][0]


def _check_holds(rows: Iterable[tuple[Any, ...]]) -> None:
    for row in rows:
        for name, made, stored in zip(_SUMS, row[6:11], row[11:], strict=True):
            if made != stored:
                raise BookAltered(f"hold {row[0]}, {name}", str(stored), str(made))


def _hold_line(row: tuple[Any, ...]) -> bytes:
    id_, debit, credit, currency, tolerance_bps, expires_at, *sums = row
    hold = {"credit": credit, "currency": currency, "debit": debit, "id": str(id_)}
    hold |= {"expires_at": None if expires_at is None else _text(expires_at), "tolerance_bps": tolerance_bps}
    return json_line(hold | {name: str(value) for name, value in zip(_SUMS, sums, strict=True)})


def _text(at: datetime) -> str:
    return rfc3339(at.astimezone(UTC))


def json_line(value: dict[str, Any]) -> bytes:
    """RFC 8785: keys are ASCII here, numbers integers below 2^53."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS) + b"\n"
