"""Accounts, recomputed: what each line does to its two accounts, and the facts (floor, status) in force at its time.

One small object an account; nothing grows with the number of lines.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from psycopg import AsyncConnection

from ledger.audit.facts import Fact, check_fact, load_acts
from ledger.audit.limits import Limit, active
from ledger.audit.report import FINDINGS_KEPT, Key, Tally

NEVER = 2**63  # no journal has that number
Line = tuple[int, int, int, int]  # number of the line in its account; posted, available, incoming after it


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
    # The facts in force, valid for the journals up to ``facts_until``; see ``settle``.
    floor: int | None = None
    status: str = "none"
    facts_until: int = 0
    facts_done: int = 0
    limits: list[Limit] = field(default_factory=list)
    # How far the stored balances of the last line were off, if they were: its cause has been named already.
    drift: Line | None = None
    # Lines that call this account something else than its path and currency, and the first of them.
    by_other_path: int = 0
    in_other_currency: int = 0
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
    def renamed(self) -> int:
        """How many lines call it something else than its row does."""
        return max(self.by_other_path, self.in_other_currency)

    @property
    def empty(self) -> bool:
        return (
            self.posted_debits == self.posted_credits and not self.pending_debits and not self.pending_credits
        )

    def called(self, name: str, journal_seq: int, line: int, *, currency: bool = False) -> None:
        """Note that a line calls this account ``name``, which is not what its row says; ``currency``: in that alone.

        A line may do so twice, once for the path and once for the currency: it counts as one.
        """
        self.in_other_currency += currency
        self.by_other_path += not currency
        if len(self.other_names) < FINDINGS_KEPT:
            self.other_names.append(OtherName(journal_seq, line, name))

    def settle(self, seq: int) -> list[Fact]:
        """Put the facts in force that journal ``seq`` was judged by; returns those that came since the last line."""
        passed: list[Fact] = []
        while self.facts_done < len(self.facts) and self.facts[self.facts_done].after_seq < seq:
            passed.append(self.facts[self.facts_done])
            self.facts_done += 1
        if passed:
            self.floor, self.status = passed[-1].floor, passed[-1].status
        upcoming = self.facts[self.facts_done].after_seq if self.facts_done < len(self.facts) else NEVER
        self.facts_until = upcoming
        return passed


_ACCOUNTS = """
SELECT account_id, path, currency, to_char(opened_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), debit_normal
  FROM ledger.account WHERE book_id = %s ORDER BY account_id"""
_FACTS = """
SELECT account_id, fact, floor, status, reason, person,
       to_char(recorded_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), after_seq, act
  FROM ledger.account_fact WHERE book_id = %s ORDER BY account_id, fact"""
_BALANCES = """
SELECT account_id, seq, posted_debits, posted_credits, pending_debits, pending_credits, floor, fact, debit_normal,
       currency, status, limits
  FROM ledger.balance WHERE book_id = %s ORDER BY account_id"""
_NO_FACT = Fact(0, None, "none", "", None, "", 0, None)
_BALANCE_COLUMNS = (
    *("seq", "posted_debits", "posted_credits", "pending_debits", "pending_credits"),
    *("floor", "fact", "debit_normal", "currency", "status", "limits"),
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
    acts = await load_acts(conn, book_id, "change_account", "account_fact")
    for account_id, *columns in await _all(conn, _FACTS, book_id):
        fact = Fact(*columns)
        facts.rows += 1
        key: Key = {"book_id": book_id, "account_id": account_id, "fact": fact.fact}
        account = accounts.get(account_id)
        if account is None:
            facts.find("account_fact", key, "account_id", account_id, "an account of the book")
            continue
        check_fact(facts, key, account.facts, fact, account.opened_at, acts, account.about)
        account.facts.append(fact)
    acts.end(facts, {"account_id": "account", "fact": "fact"})
    for account in accounts.values():
        account.facts.sort(key=lambda f: (f.after_seq, f.fact))
        if not account.facts:
            key = {"book_id": book_id, "account_id": account.id, "fact": 1}
            facts.find("account_fact", key, "row", "missing", "there", account.about)
    return accounts


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
    last = max(account.facts, key=lambda f: f.fact, default=_NO_FACT)
    return (
        *(
            account.seq,
            account.posted_debits,
            account.posted_credits,
            account.pending_debits,
            account.pending_credits,
        ),
        *(last.floor, last.fact, account.debit_normal, account.currency, last.status),
        active(account.limits),
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
