"""Accounts, recomputed: what each line does to its two accounts, and the facts (floor, status) in force at its time.

One small object an account; nothing grows with the number of lines.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from psycopg import AsyncConnection

from ledger.audit.report import FINDINGS_KEPT, Key, Tally

NEVER = "~"  # sorts after every RFC 3339 text
Line = tuple[int, int, int, int]  # number of the line in its account; posted, available, incoming after it


class Fact(NamedTuple):
    """A row of ``ledger.account_fact``."""

    fact: int
    floor: int | None
    status: str
    recorded_at: str


class OtherName(NamedTuple):
    """A posting that calls its account something else than the account's row does."""

    journal_seq: int
    line: int
    name: str


@dataclass(slots=True)
class Account:
    """A row of ``ledger.account`` and what its lines have come to so far. Gross sums as in ``ledger.balance``."""

    id: int
    path: str
    currency: str
    opened_at: str
    stored_debit_normal: bool
    facts: list[Fact] = field(default_factory=list)
    seq: int = 0
    posted_debits: int = 0
    posted_credits: int = 0
    pending_debits: int = 0
    pending_credits: int = 0
    known: bool = True  # False: lines name an account that has no row
    # The facts in force, valid for lines recorded before ``facts_until``; see ``settle``.
    floor: int | None = None
    is_open: bool = False
    is_closed: bool = False
    facts_until: str = ""
    facts_done: int = 0
    line_at: str = ""
    # How far the stored balances of the last line were off, if they were: its cause has been named already.
    drift: Line | None = None
    # Lines that call this account something else than its path and currency, and the first of them.
    renamed: int = 0
    other_names: list[OtherName] = field(default_factory=list)
    debit_normal: bool = field(init=False)

    def __post_init__(self) -> None:
        self.debit_normal = self.path.startswith(("Assets:", "Expenses:"))

    @property
    def about(self) -> str:
        return f"{self.path} {self.currency}"

    def book(self, debit: bool, layer: int, amount: int) -> Line:
        """Book one line; what its row must say."""
        self.seq += 1
        if layer == 0:
            if debit:
                self.posted_debits += amount
            else:
                self.posted_credits += amount
        elif debit:
            self.pending_debits += amount
        else:
            self.pending_credits += amount
        if self.debit_normal:
            posted = self.posted_debits - self.posted_credits
            return self.seq, posted, posted - self.pending_credits, self.pending_debits
        posted = self.posted_credits - self.posted_debits
        return self.seq, posted, posted - self.pending_debits, self.pending_credits

    @property
    def available(self) -> int:
        if self.debit_normal:
            return self.posted_debits - self.posted_credits - self.pending_credits
        return self.posted_credits - self.posted_debits - self.pending_debits

    @property
    def empty(self) -> bool:
        return (
            self.posted_debits == self.posted_credits and not self.pending_debits and not self.pending_credits
        )

    def called(self, name: str, journal_seq: int, line: int) -> None:
        """Note that a line calls this account ``name``, which is not what its row says."""
        self.renamed += 1
        if len(self.other_names) < FINDINGS_KEPT:
            self.other_names.append(OtherName(journal_seq, line, name))

    def settle(self, at: str) -> list[Fact]:
        """Put the facts in force at ``at`` in force; returns those that came since the last line.

        Facts and journals share the book's clock, which may stand still: of a fact and a line of one instant it
        is not known which came first, so either order is allowed.
        """
        passed: list[Fact] = []
        while self.facts_done < len(self.facts) and self.facts[self.facts_done].recorded_at < at:
            passed.append(self.facts[self.facts_done])
            self.facts_done += 1
        possible = self.facts[max(self.facts_done - 1, 0) : self.facts_done]
        ties = [f for f in self.facts[self.facts_done :] if f.recorded_at == at]
        possible = [*possible, *ties]
        floors = [f.floor for f in possible]
        self.floor = None if None in floors else min((f for f in floors if f is not None), default=None)
        self.is_open = any(f.status == "open" for f in possible)
        self.is_closed = all(f.status == "closed" for f in possible)
        upcoming = self.facts[self.facts_done].recorded_at if self.facts_done < len(self.facts) else NEVER
        self.facts_until = at if ties else upcoming
        return passed


_ACCOUNTS = """
SELECT account_id, path, currency, to_char(opened_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), debit_normal
  FROM ledger.account WHERE book_id = %s ORDER BY account_id"""
_FACTS = """
SELECT account_id, fact, floor, status, to_char(recorded_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
  FROM ledger.account_fact WHERE book_id = %s ORDER BY account_id, fact"""
_BALANCES = """
SELECT account_id, seq, posted_debits, posted_credits, pending_debits, pending_credits, floor, fact, debit_normal,
       currency, status
  FROM ledger.balance WHERE book_id = %s ORDER BY account_id"""
_BALANCE_COLUMNS = (
    *("seq", "posted_debits", "posted_credits", "pending_debits", "pending_credits"),
    *("floor", "fact", "debit_normal", "currency", "status"),
)


