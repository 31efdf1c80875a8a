"""khata period …"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
import rich_click as click
from rich.table import Table
from rich.text import Text

from khata.cli.common import book_option, console, json_option, print_json, reading, with_database
from khata.cli.people import (
    ProposalId,
    act_on,
    as_option,
    day,
    limit_option,
    new_id,
    proposal_fields,
    reason_option,
    tell,
)
from khata.database import Database
from ledger import periods, proposals
from ledger.acts import By
from ledger.periods import PeriodFact
from ledger.proposals import Kind, Proposal

Conn = psycopg.AsyncConnection[Any]


@click.group()
def command() -> None:
    """Close periods, and reopen them by two people.

    Example: `khata period close 2026-10-31 --reason "month end"`
    """


@command.command("close")
@click.argument("through", type=day)
@reason_option
@as_option
@book_option
@json_option
def close(through: datetime, reason: str, person: str | None, book: str | None, as_json: bool) -> None:
    """Close every day up to and including THROUGH (a day that is over, in UTC): no journal counts in them any more."""

    async def act(conn: Conn, book_id: int, by: By) -> PeriodFact:
        return await periods.close(conn, book_id, by, through=through.date())

    fact = act_on(book, person, reason, act)
    if as_json:
        print_json(_fact(fact))
        return
    console.print(f"closed through [bold]{fact.through}[/], after journal {fact.head}")
    console.print(f"trial balance {(fact.trial_balance_hash or b'').hex()}")


@command.command("propose-reopening")
@click.argument("through", type=day, required=False)
@reason_option
@as_option
@book_option
@json_option
def propose_reopening(
    through: datetime | None, reason: str, person: str | None, book: str | None, as_json: bool
) -> None:
    """Propose that only the days up to and including THROUGH stay closed; without it, none."""

    async def act(conn: Conn, book_id: int, by: By) -> Proposal:
        kept = None if through is None else through.date()
        return await periods.propose_reopening(conn, book_id, new_id(), by, through=kept)

    _tell(act_on(book, person, reason, act), as_json)


@command.command("approve")
@click.argument("proposal_id", type=ProposalId())
@reason_option
@as_option
@book_option
@json_option
def approve(proposal_id: UUID, reason: str, person: str | None, book: str | None, as_json: bool) -> None:
    """Approve a reopening that somebody else proposed, and reopen."""

    async def act(conn: Conn, book_id: int, by: By) -> Proposal:
        return await periods.approve_reopening(conn, book_id, proposal_id, by)

    _tell(act_on(book, person, reason, act), as_json)


@command.command("reject")
@click.argument("proposal_id", type=ProposalId())
@reason_option
@as_option
@book_option
@json_option
def reject(proposal_id: UUID, reason: str, person: str | None, book: str | None, as_json: bool) -> None:
    """Reject a reopening that somebody else proposed."""

    async def act(conn: Conn, book_id: int, by: By) -> Proposal:
        return await proposals.reject(conn, book_id, Kind.REOPENING, proposal_id, by)

    _tell(act_on(book, person, reason, act), as_json)


@command.command("list")
@limit_option
@book_option
@json_option
def list_(limit: int, book: str | None, as_json: bool) -> None:
    """Closes and reopenings, newest first, and reopenings that wait for a verdict."""

    async def work(database: Database) -> tuple[list[PeriodFact], list[Proposal]]:
        async with reading(database, book) as (conn, book_id):
            facts = await periods.facts(conn, book_id, limit=limit)
            return facts, await proposals.page(conn, book_id, Kind.REOPENING, limit=limit)

    facts, waiting = with_database(work)
    if as_json:
        print_json({"facts": [_fact(f) for f in facts], "proposed": [proposal_fields(p) for p in waiting]})
        return
    table = Table("fact", "action", "through", "journal", "by", "reason", "trial balance")
    for f in facts:
        told = "" if f.trial_balance_hash is None else f.trial_balance_hash.hex()[:16]
        table.add_row(
            str(f.fact),
            f.action,
            str(f.through or "nothing"),
            str(f.head),
            Text(f.person),
            Text(f.reason),
            told,
        )
    console.print(table)
    for p in waiting:
        back = p.content["through"] or "nothing closed"
        console.print(f"proposed by {p.proposer}: back to {back} ({p.id})", markup=False)


def _fact(fact: PeriodFact) -> dict[str, Any]:
    return {name: getattr(fact, name) for name in PeriodFact.__slots__}


def _tell(proposal: Proposal, as_json: bool) -> None:
    print_json(proposal_fields(proposal)) if as_json else tell(proposal, "reopening")
