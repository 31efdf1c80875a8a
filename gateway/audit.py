"""What the gateway's tables must agree on with themselves and with the books (quality.md): I4, and funds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncGenerator, Mapping
from typing import Any, LiteralString
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import dict_row

from gateway.model import Payment, attempt_state
from gateway.store import payment_row, read_payment
from ledger.audit import Check, Progress, Tallies

PAYMENTS = Check("I4-payments", "each payment's status and amounts are the fold of its operations")
ATTEMPTS = Check("I4-attempts", "each attempt's state is the fold of its operations")
JOURNALS = Check("I4-journals", "each operation has its journal exactly when the bank has done it")
HOMES = Check("I4-homes", "each payment, fund and item expected of a bank is in its merchant's home book")
FUNDS = Check("I4-funds", "each merchant's funds not yet payable sum to its Pending account")

PAGE = 500
# Not next_check_at: a worker that claims an operation moves the operation's alone.
_FOLDED = (
    *("status", "authorized", "capturing", "captured", "voiding", "voided", "refunding", "refunded"),
    "unknown_since",
)
_PAYMENTS: LiteralString = "SELECT * FROM gateway.payment WHERE book_id = %s AND id > %s ORDER BY id LIMIT %s"
_CHILDREN: Mapping[str, LiteralString] = {
    "attempt": "SELECT * FROM gateway.attempt WHERE payment_id = ANY(%s) ORDER BY number",
    "operation": "SELECT * FROM gateway.operation WHERE payment_id = ANY(%s) ORDER BY id",
    "fund": "SELECT * FROM gateway.fund WHERE payment_id = ANY(%s) ORDER BY operation_id",
}
_JOURNALS: LiteralString = """
SELECT o.id::text, o.state, j.seq
  FROM gateway.operation o
  JOIN gateway.payment p ON p.id = o.payment_id
  LEFT JOIN ledger.journal j ON j.book_id = p.book_id AND j.source_type = 'operation'
        AND j.source_id = o.id::text AND j.source_event = 'approved'
 WHERE p.book_id = %s AND o.kind IN ('authorize', 'capture', 'void', 'refund')"""
_STRAYS: LiteralString = """
SELECT j.seq, j.source_id FROM ledger.journal j
 WHERE j.book_id = %s AND j.source_type = 'operation'
   AND NOT EXISTS (SELECT FROM gateway.operation o WHERE o.id::text = j.source_id)"""
_FUNDS: LiteralString = """
SELECT m.owner, a.currency, b.posted_credits - b.posted_debits, coalesce(f.left, 0)
  FROM gateway.merchant m
  JOIN ledger.account a ON a.book_id = m.book_id AND a.path = 'Liabilities:Merchant:' || m.owner || ':Pending'
  JOIN ledger.balance b ON b.book_id = a.book_id AND b.account_id = a.account_id
  LEFT JOIN (SELECT merchant_id, currency, sum(net - taken)::bigint AS left FROM gateway.fund
              WHERE release_id IS NULL GROUP BY merchant_id, currency) f
         ON f.merchant_id = m.id AND f.currency = a.currency
 WHERE m.book_id = %s"""
# By the merchant, so that a row that was put into another book is named in both.
_HOMES: LiteralString = """
SELECT x.relation, x.id, x.book_id, m.book_id
  FROM gateway.merchant m
  JOIN (SELECT 'gateway.payment' AS relation, id::text, merchant_id::text, book_id FROM gateway.payment
        UNION ALL
        SELECT 'gateway.fund', operation_id::text, merchant_id::text, book_id FROM gateway.fund
        UNION ALL
        SELECT 'banks.expected_item', operation_id::text, merchant_id, book_id FROM banks.expected_item) x
    ON x.merchant_id IN (m.id::text, m.owner)
 WHERE %(book)s IN (x.book_id, m.book_id)"""
_DONE = ("approved", "resolved_by_file", "resolved_by_operator")


class GatewayExaminer:
    """Proves that states, amounts and journals say the same (``ledger.audit.Examiner``)."""

    checks = (PAYMENTS, ATTEMPTS, JOURNALS, HOMES, FUNDS)

    async def examine(
        self, conn: AsyncConnection[Any], book_id: int, tallies: Tallies, progress: Progress
    ) -> None:
        async for row, attempts, payment in _payments(conn, book_id):
            _examine_payment(tallies, row, attempts, payment)
        await _examine_journals(conn, book_id, tallies)
        async for relation, id_, stored, home in conn.cursor().stream(_HOMES, {"book": book_id}):
            tallies[HOMES].rows += 1
            if stored != home:
                tallies[HOMES].find(relation, {"id": id_}, "book_id", stored, home)
        cursor = await conn.execute(_FUNDS, [book_id])
        for owner, currency, stored, recomputed in await cursor.fetchall():
            tallies[FUNDS].rows += 1
            if stored != recomputed:
                key = {"book_id": book_id, "merchant": owner, "currency": currency}
                tallies[FUNDS].find("ledger.balance", key, "pending", stored, recomputed)


Row = dict[str, Any]


async def _payments(
    conn: AsyncConnection[Any], book_id: int
) -> AsyncGenerator[tuple[Row, list[Row], Payment]]:
    """Page by page: a payment's row, its attempts' rows, and the payment folded from all of them."""
    last = UUID(int=0)
    async with conn.cursor(row_factory=dict_row) as cursor:
        while True:
            await cursor.execute(_PAYMENTS, [book_id, last, PAGE])
            rows = await cursor.fetchall()
            if not rows:
                return
            ids = [row["id"] for row in rows]
            children: dict[str, dict[UUID, list[Row]]] = {}
            for table, query in _CHILDREN.items():
                await cursor.execute(query, [ids])
                children[table] = _by_payment(await cursor.fetchall())
            for row in rows:
                own = [children[table].get(row["id"], []) for table in _CHILDREN]
                yield row, own[0], read_payment(row, *own)
            last = ids[-1]


def _by_payment(rows: list[Row]) -> dict[UUID, list[Row]]:
    found = defaultdict[UUID, list[Row]](list)
    for row in rows:
        found[row["payment_id"]].append(row)
    return found


def _examine_payment(tallies: Tallies, row: Row, attempts: list[Row], payment: Payment) -> None:
    folded = payment_row(payment)
    tallies[PAYMENTS].rows += 1
    for field in _FOLDED:
        if row[field] != folded[field]:
            tallies[PAYMENTS].find(
                "gateway.payment", {"id": str(row["id"])}, field, row[field], folded[field]
            )
    for stored, attempt in zip(attempts, payment.attempts, strict=True):
        tallies[ATTEMPTS].rows += 1
        state = attempt_state(attempt, payment.operations)
        if stored["state"] != state:
            key = {"id": str(stored["id"])}
            tallies[ATTEMPTS].find("gateway.attempt", key, "state", stored["state"], state)


async def _examine_journals(conn: AsyncConnection[Any], book_id: int, tallies: Tallies) -> None:
    async for id_, state, seq in conn.cursor().stream(_JOURNALS, [book_id]):
        tallies[JOURNALS].rows += 1
        if (state in _DONE) != (seq is not None):
            found = "missing" if seq is None else f"journal {seq}"
            must = "a journal" if state in _DONE else "none"
            tallies[JOURNALS].find("gateway.operation", {"id": id_}, f"journal of a {state} one", found, must)
    cursor = await conn.execute(_STRAYS, [book_id])
    for seq, source_id in await cursor.fetchall():
        key = {"book_id": book_id, "seq": seq}
        tallies[JOURNALS].find("ledger.journal", key, "source_id", source_id, "an operation's id")
