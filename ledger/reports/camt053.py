"""A statement as ISO 20022 camt.053.001.08 (BankToCustomerStatement), written piece by piece.

Signs are the account holder's: ``CRDT`` is more of what the account holds, ``DBIT`` less, by the account's normal
side. So a debit of an asset account, an entry that raises it, is a ``CRDT`` entry, as a bank's own statement of that
money would say; so is a credit of a liability account, which is somebody's money with us. A balance of zero is
``CRDT``. Amounts are never negative here: the sign is the indicator.

``OPBD``/``CLBD`` are the posted balances, ``CLAV`` the closing one less what is reserved. ``BookgDt`` is when a line
was recorded, ``ValDt`` the day it counts from. ``AcctSvcrRef`` is the journal's id without its hyphens: the field
holds 35 characters. For the same reason an account's path of more than 34 is named by a digest of it;
``AddtlStmtInf`` always has the path itself, and ``AddtlNtryInf`` the whole kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from xml.sax.saxutils import escape

from ledger.export.money import decimal_text
from ledger.reports.errors import NotRepresentable
from ledger.reports.statement import StatementEntry, StatementHead

NAMESPACE = "urn:iso:std:iso:20022:tech:xsd:camt.053.001.08"
FORMAT = "camt.053"
_MOST_DIGITS = 18
_LONGEST_REFERENCE = 35
_LONGEST_ACCOUNT = 34
_ISSUER = "khata"


class StatementCamt053:
    """``StatementWriter``. Raises ``NotRepresentable`` for an amount of more than 18 digits."""

    def __init__(self, head: StatementHead) -> None:
        self._head = head

    def begin(self) -> bytes:
        head, identity = self._head, statement_id(self._head)
        known = f"As known at journal {head.known} of book {head.book}"
        made_at = _leaf("CreDtTm", _instant(head.made_at))
        return "".join(
            (
                f'<?xml version="1.0" encoding="UTF-8"?>\n<Document xmlns="{NAMESPACE}"><BkToCstmrStmt>',
                _group("GrpHdr", _leaf("MsgId", identity), made_at, _leaf("AddtlInf", known)),
                *("<Stmt>", _leaf("Id", identity), made_at, self._period(), self._account()),
                self._balance("OPBD", head.opening, head.first.isoformat()),
                self._balance("CLBD", head.closing, head.last.isoformat()),
                self._balance("CLAV", head.available, head.last.isoformat()),
                self._totals(),
            )
        ).encode()

    def entries(self, page: Sequence[StatementEntry]) -> bytes:
        return "".join(self._entry(entry) for entry in page).encode()

    def end(self) -> bytes:
        account = _leaf("AddtlStmtInf", f"Account {self._head.path}")
        return f"{account}</Stmt></BkToCstmrStmt></Document>\n".encode()

    def _period(self) -> str:
        first, last = self._head.first, self._head.last
        return _group(
            "FrToDt", _leaf("FrDtTm", f"{first}T00:00:00Z"), _leaf("ToDtTm", f"{last}T23:59:59.999999Z")
        )

    def _account(self) -> str:
        identity = _group("Othr", _leaf("Id", account_id(self._head.path)))
        return _group("Acct", _group("Id", identity), _leaf("Ccy", self._head.currency))

    def _balance(self, code: str, amount: int, day: str) -> str:
        kind = _group("Tp", _group("CdOrPrtry", _leaf("Cd", code)))
        return _group("Bal", kind, *self._signed(amount), _group("Dt", _leaf("Dt", day)))

    def _totals(self) -> str:
        head = self._head
        credit, debit = (_leaf("Sum", self._digits(amount)) for amount in (head.raised, head.lowered))
        return _group("TxsSummry", _group("TtlCdtNtries", credit), _group("TtlDbtNtries", debit))

    def _entry(self, entry: StatementEntry) -> str:
        code = _group("Prtry", _leaf("Cd", entry.kind[:_LONGEST_REFERENCE]), _leaf("Issr", _ISSUER))
        about = f"{entry.kind}: {entry.description}" if entry.description else entry.kind
        return _group(
            "Ntry",
            _leaf("NtryRef", str(entry.number)),
            *self._signed(entry.amount),
            _group("Sts", _leaf("Cd", "BOOK")),
            _group("BookgDt", _leaf("DtTm", _instant(entry.recorded_at))),
            _group("ValDt", _leaf("Dt", entry.effective_at.astimezone(UTC).date().isoformat())),
            _leaf("AcctSvcrRef", entry.journal_id.hex),
            _group("BkTxCd", code),
            _leaf("AddtlNtryInf", about),
        )

    def _signed(self, amount: int) -> tuple[str, str]:
        text, currency = self._digits(amount), self._head.currency
        return f'<Amt Ccy="{currency}">{text}</Amt>', _leaf("CdtDbtInd", "DBIT" if amount < 0 else "CRDT")

    def _digits(self, amount: int) -> str:
        if abs(amount) >= 10**_MOST_DIGITS:
            raise NotRepresentable(FORMAT, amount)
        return decimal_text(abs(amount), self._head.currency)


def statement_id(head: StatementHead) -> str:
    """The same for the same question and answer, so that a statement fetched twice is known to be one."""
    said = (head.book_id, head.path, head.currency, head.first, head.last, head.known)
    return sha256("\n".join(map(str, said)).encode()).hexdigest()[:_LONGEST_REFERENCE]


def account_id(path: str) -> str:
    """The path, or a digest of it where it is longer than the field."""
    return path if len(path) <= _LONGEST_ACCOUNT else sha256(path.encode()).hexdigest()[:_LONGEST_ACCOUNT]


def _group(tag: str, *inside: str) -> str:
    return f"<{tag}>{''.join(inside)}</{tag}>"


def _leaf(tag: str, text: str) -> str:
    return f"<{tag}>{escape(text)}</{tag}>"


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
