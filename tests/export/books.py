"""What the tests of exports share: exports read whole, our own sums, the random book that every judge is shown."""

from __future__ import annotations

import shutil
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
from psycopg import AsyncConnection

from khata.judges import Figures
from ledger import model as m
from ledger.books import open_accounts
from ledger.export import EVERYTHING, FILES, Selection, export_file
from ledger.export.plaintext import PENDING
from tests.ledger.random_books import RandomBook, random_book

SEED = 20_261_122
JOURNALS = 20_000
_BATCH = 500
# Names that other programs might read as something else: words in lower case, marks, one account above another.
AWKWARD = (
    "Liabilities:Customer:c0",
    "Liabilities:X-odd:x_y--z_u-u",
    "Assets:bank_of-x:9-lives",
    "Assets:bank_of-x",
    "Equity:X-Pending:Assets:Cash",
    "Equity:Pending",
    "Expenses:" + ":".join(["w" * 64] * 7),
)


def installed(judge: str) -> bool:
    """Whether a judge of ``khata.judges`` is there: beancount in this Python, the others on the path."""
    program = Path(sys.executable).with_name("bean-check") if judge == "beancount" else judge
    return shutil.which(program) is not None


async def exported(
    dsn: str, book_id: int, format: str, name: str | None = None, selection: Selection = EVERYTHING
) -> bytes:
    """One file of a format, by default its first."""
    async with await AsyncConnection.connect(dsn) as conn:
        chunks = export_file(conn, book_id, format, name or FILES.get(format, ("",))[0], selection)
        return b"".join([chunk async for chunk in chunks])


async def journals(dsn: str, book_id: int, selection: Selection = EVERYTHING) -> list[dict[str, Any]]:
    return [
        orjson.loads(line) for line in (await exported(dsn, book_id, "jsonl", None, selection)).splitlines()
    ]


async def fetch(dsn: str, statement: str, *values: object) -> list[Any]:
    async with await AsyncConnection.connect(dsn) as conn:
        return await (await conn.execute(statement.encode(), values)).fetchall()


_SUMS = """
SELECT a.path, a.currency, s.layer, sum(s.amount)::bigint FROM ledger.posting p
 CROSS JOIN LATERAL (VALUES (p.debit_account, p.layer, p.amount), (p.credit_account, p.layer, -p.amount))
       AS s(account_id, layer, amount)
  JOIN ledger.account a ON a.book_id = p.book_id AND a.account_id = s.account_id
 WHERE p.book_id = %s AND p.journal_seq <= %s GROUP BY 1, 2, 3"""


async def sums(dsn: str, book_id: int, through: int) -> Figures:
    """Every balance other than zero after a journal, by layer, from the postings alone."""
    rows = await fetch(dsn, _SUMS, book_id, through)
    return {(PENDING * layer + path, currency): amount for path, currency, layer, amount in rows if amount}


async def large_book(
    conn: AsyncConnection[Any], *, journals: int = JOURNALS, name: str = "large"
) -> RandomBook:
    """``journals`` journals, a few more or less, committed: every kind of row, three currencies, some weeks."""
    book = await random_book(conn, SEED, name=name, batches=4)
    await _open_awkward(conn, book)
    while book.posted < journals:
        book.now += timedelta(hours=book.random.randrange(1, 30))
        await book.post([_journal(book) for _ in range(_BATCH)])
    return book


async def _open_awkward(conn: AsyncConnection[Any], book: RandomBook) -> None:
    accounts = [m.NewAccount(path, currency) for path in AWKWARD for currency in ("INR", "KWD")]
    await open_accounts(conn, book.book_id, accounts, now=book.now)
    await conn.commit()


def _journal(book: RandomBook) -> m.Journal:
    """Mostly what the ledger will take: on accounts without a floor."""
    if book.random.random() < 0.1:
        return book.random_journal()
    debit, credit = book.random.sample(AWKWARD, 2)
    currency = book.random.choice(("INR", "KWD"))
    if book.random.random() < 0.3:
        return book.journal(
            hold=m.Place(book.id(), debit, credit, book.amount(), currency), kind="authorization"
        )
    days = book.random.choice((0, 0, 0, 1, 40))
    posting = m.Posting(debit, credit, book.amount(), currency)
    return book.journal(posting, effective_at=book.now - timedelta(days=days))
