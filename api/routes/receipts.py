"""Receipts: what a client can keep to prove later that a journal was in the books."""

from __future__ import annotations

from litestar import Response, get
from litestar.params import FromPath

from api.answers import view
from api.books import sight_of
from api.errors import NotFound
from api.operation import ApiRequest, reads
from api.paths import uuid_in
from api.policy import Scope
from api.schemas.ledger import BookQuery
from api.schemas.log import Receipt, SealedProof
from ledger import read
from ledger.log.leaves import book_name
from ledger.log.receipt import inclusion_of, sign_receipt


@get(
    "/v1/journals/{journal_id:str}/receipt",
    **reads(Scope.JOURNALS_READ, "A journal's receipt", "Journals", Receipt, query=BookQuery),
)
async def get_receipt(request: ApiRequest, journal_id: FromPath[str]) -> Response[bytes]:
    """A statement signed by the log's key at once; once the journal is sealed, also the proof that it is in the log."""
    deps = request.deps
    sight = await sight_of(deps, request.auth, request.asked(BookQuery).book)
    async with deps.pool.connection() as conn:
        found = await read.journal_by_id(conn, sight.book_id, uuid_in(journal_id), owner=sight.owner)
        if found is None:
            raise NotFound
        signers = await deps.log_keys.signers(conn, sight.book_id)
        inclusion = await inclusion_of(conn, sight.book_id, found.seq)
        name = await book_name(conn, sight.book_id)
    return view(
        Receipt.model_construct(
            journal=found.id,
            book=name,
            seq=found.seq,
            leaf_hash=found.leaf_hash.hex(),
            statement=sign_receipt(found.id, found.seq, found.leaf_hash, signers),
            inclusion=None if inclusion is None else SealedProof.of(inclusion),
        )
    )


routes = (get_receipt,)
