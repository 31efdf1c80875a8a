"""One pass over a book's journals and postings: numbering, clock, canonical lines, running balances, floors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ledger.audit import lines
from ledger.audit.accounts import NEVER, Account, Line
from ledger.audit.facts import Fact
from ledger.audit.report import FINDINGS_KEPT, Key, Tally
from ledger.audit.rows import JournalRow, PostingRow

_RUNNING = ("seq", "posted", "available", "incoming")


@dataclass(frozen=True, slots=True)
class Book:
    """A row of ``ledger.book``; times as text."""

    book_id: int
    name: str
    head: int
    accounts: int
    recorded_at: str


@dataclass(slots=True)
class JournalPass:
    """Feed it every journal with its postings, in order; then ``end``."""

    book: Book
    accounts: dict[int, Account]
    order: Tally
    pairs: Tally
    running: Tally
    floors: Tally
    leaves: Tally
    limits: Tally
    _next: int = 1
    _at: str = ""
    _misnamed: int = 0
    _book_names: list[tuple[int, str]] = field(default_factory=list)

    def entry(self, seq: int, journals: Sequence[JournalRow], postings: Sequence[PostingRow]) -> None:
        """All rows that say they are journal ``seq``: one journal and its postings, if nothing is wrong."""
        if len(journals) == 1 and seq == self._next <= self.book.head:
            journal = journals[0]
        else:
            journal = self._out_of_order(seq, journals, postings)
        self._next = max(seq + 1, self._next)
        self.order.rows += len(journals)
        self.pairs.rows += len(postings)
        for p in postings:
            self._known(p, p.debit_account, "debit_account")
            self._known(p, p.credit_account, "credit_account")
            self._pair(p)
        if journal is not None:
            self._clock(journal)
            self._line_numbers(journal, postings)
            self._leaf(journal, postings)
        at = self._at
        for p in postings:
            self._book_side(p, p.debit_account, True, p.debit, at)
            self._book_side(p, p.credit_account, False, p.credit, at)

    def end(self) -> None:
        """The book's own row against what the journals came to."""
        key: Key = {"book_id": self.book.book_id}
        last = self._next - 1
        if self.book.head != last:
            self.order.find("book", key, "head", self.book.head, last)
            self._missing(self._next, self.book.head)
        self._check_book_row(key)
        self._check_book_name(key)
        for account in self.accounts.values():
            self._pass_facts(account, account.settle(NEVER))
            self._final_limits(account)
        self.running.rows = self.floors.rows = 2 * self.pairs.rows

    # ------------------------------------------------------------ order

    def _out_of_order(
        self, seq: int, journals: Sequence[JournalRow], postings: Sequence[PostingRow]
    ) -> JournalRow | None:
        key = {"book_id": self.book.book_id, "seq": seq}
        if seq > self.book.head:
            self.order.find("journal", key, "seq", seq, f"{self.book.head} or less: the head of the book")
        self._missing(self._next, min(seq - 1, self.book.head))
        if seq < self._next or len(journals) > 1:
            self.order.find("journal", key, "seq", f"{len(journals)} journals", "one journal")
        if not journals:
            self.order.find("journal", key, "row", "missing", "there: it has postings")
            for p in postings:
                self._posting(self.order, p, "row", "there", "missing: it has no journal")
        return journals[0] if journals else None

    def _missing(self, first: int, last: int) -> None:
        """A gap. Its ends are named: a gap of a billion rows is one finding."""
        if first <= last:
            key = {"book_id": self.book.book_id, "seq": first}
            self.order.find("journal", key, "row", f"missing, up to {last}", "there: numbers have no gaps")

    def _clock(self, journal: JournalRow) -> None:
        if journal.recorded_at < self._at:
            self._journal(self.order, journal, "recorded_at", journal.recorded_at, f"{self._at} or later")
        self._at = max(self._at, journal.recorded_at)

    def _check_book_row(self, key: Key) -> None:
        known = [a for a in self.accounts.values() if a.known]
        latest = max(
            [self._at, *(a.opened_at for a in known), *(f.recorded_at for a in known for f in a.facts)]
        )
        if self.book.recorded_at < latest:
            self.order.find("book", key, "recorded_at", self.book.recorded_at, f"{latest} or later")
        if self.book.accounts != len(known):
            self.order.find("book", key, "accounts", self.book.accounts, len(known))
        for number, account in enumerate(sorted(known, key=lambda a: a.id), start=1):
            if account.id != number:
                missing = {"book_id": self.book.book_id, "account_id": number}
                self.order.find("account", missing, "row", "missing", "there: numbers have no gaps")
                break

    # ------------------------------------------------------------ what a posting is

    def _pair(self, p: PostingRow) -> None:
        action = p.hold_action
        if p.amount <= 0 and not (p.amount < 0 and p.layer == 1 and action is not None and action >= 2):
            self._posting(self.pairs, p, "amount", p.amount, "more than zero, unless it gives a hold back")
        if p.debit_account == p.credit_account:
            self._posting(self.pairs, p, "credit_account", p.credit_account, "another than the debited one")
        if action is None and p.hold_id is None:
            if p.layer != 0:
                self._posting(self.pairs, p, "layer", p.layer, "0: pending lines come from holds")
        elif (
            p.hold_id is None
            or action is None
            or (p.layer == 0 and action != 2)
            or (p.layer == 1 and (p.amount > 0) != (action <= 1))
        ):
            stored = f"action {action} of {p.hold_id} in layer {p.layer}"
            self._posting(self.pairs, p, "hold_action", stored, "an action that its hold and layer allow")

    def _line_numbers(self, journal: JournalRow, postings: Sequence[PostingRow]) -> None:
        if journal.lines != len(postings):
            self._journal(self.pairs, journal, "lines", journal.lines, len(postings))
        for number, p in enumerate(postings, start=1):
            if p.line != number:
                self._posting(self.pairs, p, "line", p.line, number)

    # ------------------------------------------------------------ the canonical line

    def _leaf(self, journal: JournalRow, postings: Sequence[PostingRow]) -> None:
        self.leaves.rows += 1
        recomputed = lines.leaf_hash(journal.canonical)
        if journal.leaf_hash != recomputed:
            self._journal(self.leaves, journal, "leaf_hash", journal.leaf_hash, recomputed)
        said = lines.parse(journal.canonical)
        if said is None:
            self._journal(self.leaves, journal, "canonical", journal.canonical, "one JSON object")
            return
        book = said.get("book")
        if book != self.book.name:
            self._other_book_name(book, journal.seq)
        rebuilt = lines.rebuild(str(book), journal, postings, self.accounts, said)
        if lines.serialise(rebuilt) == journal.canonical:
            return
        self._name_differences(journal, postings, rebuilt, said)

    def _name_differences(
        self, journal: JournalRow, postings: Sequence[PostingRow], rebuilt: lines.Fields, said: lines.Fields
    ) -> None:
        found = renamed = False
        # Postings first: what a wrong account does to the terms of its hold is not a second fault.
        for d in sorted(lines.differences(rebuilt, said, postings), key=lambda d: d.line is None):
            found = True
            if d.posting is not None and d.field in ("debit_account", "credit_account"):
                renamed = True
                account = self.accounts[getattr(d.posting, d.field)]
                account.called(f"{d.said} {d.posting.currency}", d.posting.journal_seq, d.posting.line)
            elif d.line is not None:
                posting = {"book_id": self.book.book_id, "journal_seq": journal.seq, "line": d.line}
                self.leaves.find("posting", posting, d.field, d.stored, d.said)
            elif not (renamed and d.field in ("hold_debit", "hold_credit")):
                self._journal(self.leaves, journal, d.field, d.stored, d.said)
        if not found:
            self._journal(self.leaves, journal, "canonical", journal.canonical, "RFC 8785 form")

    def _other_book_name(self, name: object, seq: int) -> None:
        self._misnamed += 1
        if len(self._book_names) < FINDINGS_KEPT:
            self._book_names.append((seq, str(name)))

    def _check_book_name(self, key: Key) -> None:
        """The book's row is wrong if no journal calls it by its name, else those journals are."""
        if self._misnamed and self._misnamed == self.leaves.rows:
            self.leaves.find("book", key, "name", self.book.name, self._book_names[0][1])
        if self._misnamed < self.leaves.rows or self._misnamed == 1:
            for seq, name in self._book_names:
                self.leaves.find(
                    "journal", {"book_id": self.book.book_id, "seq": seq}, "book", self.book.name, name
                )

    # ------------------------------------------------------------ running balances and floors

    def _known(self, p: PostingRow, account_id: int, column: str) -> None:
        if account_id not in self.accounts:
            self.accounts[account_id] = Account(
                account_id, f"account {account_id}", p.currency, "", stored_debit_normal=False, known=False
            )
            self._posting(self.pairs, p, column, account_id, "an account of the book")

    def _book_side(self, p: PostingRow, account_id: int, debit: bool, stored: Line, at: str) -> None:
        account = self.accounts[account_id]
        if p.journal_seq > account.facts_until:
            if at < account.opened_at:
                self._posting(self.floors, p, "account", "not open", "open at that time", account.about)
            self._pass_facts(account, account.settle(p.journal_seq))
        recomputed = account.book(debit, p.layer, p.amount)
        if stored != recomputed or account.drift is not None:
            self._compare(account, p, debit, stored, recomputed)
        if account.floor is not None and recomputed[2] < account.floor:
            field = "debit_available" if debit else "credit_available"
            self._posting(self.floors, p, field, recomputed[2], f"{account.floor} or more", account.about)
        if account.status != "open" and account.known and (p.amount > 0 or account.status != "frozen"):
            self._posting(self.floors, p, "account", "not open", "open at that time", account.about)
        if account.currency != p.currency:
            account.called(f"{account.path} {p.currency}", p.journal_seq, p.line, currency=True)
        if account.limits and p.layer == 0:
            self._use_limits(account, p, debit, at)

    def _use_limits(self, account: Account, p: PostingRow, debit: bool, at: str) -> None:
        for limit in account.limits:
            exceeded = limit.use(debit, p.amount, p.journal_seq, at)
            if exceeded:
                used, maximum = exceeded
                about = f"{account.about}, {limit.name}"
                self._posting(self.limits, p, "amount", f"{used} of the window", f"{maximum} or less", about)

    def _compare(self, account: Account, p: PostingRow, debit: bool, stored: Line, recomputed: Line) -> None:
        """Name the fields that are off by another amount than those of the account's line before: what one wrong
        line does to all that follow is counted only."""
        before = account.drift or (0, 0, 0, 0)
        drift = tuple(s - r for s, r in zip(stored, recomputed, strict=True))
        side = "debit" if debit else "credit"
        for name, was, now, s, r in zip(_RUNNING, before, drift, stored, recomputed, strict=True):
            if now and now != was:
                self._posting(self.running, p, f"{side}_{name}", s, r, account.about)
            elif now:
                self.running.follows()
        account.drift = (drift[0], drift[1], drift[2], drift[3]) if any(drift) else None

    def _pass_facts(self, account: Account, passed: Sequence[Fact]) -> None:
        """A floor was not above what was available when it was set, and only what was empty was closed."""
        for fact in passed:
            if fact.floor is not None and account.available < fact.floor:
                self._fact(account, fact, "floor", fact.floor, f"{account.available} or less")
            if fact.status == "closed" and not account.empty:
                self._fact(account, fact, "status", "closed", "not closed: the account is not empty")

    def _final_limits(self, account: Account) -> None:
        key = {"book_id": self.book.book_id, "account_id": account.id}
        if account.floor is not None and account.available < account.floor:
            self.floors.find(
                "balance", key, "available", account.available, f"{account.floor} or more", account.about
            )
        if account.status == "closed" and not account.empty:
            self.floors.find(
                "balance", key, "status", "closed", "not closed: the account is not empty", account.about
            )

    # ------------------------------------------------------------ naming

    def _journal(
        self, tally: Tally, journal: JournalRow, field: str, stored: object, recomputed: object
    ) -> None:
        tally.find("journal", {"book_id": self.book.book_id, "seq": journal.seq}, field, stored, recomputed)

    def _posting(
        self, tally: Tally, p: PostingRow, field: str, stored: object, recomputed: object, about: str = ""
    ) -> None:
        key: Key = {"book_id": self.book.book_id, "journal_seq": p.journal_seq, "line": p.line}
        tally.find("posting", key, field, stored, recomputed, about)

    def _fact(self, account: Account, fact: Fact, field: str, stored: object, recomputed: object) -> None:
        key: Key = {"book_id": self.book.book_id, "account_id": account.id, "fact": fact.fact}
        self.floors.find("account_fact", key, field, stored, recomputed, account.about)
