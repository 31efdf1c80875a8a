"""khata adjust …"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
import rich_click as click
from rich.table import Table
from rich.text import Text

from khata.cli.common import book_option, console, json_option, print_json, reading, with_database
from khata.cli.journals_command import AmountParam, InstantParam, PairParam
from khata.cli.money import major
from khata.cli.people import (
    ProposalId,
    act_on,
    all_option,
    as_option,
    limit_option,
    new_id,
    proposal_fields,
    reason_option,
    tell,
)
from khata.database import Database
from ledger import adjustments, proposals
from ledger.acts import By
from ledger.adjustments import Adjustment
from ledger.errors import InvalidEntry
from ledger.model import OnClosed, Posting
from ledger.proposals import Kind, Proposal
from ledger.search import Amount

Conn = psycopg.AsyncConnection[Any]


@click.group()
def command() -> None:
    """Manual adjustments: one person proposes, another approves, then it is booked.

    Example: `khata adjust propose --posting Income:Fees:card Liabilities:Merchant:m1:Available 2500INR --reason "…"`
    """


@command.command("propose")
@click.option(
    "--posting",
    "postings",
    type=(str, str, AmountParam()),
    metavar="DEBIT CREDIT AMOUNT",
    multiple=True,
    required=True,
    help="From the account CREDIT to DEBIT; minor units and currency, e.g. 2500INR. May come several times.",
)
@click.option("--description", default="", help="Of the journal; no personal data.")
@click.option("--metadata", type=PairParam(), multiple=True, help="key=value; may come several times.")
@click.option(
    "--effective-at", type=InstantParam(), default=None, help="When it counts (default: when approved)."
)
@click.option(
    "--first-open-day", is_flag=True, help="Where that day is closed, count from the first open one instead."
)
@reason_option
@as_option
@book_option
@json_option
def propose(
    postings: tuple[tuple[str, str, Amount], ...],
    description: str,
    metadata: tuple[tuple[str, str], ...],
    effective_at: datetime | None,
    first_open_day: bool,
    reason: str,
    person: str | None,
    book: str | None,
    as_json: bool,
) -> None:
    """Propose an adjustment. Balances are judged when it is approved."""
    adjustment = Adjustment(
        tuple(Posting(debit, credit, *amount) for debit, credit, amount in postings),
        description,
        dict(metadata),
        effective_at,
        OnClosed.FIRST_OPEN_DAY if first_open_day else OnClosed.REFUSE,
    )

    async def act(conn: Conn, book_id: int, by: By) -> Proposal:
        return await adjustments.propose(conn, book_id, new_id(), adjustment, by)

    _tell(act_on(book, person, reason, act), as_json)


@command.command("approve")
@click.argument("proposal_id", type=ProposalId())
@reason_option
@as_option
@book_option
@json_option
def approve(proposal_id: UUID, reason: str, person: str | None, book: str | None, as_json: bool) -> None:
    """Approve what somebody else proposed, and book it. If it is refused, the proposal stays open."""

    async def act(conn: Conn, book_id: int, by: By) -> Proposal:
        return await adjustments.approve(conn, book_id, proposal_id, by, journal_id=new_id())

    _tell(act_on(book, person, reason, act), as_json)


@command.command("reject")
@click.argument("proposal_id", type=ProposalId())
@reason_option
@as_option
@book_option
@json_option
def reject(proposal_id: UUID, reason: str, person: str | None, book: str | None, as_json: bool) -> None:
    """Reject what somebody else proposed."""

    async def act(conn: Conn, book_id: int, by: By) -> Proposal:
        return await proposals.reject(conn, book_id, Kind.ADJUSTMENT, proposal_id, by)

    _tell(act_on(book, person, reason, act), as_json)


@command.command("list")
@all_option
@limit_option
@book_option
@json_option
def list_(every: bool, limit: int, book: str | None, as_json: bool) -> None:
    """Adjustments that wait for a verdict, newest first."""

    async def work(database: Database) -> list[Proposal]:
        async with reading(database, book) as (conn, book_id):
            return await proposals.page(conn, book_id, Kind.ADJUSTMENT, limit=limit, open_only=not every)

    found = with_database(work)
    if as_json:
        print_json([proposal_fields(p) for p in found])
        return
    table = Table("id", "status", "debit", "credit", "amount", "proposed by", "reason")
    for p in found:
        try:
            postings = Adjustment.of(p.content).postings
        except InvalidEntry as error:  # written past this code: it must not hide the others
            table.add_row(
                str(p.id), p.status, Text(f"no adjustment: {error}"), "", "", Text(p.proposer), Text(p.reason)
            )
            continue
        for n, posting in enumerate(postings):
            head = (str(p.id), p.status) if n == 0 else ("", "")
            tail = (Text(p.proposer), Text(p.reason)) if n == 0 else ("", "")
            amount = f"{major(posting.amount, posting.currency)} {posting.currency}"
            table.add_row(*head, posting.debit, posting.credit, amount, *tail)
    console.print(table)


def _tell(proposal: Proposal, as_json: bool) -> None:
    if as_json:
        print_json(proposal_fields(proposal))
        return
    tell(proposal, "adjustment")
    if proposal.journal_seq is not None:
        console.print(f"booked as journal {proposal.journal_seq}")
