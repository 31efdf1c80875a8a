"""Receipts: what a client can keep to prove later that a journal was in the books."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from litestar import Response, get
from litestar.params import FromPath
from psycopg import AsyncConnection

from api.answers import view
from api.books import sight_of
from api.dependencies import AppDependencies
from api.errors import NotFound
from api.operation import ApiRequest, reads
from api.paths import public_in, uuid_in
from api.payment_journals import journals_of
from api.policy import Scope
from api.schemas.ledger import BookQuery
from api.schemas.log import Receipt, ReceiptList, SealedProof
from gateway import ids, payments
from ledger import read
from ledger.log.leaves import book_name
from ledger.log.receipt import inclusion_of, sign_receipt

Conn = AsyncConnection[Any]


@get(
    "/v1/journals/{journal_id:str}/receipt",
    **reads(Scope.JOURNALS_READ, "A journal's receipt", "Journals", Receipt, query=BookQuery),
)
async def get_receipt(request: ApiRequest, journal_id: FromPath[str]) -> Response[bytes]:
    """A statement signed by the log's key at once; once the journal is sealed, also the proof that it is in the log."""
    sight = await sight_of(request.deps, request.auth, request.asked(BookQuery).book)
    async with request.deps.pool.connection() as conn:
        found = await read.journal_by_id(conn, sight.book_id, uuid_in(journal_id), owner=sight.owner)
        if found is None:
            raise NotFound
        (receipt,) = await _receipts(request.deps, conn, sight.book_id, [found])
    return view(receipt)


@get(
    "/v1/payments/{payment_id:str}/receipts",
    **reads(Scope.PAYMENTS_READ, "The receipts of a payment", "Payments", ReceiptList),
)
async def list_payment_receipts(request: ApiRequest, payment_id: FromPath[str]) -> Response[bytes]:
    """Of the journals booked for it; a merchant has those on its own accounts, a platform client all of any payment's.
    They are made when asked for: paying waits for none."""
    merchant_id = request.auth.merchant_id
    payment = await payments.get(request.deps.gateway, merchant_id, public_in(ids.PAYMENT, payment_id))
    async with request.deps.pool.connection() as conn:
        owner = None if merchant_id is None else ids.public(ids.MERCHANT, merchant_id)
        found = await journals_of(conn, payment, owner=owner)
        receipts = await _receipts(request.deps, conn, payment.book_id, found) if found else []
    return view(ReceiptList.model_construct(data=receipts))


async def _receipts(
    deps: AppDependencies, conn: Conn, book_id: int, journals: Sequence[read.JournalView]
) -> list[Receipt]:
    signers = await deps.log_keys.signers(conn, book_id)
    name = await book_name(conn, book_id)
    receipts: list[Receipt] = []
    for journal in journals:
        inclusion = await inclusion_of(conn, book_id, journal.seq)
        receipts.append(
            Receipt.model_construct(
                journal=journal.id,
                book=name,
                seq=journal.seq,
                leaf_hash=journal.leaf_hash.hex(),
                statement=sign_receipt(journal.id, journal.seq, journal.leaf_hash, signers),
                inclusion=None if inclusion is None else SealedProof.of(inclusion),
            )
        )
    return receipts


routes = (get_receipt, list_payment_receipts)
