"""Every account's floor and status: its facts as their acts say, its balance row as its last fact says."""

from __future__ import annotations

from typing import Any

import orjson
from psycopg import AsyncConnection

from ledger.export.errors import BookAltered
from ledger.export.pack.scope import Scope

_PAGE = 1000  # accounts
_FACTS = """
SELECT a.account_id, f.fact, f.floor, f.status, f.reason, f.person, f.recorded_at, f.after_seq, f.act,
       a.path || ' ' || a.currency, a.opened_at, x.action, x.subject, x.reason, x.person, x.recorded_at, x.detail,
       b.floor, b.status, b.fact
  FROM ledger.account a
  JOIN ledger.account_fact f ON f.book_id = a.book_id AND f.account_id = a.account_id
  JOIN ledger.balance b ON b.book_id = a.book_id AND b.account_id = a.account_id
  LEFT JOIN ledger.act x ON x.book_id = f.book_id AND x.act = f.act
 WHERE a.book_id = %s AND a.account_id BETWEEN %s AND %s ORDER BY a.account_id, f.fact"""
_FIELDS = (
    "action",
    "subject",
    "reason",
    "person",
    "recorded_at",
    "account",
    "after",
    "fact",
    "floor",
    "status",
)


async def check_terms(conn: AsyncConnection[Any], scope: Scope) -> None:
    """Of all accounts that the range has, as of now. Raises ``BookAltered``."""
    for begin in range(1, scope.after.account + 1, _PAGE):
        end = min(begin + _PAGE - 1, scope.after.account)
        rows = await (await conn.execute(_FACTS, [scope.book_id, begin, end])).fetchall()
        for at, row in enumerate(rows):
            same = at > 0 and rows[at - 1][0] == row[0]
            _check_fact(row, rows[at - 1][1] + 1 if same else 1)
            if at + 1 == len(rows) or rows[at + 1][0] != row[0]:
                _check_balance(row)


def _check_fact(row: tuple[Any, ...], number: int) -> None:
    account, fact, floor, status, reason, person, at, after, act, subject, opened_at = row[:11]
    where = f"account {account}, fact {number}"
    if fact != number:
        raise BookAltered(where, "missing" if fact > number else "there twice", "there once")
    if fact == 1:
        _same(
            where,
            ("status", "reason", "person", "recorded_at", "after_seq", "act"),
            (status, reason, person, at, after, act),
            ("open", "opened", None, opened_at, 0, None),
        )
        return
    if row[11] is None:
        raise BookAltered(f"{where}, act", str(act), "that of the act that recorded it")
    detail = orjson.loads(row[16])
    told = None if floor is None else str(floor)
    stated = ("change_account", subject, reason, person, at, account, after, fact, told, status)
    said = (*row[11:16], *(detail.get(name) for name in _FIELDS[5:]))
    _same(where, _FIELDS, stated, said)


def _check_balance(row: tuple[Any, ...]) -> None:
    account, fact, floor, status = row[:4]
    _same(f"balance of account {account}", ("floor", "status", "fact"), row[17:], (floor, status, fact))


def _same(where: str, names: tuple[str, ...], found: tuple[Any, ...], wanted: tuple[Any, ...]) -> None:
    for name, value, expected in zip(names, found, wanted, strict=True):
        if value != expected:
            raise BookAltered(f"{where}, {name}", str(value), str(expected))
