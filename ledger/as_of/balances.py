"""Balances as of the past: of one account, of many, of all below a path, of the whole book."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, LiteralString

from psycopg import AsyncConnection

from ledger.as_of.axes import KNOWN, AsOf, fetch
from ledger.model import TYPE_BY_ROOT, AccountType
from ledger.read import TrialBalanceRow


@dataclass(frozen=True, slots=True)
class BalanceAsOf:
    """``gross``: posted debits and credits; None unless an effective day was asked for (``date.max`` for all)."""

    path: str
    currency: str
    posted: int
    pending_in: int
    pending_out: int
    gross: tuple[int, int] | None = field(default=None, compare=False)

    @property
    def type(self) -> AccountType:
        return TYPE_BY_ROOT[self.path.split(":", 1)[0]]

    @property
    def available(self) -> int:
        return self.posted - self.pending_out

    @property
    def posted_debits(self) -> int:
        return self._gross[0]

    @property
    def posted_credits(self) -> int:
        return self._gross[1]

    @property
    def _gross(self) -> tuple[int, int]:
        if self.gross is None:
            raise ValueError("gross sums come with an effective day only")
        return self.gross


@dataclass(frozen=True, slots=True)
class Total:
    """The balances of a path and all below it in one currency: one root, hence one normal side."""

    prefix: str
    currency: str
    accounts: int
    posted: int
    pending_in: int
    pending_out: int

    @property
    def available(self) -> int:
        return self.posted - self.pending_out


# The accounts asked about, with what stood in them; ``lines``: whether they had any by then.
_ASKED: LiteralString = """
WITH asked AS MATERIALIZED (
  SELECT account_id, path, currency, debit_normal FROM ledger.account WHERE book_id = %(book)s{where})
"""
_EFFECTIVE: LiteralString = """
SELECT a.path, a.currency, s.lines, s.posted_debits, s.posted_credits, f.*
  FROM asked a
  JOIN ledger.sums_as_of(%(book)s, ARRAY(SELECT account_id FROM asked), %(day)s, {known}) s USING (account_id),
       LATERAL (SELECT (posted_debits - posted_credits) * CASE WHEN debit_normal THEN 1 ELSE -1 END AS posted,
                       CASE WHEN debit_normal THEN pending_debits ELSE pending_credits END AS pending_in,
                       CASE WHEN debit_normal THEN pending_credits ELSE pending_debits END AS pending_out) f
"""
_EVERY_DAY: LiteralString = """
SELECT a.path, a.currency, l.seq IS NOT NULL AS lines, NULL::bigint AS posted_debits, NULL::bigint AS posted_credits,
       coalesce(l.posted, 0) AS posted, coalesce(l.incoming, 0) AS pending_in,
       coalesce(l.posted - l.available, 0) AS pending_out
  FROM asked a
  LEFT JOIN ledger.lines_as_of(%(book)s, ARRAY(SELECT account_id FROM asked), {known}) l USING (account_id)
"""
_OWNED: LiteralString = " AND owner = %(owner)s"
# ';' follows ':' in ASCII: this range is exactly the paths below the prefix, by index.
_BELOW: LiteralString = " AND (path = %(prefix)s OR (path >= %(prefix)s || ':' AND path < %(prefix)s || ';'))"
_PAGE: LiteralString = (
    "{owned}{below} AND (path, currency) > (%(path)s, %(currency)s) ORDER BY path, currency LIMIT %(limit)s"
)
_TOTALS: LiteralString = """
SELECT currency, count(*) AS accounts, sum(posted)::bigint AS posted, sum(pending_in)::bigint AS pending_in,
       sum(pending_out)::bigint AS pending_out
  FROM ({figures}) AS figure GROUP BY currency ORDER BY currency"""
_TRIAL_BALANCE: LiteralString = """
SELECT * FROM ({figures}) AS figure WHERE lines ORDER BY currency, path"""


def _figures(as_of: AsOf, where: LiteralString) -> LiteralString:
    """A query for path, currency, lines, posted_debits, posted_credits, posted, pending_in, pending_out."""
    figures = _EVERY_DAY if as_of.effective is None else _EFFECTIVE
    return (_ASKED + figures).format(where=where, known=KNOWN)


async def balance(
    conn: AsyncConnection[Any],
    book_id: int,
    path: str,
    currency: str,
    as_of: AsOf,
    *,
    owner: str | None = None,
) -> BalanceAsOf | None:
    """One account's balance; None when there is no such account, or it is not ``owner``'s."""
    where: LiteralString = " AND path = %(path)s AND currency = %(currency)s"
    given = {"book": book_id, "path": path, "currency": currency, "owner": owner, **as_of.params}
    rows = await fetch(conn, _figures(as_of, where + ("" if owner is None else _OWNED)), given)
    return _balance(rows[0]) if rows else None


async def balances(
    conn: AsyncConnection[Any],
    book_id: int,
    as_of: AsOf,
    *,
    prefix: str | None = None,
    owner: str | None = None,
    after: tuple[str, str] = ("", ""),
    limit: int | None = None,
) -> list[BalanceAsOf]:
    """Balances by path and currency; only those at or below ``prefix``, only ``owner``'s. Of a page: up to ``limit``
    ones after a path and currency."""
    where = _PAGE.format(owned="" if owner is None else _OWNED, below="" if prefix is None else _BELOW)
    given = {"book": book_id, "prefix": prefix, "owner": owner, **as_of.params}
    given |= {"path": after[0], "currency": after[1], "limit": limit}
    rows = await fetch(conn, _figures(as_of, where) + " ORDER BY a.path, a.currency", given)
    return [_balance(row) for row in rows]


async def totals(
    conn: AsyncConnection[Any], book_id: int, prefix: str, as_of: AsOf, *, owner: str | None = None
) -> list[Total]:
    """The sums over ``prefix`` and all accounts below it, one row a currency; only over ``owner``'s."""
    sql = _TOTALS.format(figures=_figures(as_of, _BELOW + ("" if owner is None else _OWNED)))
    rows = await fetch(conn, sql, {"book": book_id, "prefix": prefix, "owner": owner, **as_of.params})
    return [Total(prefix, **row) for row in rows]


async def trial_balance(
    conn: AsyncConnection[Any], book_id: int, as_of: AsOf | None = None
) -> list[TrialBalanceRow]:
    """Every account that had a line by then, its posted balance on the side it falls; per currency the debits equal
    the credits."""
    as_of = as_of or AsOf()
    sql = _TRIAL_BALANCE.format(figures=_figures(as_of, ""))
    rows = await fetch(conn, sql, {"book": book_id, **as_of.params})
    return [_trial_balance_row(row) for row in rows]


def _balance(row: dict[str, Any]) -> BalanceAsOf:
    debits, credits = row["posted_debits"], row["posted_credits"]
    figures = (row["posted"], row["pending_in"], row["pending_out"])
    return BalanceAsOf(row["path"], row["currency"], *figures, None if debits is None else (debits, credits))


def _trial_balance_row(row: dict[str, Any]) -> TrialBalanceRow:
    net = row["posted"] if TYPE_BY_ROOT[row["path"].split(":", 1)[0]].debit_normal else -row["posted"]
    return TrialBalanceRow(row["path"], row["currency"], max(net, 0), max(-net, 0))
