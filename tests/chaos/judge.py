"""What must be true when everything is over, from four witnesses: the audit, the bank's own book, the clients' log
of what they were told, and the API when it is asked the same again. Each function lists what is wrong.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any

from psycopg import AsyncConnection

from banks.reconcile import compare, load_acquirer_book, load_our_items, unexplained_receivable
from khata.audit import audit_database
from khata.wiring import MERIDIAN
from tests.chaos.shopper import Acknowledged, Client
from tests.chaos.system import System, eventually

GROWING = ("authorized", "captured", "voided", "refunded", "held", "consumed", "released")
FIXED = ("id", "amount", "currency", "payment_id", "reference", "reason", "debit", "credit")
ENDED = ("succeeded", "failed")

_WAITING = """
SELECT p.id::text, o.kind, o.state FROM gateway.payment p JOIN gateway.operation o ON o.payment_id = p.id
 WHERE o.state IN ('created', 'sending', 'pending', 'unknown') AND NOT (p.reference = ANY (%s))"""
_OPEN = """
SELECT p.reference, p.status, o.kind, o.state, o.tries, o.reason, o.review, o.next_check_at - now()
  FROM gateway.payment p JOIN gateway.operation o ON o.payment_id = p.id
 WHERE o.state IN ('created', 'sending', 'pending', 'unknown')"""
_BY_KEY = {
    "payment": "SELECT reference, count(*) FROM gateway.payment GROUP BY reference",
    "refund": "SELECT reason, count(*) FROM gateway.refund GROUP BY reason",
    "hold": "SELECT canonical::jsonb #>> '{metadata,key}', count(*) FROM ledger.journal WHERE kind = 'hold' GROUP BY 1",
}
_OPERATIONS = """
SELECT p.reference, p.capture_method, o.kind, count(*)
  FROM gateway.payment p JOIN gateway.operation o ON o.payment_id = p.id
 WHERE o.kind IN ('capture', 'void') GROUP BY 1, 2, 3"""
_OPEN_AUTHORIZATIONS = """
SELECT o.rrn, p.currency, p.authorized - p.captured - p.voided
  FROM gateway.payment p JOIN gateway.operation o ON o.payment_id = p.id
 WHERE p.status IN ('requires_capture', 'partially_captured') AND o.kind = 'authorize' AND o.state = 'approved'"""


async def at_rest(system: System, told_by_file: Collection[str] = ()) -> None:
    """Wait until no bank is owed a message; ``told_by_file``: references of payments whose outcome a file will tell."""

    async def resting() -> bool:
        return not await system.rows(_WAITING, list(told_by_file))

    await eventually(resting, "every outcome is known")


async def open_operations(system: System) -> str:
    """One a line, for whoever reads a failure."""
    return "\n".join(" ".join(map(str, row)) for row in await system.rows(_OPEN))


async def audit_findings(system: System) -> list[str]:
    """`khata audit` of every book."""
    return [
        f"audit {result.check.id}: {finding}"
        for audit in await audit_database(system.database)
        for result in audit.results
        for finding in (result.findings or [f"{result.found} findings"] * bool(result.found))
    ]


async def differences_with_bank(system: System) -> list[str]:
    """Captures, refunds and open authorizations, one by one, in the simulator's own files and in our books.

    What we know to be unknown may be in the bank's or not.
    """
    async with await AsyncConnection.connect(system.database.audit_dsn) as conn:
        ours = await load_our_items(conn, system.book_id, MERIDIAN)
        unexplained = await unexplained_receivable(conn, system.book_id, MERIDIAN)
    left = compare(load_acquirer_book(system.bank_book), ours)
    unknown = {
        rrn for (rrn,) in await system.rows("SELECT rrn FROM gateway.operation WHERE state = 'unknown'")
    }
    wrong = [f"only the bank has {item}" for item in left.at_bank if item.reference not in unknown]
    wrong += [f"only we have {item}" for item in left.in_books]
    wrong += [f"receivable in {currency}: {amount} unexplained" for currency, amount in unexplained.items()]
    at_bank = {(a["rrn"], a["currency"], a["left"]) for a in (await system.bank("GET", "/book"))["open"]}
    with_us = set(await system.rows(_OPEN_AUTHORIZATIONS))
    wrong += [f"an authorization open on one side: {found}" for found in sorted(at_bank ^ with_us)]
    return wrong


async def lost(clients: list[Client], acknowledged: Iterable[Acknowledged]) -> list[str]:
    """Objects that are not what a client was told they are; amounts may have grown since."""
    wrong: list[str] = []
    for told in acknowledged:
        was = json.loads(told.answer)
        now = await clients[told.merchant].get(_address(told.path, was["id"]))
        wrong += [f"{told.key}: {name} was {was[name]!r}, is {now[name]!r}" for name in _differing(was, now)]
    return wrong


def _address(path: str, id_: str) -> str:
    """Where the object that a POST to ``path`` has answered with is read."""
    if path.startswith("/v1/holds"):
        return f"/v1/holds/{id_}"
    return f"/v1/refunds/{id_}" if path.endswith("/refunds") else f"/v1/payments/{id_}"


def _differing(was: dict[str, Any], now: dict[str, Any]) -> list[str]:
    names = [name for name in FIXED if name in was and was[name] != now[name]]
    names += [name for name in GROWING if name in was and was[name] > now[name]]
    known = was["status"] in ENDED and was.get("object") == "refund"
    return names + ["status"] * (known and was["status"] != now["status"])


async def answered_otherwise(clients: list[Client], acknowledged: Iterable[Acknowledged]) -> list[str]:
    """Keys that do not get their first answer again, byte for byte."""
    wrong: list[str] = []
    for told in acknowledged:
        status, text = await clients[told.merchant].send(told.path, told.body, told.key)
        if (status, text) != (told.status, told.answer):
            wrong.append(f"{told.key} was answered {told.status} {told.answer}, now {status} {text}")
    return wrong


async def done_otherwise(system: System, acknowledged: Iterable[Acknowledged]) -> list[str]:
    """Keys with no effect though it was acknowledged, or with more than one."""
    wrong: list[str] = []
    told = list(acknowledged)
    for kind, query in _BY_KEY.items():
        effects = Counter({key: count for key, count in await system.rows(query) if key})
        keys = {a.key for a in told if _kind(a.path) == kind}
        wrong += [f"{kind} {key}: {count} effects" for key, count in effects.items() if count != 1]
        wrong += [f"{kind} {key}: acknowledged, not there" for key in keys - effects.keys()]
    asked = Counter((_payment_key(a.key), _kind(a.path)) for a in told)
    for reference, method, kind, count in await system.rows(_OPERATIONS):
        # Nobody asks for an automatic capture; there may be none if it was declined before.
        wanted = 1 if (method, kind) == ("automatic", "capture") else asked[reference, kind]
        if count != wanted:
            wrong.append(f"{reference}: {count} {kind}s, {wanted} acknowledged")
    return wrong


def _kind(path: str) -> str:
    last = path.rsplit("/", 1)[1]
    if path.startswith("/v1/holds"):
        return "hold" if last == "holds" else f"hold {last}"
    return {"payments": "payment", "refunds": "refund"}.get(last, last)


def _payment_key(key: str) -> str:
    """The key of the payment that a later request is about: without ``-c0`` and the like."""
    return re.sub(r"-[crvl]\d?$", "", key)
