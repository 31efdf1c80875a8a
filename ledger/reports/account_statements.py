"""A camt.053 statement of each account that is asked about: of all, an owner's, or one.

A statement is of days of effect, since that is what ``ValDt`` and its balances speak of; what was known is fixed at one
journal for all of them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import date, datetime
from hashlib import sha256
from typing import Any

from psycopg import AsyncConnection

from ledger.export.selection import Selection, choose
from ledger.export.standing import accounts_of
from ledger.reports.camt053 import StatementCamt053
from ledger.reports.load import open_statement, statement_pages
from ledger.reports.statement import StatementHead, written

_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class AccountStatement:
    """``name``: of a file to keep it in, another one for each account."""

    name: str
    head: StatementHead

    def chunks(self, conn: AsyncConnection[Any]) -> AsyncGenerator[bytes]:
        return written(StatementCamt053(self.head), statement_pages(conn, self.head))


async def account_statements(
    conn: AsyncConnection[Any],
    book_id: int,
    selection: Selection,
    *,
    first: date,
    last: date,
    made_at: datetime,
) -> AsyncGenerator[AccountStatement]:
    """By path and currency. Of ``selection``, owner, account and currency count, and ``through_seq`` as what is known.

    Raises ``BookUnknown``, ``AccountUnknown``, ``InvalidEntry``, ``PeriodInvalid``.
    """
    chosen = await choose(conn, book_id, selection)
    accounts = await accounts_of(conn, chosen)
    async for page in accounts.pages(conn):
        for standing in page:
            if standing.chosen:
                head = await open_statement(
                    *(conn, book_id, standing.path, standing.currency),
                    first=first,
                    last=last,
                    known=chosen.through_seq,
                    made_at=made_at,
                )
                assert head is not None, "accounts are never deleted"
                yield AccountStatement(file_name(standing.path, standing.currency), head)


def file_name(path: str, currency: str) -> str:
    """``Assets.Bank.Escrow.INR.xml``; a path holds no dot. One too long for a file system ends in a digest of it."""
    name = path.replace(":", ".")
    if len(name) > _LONGEST_NAME:
        name = f"{name[:_LONGEST_NAME]}~{sha256(path.encode()).hexdigest()[:32]}"
    return f"{name}.{currency}.xml"
