"""Every journal this package makes (accounting.md, "Bank settles, net of its cost"). Pure functions."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from banks.accounts import INPUT_CREDIT, bank_cost, escrow, receivable
from banks.settlement_file import LineKind, SettlementFile, SettlementLine
from ledger.model import Journal, OnClosed, Posting, Source


def settlement_journal(
    file: SettlementFile, line: SettlementLine, *, journal_id: UUID, effective_at: datetime
) -> Journal:
    """The bank settles one item; a journal of its own, so that each figure can be explained by its line.

    Its source key is the item's reference at the bank: an item is settled once, whatever file says so.
    """
    return Journal(
        id=journal_id,
        kind="settlement",
        source=Source("settlement_line", f"{file.bank}/{line.rrn}", "settled"),
        postings=settlement_postings(file.bank, file.currency, line),
        effective_at=effective_at,
        description=f"{line.kind.capitalize()} settled by {file.bank}",
        metadata={"file_id": file.file_id, "line": str(line.line), "rrn": line.rrn},
        # The bank has paid, whatever we have closed meanwhile.
        on_closed=OnClosed.FIRST_OPEN_DAY,
    )


def settlement_postings(bank: str, currency: str, line: SettlementLine) -> tuple[Posting, ...]:
    """A capture: net to escrow, cost and its tax to their accounts, all out of the receivable.

    A refund: the bank had booked it against the receivable when it approved it, and now keeps it back in full.
    """
    if line.kind is LineKind.REFUND:
        return (Posting(receivable(bank), escrow(bank), line.amount, currency),)
    parts = ((escrow(bank), line.net), (bank_cost(bank), line.cost), (INPUT_CREDIT, line.tax))
    return tuple(Posting(debit, receivable(bank), amount, currency) for debit, amount in parts if amount)
