"""Transfers between ledger accounts: one journal of one or more legs."""

from __future__ import annotations

from litestar import Response, post

from api.answers import Answer
from api.books import Sight, sight_of
from api.dependencies import AppDependencies
from api.errors import AccountManaged, ItemRefused, NotFound
from api.once import Once, first_or, once_of, post_once
from api.operation import ApiRequest, changes
from api.policy import Scope
from api.routes.holds import Conn, require_accounts
from api.routes.journals import own_paths
from api.schemas.ledger import JournalEntry
from api.schemas.transfers import NewTransferBody
from ledger import read
from ledger.errors import AccountUnknown, Refusal
from ledger.model import Journal, Posting


@post(
    "/v1/transfers",
    **changes(Scope.TRANSFERS_WRITE, "Transfer", "Transfers", JournalEntry, NewTransferBody, status=201),
)
async def transfer(request: ApiRequest) -> Response[bytes]:
    """Book all legs as one journal, or none. Merchants: between wallets of their customers and their own payable
    account."""
    deps = request.deps
    body = await request.read(NewTransferBody)
    sight = await sight_of(deps, request.auth, body.book)
    once = await once_of(request, sight.owner, "transfer")

    async def book() -> Answer:
        for index, leg in enumerate(body.legs):
            try:
                await require_accounts(deps, sight, leg)
            except (AccountUnknown, AccountManaged) as error:
                raise ItemRefused(f"/legs/{index}", error) from error
        return await _post(deps, sight, once, body)

    return await first_or(deps, once, book)


async def _post(deps: AppDependencies, sight: Sight, once: Once, body: NewTransferBody) -> Answer:
    postings = tuple(
        Posting(leg.debit, leg.credit, leg.amount, leg.currency, up_to=leg.up_to) for leg in body.legs
    )
    # The id follows from the key: a repeat whose answer is lost finds the journal by it.
    journal = Journal(
        once.id, "transfer", once.source, postings, description=body.description, metadata=body.metadata
    )

    async def answer(conn: Conn) -> JournalEntry:
        found = await read.journal_by_id(conn, sight.book_id, once.id, owner=sight.owner)
        if found is None:
            raise NotFound
        return JournalEntry.of(found, await own_paths(conn, sight, found))

    try:
        return await post_once(deps, once, sight.book_id, (journal,), answer, status=201)
    except Refusal as refusal:
        if refusal.line is None:
            raise
        raise ItemRefused(f"/legs/{refusal.line}", refusal) from refusal


routes = (transfer,)
