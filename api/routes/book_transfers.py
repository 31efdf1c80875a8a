"""Transfers between books, for platform clients."""

from __future__ import annotations

from litestar import Response, get, post
from litestar.params import FromPath

from api.answers import view
from api.books import sight_of
from api.once import once_of, send_once
from api.operation import ApiRequest, changes, reads
from api.paths import uuid_in
from api.policy import Audience, Scope
from api.routes.holds import require_unmanaged
from api.schemas.books import BookTransferEntry, BookTransferList, BookTransfersQuery, NewBookTransferBody
from api.schemas.ledger import BookQuery
from gateway.errors import IdempotencyMismatch
from gateway.transfers import between_books
from ledger import transfers
from ledger.errors import Refusal, SourceConflict
from ledger.transfers import Side, Transfer

_TAG = "Several books"
_PLATFORM = Audience.PLATFORM


@post(
    "/v1/book-transfers",
    **changes(
        *(Scope.TRANSFERS_WRITE, "Transfer to another book", _TAG, BookTransferEntry, NewBookTransferBody),
        audience=_PLATFORM,
        status=201,
    ),
)
async def send_to_book(request: ApiRequest) -> Response[bytes]:
    """Two journals, one in each book. Refused by its own book, nothing is sent; by the other one, it is returned and
    the answer says why. What is still in flight is carried on by the worker."""
    body = await request.read(NewBookTransferBody)
    sight = await sight_of(request.deps, request.auth, body.book)
    for path in (body.account, body.to_account):
        require_unmanaged(path, sight)
    once = await once_of(request, sight.owner, "book_transfer")
    ends = (sight.book_id, body.to_book, body.account, body.to_account)
    # The id follows from the key: sent again, it is the same transfer. It is unique in its book only; that one key
    # moves money out of one book only is for send_once to see to.
    terms = Transfer(once.id, *ends, body.amount, body.currency, Side(body.side))

    async def send() -> BookTransferEntry:
        sent = await between_books(request.deps.gateway).send(terms, body.description)
        if isinstance(sent, SourceConflict):
            raise IdempotencyMismatch(once.key)
        if isinstance(sent, Refusal):
            raise sent
        return BookTransferEntry.of(sent)

    return await send_once(request.deps, once, send, status=201)


@get(
    "/v1/book-transfers",
    **reads(
        *(Scope.ACCOUNTS_READ, "Transfers in flight", _TAG, BookTransferList),
        audience=_PLATFORM,
        query=BookTransfersQuery,
    ),
)
async def list_in_flight(request: ApiRequest) -> Response[bytes]:
    """What a book has sent and not seen the end of, the oldest first."""
    asked = request.asked(BookTransfersQuery)
    sight = await sight_of(request.deps, request.auth, asked.book)
    async with request.deps.pool.connection() as conn:
        found = await transfers.in_flight(conn, sight.book_id, after_seq=asked.after, limit=asked.limit)
    after = found[-1].sent_seq if len(found) == asked.limit else None
    return view(BookTransferList(data=[BookTransferEntry.of(one) for one in found], next=after))


@get(
    "/v1/book-transfers/{transfer_id:str}",
    **reads(
        *(Scope.ACCOUNTS_READ, "One transfer between books", _TAG, BookTransferEntry),
        audience=_PLATFORM,
        query=BookQuery,
    ),
)
async def get_book_transfer(request: ApiRequest, transfer_id: FromPath[str]) -> Response[bytes]:
    """By its id and the book that sent it."""
    sight = await sight_of(request.deps, request.auth, request.asked(BookQuery).book)
    async with request.deps.pool.connection() as conn:
        return view(BookTransferEntry.of(await transfers.known(conn, sight.book_id, uuid_in(transfer_id))))


routes = (send_to_book, list_in_flight, get_book_transfer)
