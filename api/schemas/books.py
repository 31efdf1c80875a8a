"""Several books as platform clients see them: transfers between them, and all of them together."""

from __future__ import annotations

from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from api.schemas.base import AccountPath, Amount, Closed, CurrencyCode, Description, View
from api.schemas.ledger import BookNumber, BookQuery, Number, PageSize
from ledger.consolidated import Consolidated
from ledger.transfers import LONGEST_PATH, TransferView

OtherBook = Annotated[int, Field(ge=1, le=2**31 - 1)]
MovedPath = Annotated[AccountPath, Field(max_length=LONGEST_PATH)]


class NewBookTransferBody(Closed):
    """`amount` from `account` of `book` to `to_account` of `to_book`.

    `side` is that of `account`: `debit` moves what we owe (a wallet is debited here, another credited there),
    `credit` what we own (money at the bank).
    """

    book: BookNumber = None
    to_book: OtherBook
    account: MovedPath
    to_account: MovedPath
    amount: Amount
    currency: CurrencyCode
    side: Literal["debit", "credit"] = "debit"
    description: Description = ""


class BookTransfersQuery(BookQuery):
    after: Annotated[Number, Field(description="Sent by journals after this number")] = 0
    limit: PageSize = 50


class BookTransferEntry(View):
    """`end_seq` is the journal that ended it: of `to_book` when it is completed, of `book` when it was returned;
    `reason` then says why `to_book` refused it."""

    id: UUID
    book: int
    to_book: int
    account: str
    to_account: str
    amount: int
    currency: CurrencyCode
    side: Literal["debit", "credit"]
    state: Literal["in_flight", "completed", "returned"]
    sent_seq: int
    end_seq: int | None
    reason: Annotated[str | None, Field(examples=["account_frozen"])]

    @classmethod
    def of(cls, found: TransferView) -> Self:
        t = found.transfer
        return cls.model_construct(
            id=t.id,
            book=t.book_id,
            to_book=t.to_book,
            account=t.account,
            to_account=t.to_account,
            amount=t.amount,
            currency=t.currency,
            side=t.side.value,
            state=found.state.value,
            sent_seq=found.sent_seq,
            end_seq=found.end_seq,
            reason=found.reason,
        )


class BookTransferList(View):
    data: list[BookTransferEntry]
    next: Annotated[int | None, Field(description="Pass as `after` for the next page")]


def _each_once(text: str) -> str:
    books = [int(pair.partition(":")[0]) for pair in text.split(",")]
    if len(set(books)) < len(books):
        raise PydanticCustomError("book_twice", "a book is named twice")
    return text


BookNumbers = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9]{1,10}:[0-9]{1,18}(,[0-9]{1,10}:[0-9]{1,18}){0,99}$"),
    AfterValidator(_each_once),
    Field(description="Books and their numbers; none: every book at its head", examples=["1:120,2:98"]),
]


class ConsolidatedQuery(Closed):
    at: BookNumbers | None = None

    def seqs(self) -> dict[int, int] | None:
        if self.at is None:
            return None
        return {int(book): int(seq) for book, seq in (pair.split(":") for pair in self.at.split(","))}


class BookAt(View):
    book: int
    seq: int


class ConsolidatedRow(View):
    account: str
    currency: CurrencyCode
    debit: int
    credit: int


class EliminatedRow(View):
    """`net`: debits less credits of a clearing account between these books, which is not among the rows."""

    book: int
    account: str
    currency: CurrencyCode
    net: int


class OnTheWayRow(View):
    """`net`: what a transfer of which only one book has its journal leaves on the clearing accounts. `early`: it is
    `to_book` that has it."""

    id: UUID
    book: int
    to_book: int
    currency: CurrencyCode
    net: int
    early: bool


class UnexplainedRow(View):
    currency: CurrencyCode
    net: int


class ConsolidatedReport(View):
    """In each currency the debits of `rows` less their credits, and the nets `on_the_way`, sum to zero. `unexplained`
    is empty if all is well."""

    books: list[BookAt]
    rows: list[ConsolidatedRow]
    eliminated: list[EliminatedRow]
    on_the_way: list[OnTheWayRow]
    unexplained: list[UnexplainedRow]

    @classmethod
    def of(cls, c: Consolidated) -> Self:
        return cls.model_construct(
            books=[BookAt.model_construct(book=book, seq=seq) for book, seq in sorted(c.seqs.items())],
            rows=[
                ConsolidatedRow.model_construct(
                    account=r.path, currency=r.currency, debit=r.debit, credit=r.credit
                )
                for r in c.rows
            ],
            eliminated=[
                EliminatedRow.model_construct(book=e.book_id, account=e.path, currency=e.currency, net=e.net)
                for e in c.eliminated
            ],
            on_the_way=[
                OnTheWayRow.model_construct(
                    id=w.transfer_id,
                    book=w.book_id,
                    to_book=w.to_book,
                    currency=w.currency,
                    net=w.net,
                    early=w.early,
                )
                for w in c.on_the_way
            ],
            unexplained=[
                UnexplainedRow.model_construct(currency=code, net=net)
                for code, net in sorted(c.unexplained.items())
            ],
        )