async def load_accounts(conn: AsyncConnection[Any], book_id: int, facts: Tally) -> dict[int, Account]:
    """Every account of the book with its facts in order; the facts' own numbering and times are checked here."""
    accounts: dict[int, Account] = {}
    for row in await _all(conn, _ACCOUNTS, book_id):
        account = Account(*row)
        if account.id in accounts:
            twice: Key = {"book_id": book_id, "account_id": account.id}
            facts.find("account", twice, "row", "there twice", "there once", account.about)
        accounts[account.id] = account
    for account_id, *columns in await _all(conn, _FACTS, book_id):
        fact = Fact(*columns)
        facts.rows += 1
        key: Key = {"book_id": book_id, "account_id": account_id, "fact": fact.fact}
        account = accounts.get(account_id)
        if account is None:
            facts.find("account_fact", key, "account_id", account_id, "an account of the book")
            continue
        _check_fact(facts, key, account, fact)
        account.facts.append(fact)
    for account in accounts.values():
        account.facts.sort(key=lambda f: f.recorded_at)
        if not account.facts:
            key = {"book_id": book_id, "account_id": account.id, "fact": 1}
            facts.find("account_fact", key, "row", "missing", "there", account.about)
    return accounts


def _check_fact(tally: Tally, key: Key, account: Account, fact: Fact) -> None:
    def wrong(field: str, stored: object, recomputed: object) -> None:
        tally.find("account_fact", key, field, stored, recomputed, account.about)

    before = account.facts[-1] if account.facts else None
    number = before.fact + 1 if before else 1
    if fact.fact > number:
        tally.find("account_fact", {**key, "fact": number}, "row", "missing", "there", account.about)
    elif fact.fact < number:
        wrong("row", "there twice", "there once")
    if fact.fact == 1 and fact.recorded_at != account.opened_at:
        # One of the two is wrong, and only the two know.
        wrong("recorded_at", fact.recorded_at, f"{account.opened_at}, as opened")
        opened: Key = {"book_id": key["book_id"], "account_id": account.id}
        tally.find("account", opened, "opened_at", account.opened_at, fact.recorded_at, account.about)
    if before is not None and fact.recorded_at < before.recorded_at:
        wrong("recorded_at", fact.recorded_at, f"{before.recorded_at} or later")
    if before is not None and before.status == "closed":
        wrong("row", fact.status, "missing: closed is the end")


async def check_balances(
    conn: AsyncConnection[Any], book_id: int, accounts: dict[int, Account], tally: Tally
) -> None:
    """Every balance row against the lines and the last fact; every account has one."""
    missing = {account.id for account in accounts.values() if account.known}
    for account_id, *stored in await _all(conn, _BALANCES, book_id):
        tally.rows += 1
        key: Key = {"book_id": book_id, "account_id": account_id}
        account = accounts.get(account_id)
        if account is None or not account.known:
            tally.find("balance", key, "row", "there", "missing: no such account")
            tally.find("account", key, "row", "missing", "there: it has a balance")
            continue
        if account_id not in missing:
            tally.find("balance", key, "row", "there twice", "there once", account.about)
        missing.discard(account_id)
        for name, value, right in zip(_BALANCE_COLUMNS, stored, _balance(account), strict=True):
            if value != right:
                tally.find("balance", key, name, value, right, account.about)
            if value != right and name in ("floor", "status") and account.facts:
                # One of the two is wrong, and only the two know.
                fact: Key = {**key, "fact": account.facts[-1].fact}
                tally.find("account_fact", fact, name, right, value, account.about)
            if name == "fact" and value > right:
                fact = {**key, "fact": value}
                tally.find(
                    "account_fact", fact, "row", "missing", "there: the balance is from it", account.about
                )
    for account_id in missing:
        key = {"book_id": book_id, "account_id": account_id}
        tally.find("balance", key, "row", "missing", "there", accounts[account_id].about)


def _balance(account: Account) -> tuple[object, ...]:
    last = max(account.facts, key=lambda f: f.fact, default=Fact(0, None, "none", ""))
    return (
        *(
            account.seq,
            account.posted_debits,
            account.posted_credits,
            account.pending_debits,
            account.pending_credits,
        ),
        *(last.floor, last.fact, account.debit_normal, account.currency, last.status),
    )


def check_names(book_id: int, accounts: Iterable[Account], tally: Tally) -> None:
    """Whether lines call an account by its path and currency: its row is wrong if none do, else those postings."""
    for account in accounts:
        tally.rows += 1
        key = {"book_id": book_id, "account_id": account.id}
        if not account.known:
            tally.find("account", key, "row", "missing", "there: it has lines")
            continue
        if account.stored_debit_normal != account.debit_normal:
            tally.find(
                "account",
                key,
                "debit_normal",
                account.stored_debit_normal,
                account.debit_normal,
                account.about,
            )
        if account.renamed == account.seq and account.other_names:
            tally.find(
                "account", key, "path and currency", account.about, account.other_names[0].name, account.about
            )
        if account.renamed < account.seq or account.renamed == 1:
            for other in account.other_names:
                posting = {"book_id": book_id, "journal_seq": other.journal_seq, "line": other.line}
                tally.find("posting", posting, "account", account.about, other.name, account.about)


def check_sums(book_id: int, accounts: Iterable[Account], tally: Tally) -> None:
    """Σ debits = Σ credits over the book, in each currency and layer."""
    sums: dict[tuple[str, str], int] = {}
    for a in accounts:
        for layer, net in (
            ("posted", a.posted_debits - a.posted_credits),
            ("pending", a.pending_debits - a.pending_credits),
        ):
            sums[a.currency, layer] = sums.get((a.currency, layer), 0) + net
    for (currency, layer), net in sums.items():
        if net:
            tally.find("book", {"book_id": book_id}, f"sum of {layer} {currency}", net, 0)


async def _all(conn: AsyncConnection[Any], sql: Any, book_id: int) -> list[Any]:
    cursor = await conn.cursor(binary=True).execute(sql, [book_id])
    return await cursor.fetchall()
