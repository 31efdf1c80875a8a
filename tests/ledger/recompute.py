"""Recomputes a whole book from its postings alone, in plain Python, and compares every figure the database keeps.

Shares nothing with ledger/: it reads rows, adds them up and says what differs.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import dict_row

Row = dict[str, Any]
ACTIONS = ("place", "increase", "capture", "release", "expire")


@dataclass
class Account:
    """Sums of one account's lines, and the lowest ``available`` seen after any of them."""

    debit_normal: bool
    seq: int = 0
    posted: list[int] = field(default_factory=lambda: [0, 0])  # debits, credits
    pending: list[int] = field(default_factory=lambda: [0, 0])

    def figures(self) -> tuple[int, int, int]:
        """posted, available, incoming; signed by the normal side."""
        inward, outward = (0, 1) if self.debit_normal else (1, 0)
        posted = self.posted[inward] - self.posted[outward]
        return posted, posted - self.pending[outward], self.pending[inward]


async def rows(conn: AsyncConnection[Any], table: str, book_id: int, order: str) -> list[Row]:
    cursor = conn.cursor(row_factory=dict_row)
    await cursor.execute(f"SELECT * FROM ledger.{table} WHERE book_id = %s ORDER BY {order}", [book_id])  # type: ignore[arg-type]
    return await cursor.fetchall()


async def differences(conn: AsyncConnection[Any], book_id: int) -> list[str]:
    """What does not fit, in words; empty for a sound book. Ends the transaction it reads in."""
    await conn.rollback()
    await conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    [book] = await rows(conn, "book", book_id, "book_id")
    accounts = {row["account_id"]: row for row in await rows(conn, "account", book_id, "account_id")}
    journals = await rows(conn, "journal", book_id, "seq")
    postings = await rows(conn, "posting", book_id, "journal_seq, line")
    balances = {row["account_id"]: row for row in await rows(conn, "balance", book_id, "account_id")}
    holds = await rows(conn, "hold", book_id, "hold_id")
    await conn.rollback()
    found: list[str] = []
    found += _check_order(book, journals)
    found += _check_lines(accounts, balances, postings)
    found += _check_canonical(book, accounts, journals, postings)
    found += _check_holds(holds, postings)
    return found


async def assert_sound(conn: AsyncConnection[Any], book_id: int) -> None:
    assert await differences(conn, book_id) == []


def _check_order(book: Row, journals: list[Row]) -> list[str]:
    found: list[str] = []
    if [j["seq"] for j in journals] != list(range(1, book["head"] + 1)):
        found.append(f"journals are not 1 to {book['head']} without gaps")
    sources = Counter((j["source_type"], j["source_id"], j["source_event"]) for j in journals)
    found += [f"source {key} stands {n} times" for key, n in sources.items() if n > 1]
    times = [j["recorded_at"] for j in journals]
    if times != sorted(times):
        found.append("recorded_at goes back")
    return found


def _check_lines(accounts: dict[int, Row], balances: dict[int, Row], postings: list[Row]) -> list[str]:
    found: list[str] = []
    state = {number: Account(row["debit_normal"]) for number, row in accounts.items()}
    zero: dict[tuple[str, int], int] = defaultdict(int)
    for p in postings:
        where = f"journal {p['journal_seq']} line {p['line']}"
        for side, name in enumerate(("debit", "credit")):
            account, row = state[p[f"{name}_account"]], accounts[p[f"{name}_account"]]
            if row["currency"] != p["currency"]:
                found.append(f"{where}: {row['path']} is in {row['currency']}")
            account.seq += 1
            (account.pending if p["layer"] else account.posted)[side] += p["amount"]
            zero[p["currency"], p["layer"]] += p["amount"] * (1 if side else -1)
            stated = p[f"{name}_seq"], p[f"{name}_posted"], p[f"{name}_available"], p[f"{name}_incoming"]
            if stated != (account.seq, *account.figures()):
                found.append(
                    f"{where}: {name} states {stated}, its lines make {(account.seq, *account.figures())}"
                )
    found += [f"{key} sums to {total}" for key, total in zero.items() if total]
    for number, account in state.items():
        b = balances[number]
        stored = [
            b["seq"],
            b["posted_debits"],
            b["posted_credits"],
            b["pending_debits"],
            b["pending_credits"],
        ]
        if stored != [account.seq, *account.posted, *account.pending]:
            found.append(f"balance of {accounts[number]['path']}: stored {stored}, lines make {account}")
        if b["floor"] is not None and account.figures()[1] < b["floor"]:
            found.append(f"{accounts[number]['path']} stands below its floor")
    return found


def _check_canonical(
    book: Row, accounts: dict[int, Row], journals: list[Row], postings: list[Row]
) -> list[str]:
    found: list[str] = []
    by_journal: dict[int, list[Row]] = defaultdict(list)
    for p in postings:
        by_journal[p["journal_seq"]].append(p)
    for seq in by_journal.keys() - {j["seq"] for j in journals}:
        found.append(f"postings of journal {seq}, which is not there")
    for j in journals:
        lines = by_journal[j["seq"]]
        if [p["line"] for p in lines] != list(range(1, j["lines"] + 1)):
            found.append(f"journal {j['seq']} states {j['lines']} postings, has {len(lines)}")
        if j["leaf_hash"] != sha256(b"\0" + j["canonical"].encode()).digest():
            found.append(f"journal {j['seq']}: leaf hash")
        try:
            said = json.loads(j["canonical"])
        except ValueError:
            found.append(f"journal {j['seq']}: canonical line is no JSON")
            continue
        row = {"book": book["name"], "seq": j["seq"], "id": str(j["id"]), "kind": j["kind"]}
        if row != {key: said.get(key) for key in row}:
            found.append(f"journal {j['seq']}: canonical line differs from its row")
        asked = [posting.pop("up_to", None) for posting in said.get("postings", ())]
        if said.get("postings") != [_canonical_posting(p, accounts) for p in lines]:
            found.append(f"journal {j['seq']}: canonical postings differ from its rows")
        elif any(up_to and int(up_to) < p["amount"] for up_to, p in zip(asked, lines, strict=True)):
            found.append(f"journal {j['seq']} booked more than was asked")
    return found


def _canonical_posting(p: Row, accounts: dict[int, Row]) -> dict[str, str]:
    said = {
        "amount": str(p["amount"]),
        "credit": accounts[p["credit_account"]]["path"],
        "currency": p["currency"],
        "debit": accounts[p["debit_account"]]["path"],
        "layer": "pending" if p["layer"] else "posted",
    }
    if p["hold_action"] is not None:
        said["hold"] = ACTIONS[p["hold_action"]]
    return said


def _check_holds(holds: list[Row], postings: list[Row]) -> list[str]:
    found: list[str] = []
    sums: dict[Any, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for p in postings:
        if p["hold_id"] is not None:
            word = (
                ("held", "held", "consumed", "released", "expired")[p["hold_action"]]
                if p["layer"]
                else "captured"
            )
            sums[p["hold_id"]][word] += abs(p["amount"])
    for h in holds:
        made = sums.pop(h["hold_id"], {})
        for word in ("held", "consumed", "captured", "released", "expired"):
            if h[word] != made.get(word, 0):
                found.append(f"hold {h['hold_id']}: {word} stored {h[word]}, lines make {made.get(word, 0)}")
        kept = h["held"] - h["released"] - h["expired"]
        if h["captured"] > kept + kept * h["tolerance_bps"] // 10_000:
            found.append(f"hold {h['hold_id']} is captured above its ceiling")
    return found + [f"postings of hold {hold_id}, which is not there" for hold_id in sums]
