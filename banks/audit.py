"""What the banks' tables must agree on with the books (quality.md): I8's inner half, I9 for settlement files.

The comparison with a bank's own book, I8's outer half, is ``banks.reconcile``.
"""

from __future__ import annotations

from typing import Any, LiteralString

from psycopg import AsyncConnection

from banks.reconcile import unexplained_receivable
from ledger.audit import Check, Progress, Tallies

ITEMS = Check("I8-items", "each item expected of a bank is what its journal moved on the bank's receivable")
RECEIVABLE = Check("I8-receivable", "each bank's receivable is the sum of its open items")
FILES = Check("I9-files", "each settlement file's lines sum to its header")
PARTS = Check(
    "I9-parts", "each settlement file has its part in every book of its lines, and they make the whole"
)
LINES = Check("I9-lines", "each settlement line is what its journal took off the bank's receivable")

_ITEMS: LiteralString = """
SELECT e.bank, e.rrn, e.amount, m.amount
  FROM banks.expected_item e
  LEFT JOIN LATERAL (
    SELECT sum(CASE WHEN p.debit_account = a.account_id THEN p.amount ELSE -p.amount END)
           * CASE e.kind WHEN 'capture' THEN 1 ELSE -1 END AS amount
      FROM ledger.journal j
      JOIN ledger.posting p ON p.book_id = j.book_id AND p.journal_seq = j.seq AND p.layer = 0
      JOIN ledger.account a ON a.book_id = j.book_id AND a.account_id IN (p.debit_account, p.credit_account)
     WHERE j.book_id = e.book_id AND j.source_type = 'operation' AND j.source_id = e.operation_id::text
       AND j.source_event = 'approved'
       AND a.path = 'Assets:Receivable:' || e.bank AND a.currency = e.currency) m ON true
 WHERE e.book_id = %s"""

_FILES: LiteralString = """
SELECT f.bank, f.file_id, x.field, x.stored, x.recomputed
  FROM banks.settlement_file f
  JOIN LATERAL (
    SELECT count(*) FILTER (WHERE kind = 'capture') AS captures, count(*) FILTER (WHERE kind = 'refund') AS refunds,
           coalesce(sum(amount) FILTER (WHERE kind = 'capture'), 0) AS gross_captured,
           coalesce(sum(amount) FILTER (WHERE kind = 'refund'), 0) AS gross_refunded,
           sum(cost) AS cost, sum(tax) AS tax, sum(net) AS net
      FROM banks.settlement_line l
     WHERE l.book_id = f.book_id AND l.bank = f.bank AND l.file_id = f.file_id) s ON true
  JOIN LATERAL (VALUES
    ('captures', f.captures, s.captures), ('refunds', f.refunds, s.refunds),
    ('gross_captured', f.gross_captured, s.gross_captured), ('gross_refunded', f.gross_refunded, s.gross_refunded),
    ('cost', f.cost, s.cost), ('tax', f.tax, s.tax), ('net', f.net, s.net)) AS x(field, stored, recomputed) ON true
 WHERE f.book_id = %s"""

# Each part says what the whole is: all of them must say the same, and sum to it.
_PARTS: LiteralString = """
SELECT f.bank, f.file_id, f.books::text, p.books::text, f.file_lines, p.lines, f.file_net, p.net
  FROM banks.settlement_file f
  JOIN LATERAL (
    SELECT array_agg(o.book_id ORDER BY o.book_id) AS books, sum(o.captures + o.refunds) AS lines, sum(o.net) AS net
      FROM banks.settlement_file o
     WHERE o.book_id = ANY (f.books) AND o.bank = f.bank AND o.file_id = f.file_id AND o.sha256 = f.sha256
       AND (o.books, o.file_lines, o.file_net, o.settled_on, o.currency)
         = (f.books, f.file_lines, f.file_net, f.settled_on, f.currency)) p ON true
 WHERE f.book_id = %s"""

_LINES: LiteralString = """
SELECT l.bank, l.file_id, l.line, l.amount, m.amount
  FROM banks.settlement_line l
  LEFT JOIN LATERAL (
    SELECT sum(CASE WHEN p.credit_account = a.account_id THEN p.amount ELSE -p.amount END)
           * CASE l.kind WHEN 'capture' THEN 1 ELSE -1 END AS amount
      FROM ledger.journal j
      JOIN ledger.posting p ON p.book_id = j.book_id AND p.journal_seq = j.seq
      JOIN ledger.account a ON a.book_id = j.book_id AND a.account_id IN (p.debit_account, p.credit_account)
     WHERE j.book_id = l.book_id AND j.id = l.journal_id
       AND a.path = 'Assets:Receivable:' || l.bank AND a.currency = l.currency) m ON true
 WHERE l.book_id = %s"""


_WHOLE = ("books", "file_lines", "file_net")


class BanksExaminer:
    """Proves that what banks owe and paid is in the books, item by item (``ledger.audit.Examiner``)."""

    checks = (ITEMS, RECEIVABLE, FILES, PARTS, LINES)

    async def examine(
        self, conn: AsyncConnection[Any], book_id: int, tallies: Tallies, progress: Progress
    ) -> None:
        async for bank, rrn, stored, recomputed in conn.cursor().stream(_ITEMS, [book_id]):
            key = {"book_id": book_id, "bank": bank, "rrn": rrn}
            _compare(tallies, ITEMS, "banks.expected_item", key, "amount", stored, recomputed)
        async for bank, file_id, field, stored, recomputed in conn.cursor().stream(_FILES, [book_id]):
            key = {"book_id": book_id, "bank": bank, "file_id": file_id}
            _compare(tallies, FILES, "banks.settlement_file", key, field, stored, recomputed)
        async for bank, file_id, line, stored, recomputed in conn.cursor().stream(_LINES, [book_id]):
            key = {"book_id": book_id, "bank": bank, "file_id": file_id, "line": line}
            _compare(tallies, LINES, "banks.settlement_line", key, "amount", stored, recomputed)
        async for bank, file_id, *pairs in conn.cursor().stream(_PARTS, [book_id]):
            key = {"book_id": book_id, "bank": bank, "file_id": file_id}
            tallies[PARTS].rows += 1
            for field, stored, recomputed in zip(_WHOLE, pairs[::2], pairs[1::2], strict=True):
                if stored != recomputed:
                    tallies[PARTS].find("banks.settlement_file", key, field, stored, recomputed)
        await self._receivables(conn, book_id, tallies)

    async def _receivables(self, conn: AsyncConnection[Any], book_id: int, tallies: Tallies) -> None:
        cursor = await conn.execute("SELECT code FROM banks.bank ORDER BY code")
        for (bank,) in await cursor.fetchall():
            tallies[RECEIVABLE].rows += 1
            for currency, amount in (await unexplained_receivable(conn, book_id, bank)).items():
                key = {"book_id": book_id, "bank": bank, "currency": currency}
                tallies[RECEIVABLE].find("ledger.balance", key, "receivable beyond its open items", amount, 0)


def _compare(
    tallies: Tallies,
    check: Check,
    table: str,
    key: dict[str, int | str],
    field: str,
    stored: int,
    recomputed: int | None,
) -> None:
    tallies[check].rows += 1
    if recomputed is None or stored != recomputed:
        tallies[check].find(table, key, field, stored, recomputed)
