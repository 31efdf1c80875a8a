"""What the commands of people share: who acts and why, a connection that writes, a list of proposals."""

from __future__ import annotations

import getpass
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from uuid import UUID

import psycopg
import rich_click as click

from khata.cli.common import BookMissing, console, with_database
from khata.clock import utc_now
from khata.config import Settings
from khata.database import Database
from ledger.acts import By
from ledger.books import find_book
from ledger.ids import Ids
from ledger.proposals import Proposal

T = TypeVar("T")
Act = Callable[[psycopg.AsyncConnection[Any], int, By], Awaitable[T]]

new_id = Ids(utc_now)
day = click.DateTime(["%Y-%m-%d"])
as_option = click.option(
    "--as",
    "person",
    metavar="PERSON",
    default=None,
    help="Who does it (default: the user of the operating system).",
)
reason_option = click.option("--reason", required=True, help="Why; it stands in the log of acts.")
limit_option = click.option("--limit", type=click.IntRange(1, 1000), default=50, help="Rows at most.")
all_option = click.option("--all", "every", is_flag=True, help="Decided ones, too.")


def act_on(book: str | None, person: str | None, reason: str, act: Act[T]) -> T:
    """Run ``act`` (connection, book, who) in one transaction. Raises ``BookMissing`` and what ``act`` raises."""
    by = By(person or getpass.getuser(), reason, utc_now())

    async def work(database: Database) -> T:
        async with await psycopg.AsyncConnection.connect(database.app_dsn) as conn:
            name = book or Settings().book
            book_id = await find_book(conn, name)
            if book_id is None:
                raise BookMissing(name)
            return await act(conn, book_id, by)

    return with_database(work)


def proposal_fields(proposal: Proposal) -> dict[str, Any]:
    """As JSON; the content's members beside those that every proposal has."""
    return {
        "id": str(proposal.id),
        "number": proposal.number,
        "status": proposal.status,
        "reason": proposal.reason,
        "proposer": proposal.proposer,
        "proposed_at": proposal.proposed_at,
        "verdict": proposal.verdict,
        "journal_seq": proposal.journal_seq,
        **proposal.content,
    }


def tell(proposal: Proposal, what: str) -> None:
    """One line on what became of it, and what is to be done next."""
    console.print(f"{what} [bold]{proposal.id}[/] is {proposal.status}")
    if proposal.status == "open":
        word = "adjust" if proposal.kind == "adjustment" else "period"
        console.print(f"somebody else decides: khata {word} approve {proposal.id} --reason …", markup=False)


class ProposalId(click.ParamType[UUID]):
    """The id that proposing has printed."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> UUID:
        try:
            return UUID(str(value))
        except ValueError:
            self.fail(f"{value} is not the id of a proposal; `list` shows them", param, ctx)
