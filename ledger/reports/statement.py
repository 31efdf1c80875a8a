"""An account's statement over days of effect: what it opens with, its posted lines, what it closes with.

All amounts are minor units signed by the account's normal side: a line above zero is more of what the account holds.
Pending lines are no part of it: they move no posted balance. What is known is fixed when the statement is opened
(``StatementHead.known``), so the same statement can be read page by page, and again years later, and is the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol
from uuid import UUID


@dataclass(frozen=True, slots=True)
class StatementHead:
    """What is known before the first line. ``first``, ``last``: UTC days of effect, both inclusive; ``known``: the
    last journal number that counts. ``raised`` and ``lowered``: gross over the period, so
    ``opening + raised - lowered == closing``. ``available``: ``closing`` less what is reserved."""

    book_id: int
    book: str
    path: str
    currency: str
    first: date
    last: date
    known: int
    opening: int
    closing: int
    available: int
    raised: int
    lowered: int
    made_at: datetime


@dataclass(frozen=True, slots=True)
class StatementEntry:
    """One posted line. ``number``: of the line in its account; ``balance``: after it, in the statement's order."""

    number: int
    journal_id: UUID
    journal_seq: int
    kind: str
    description: str
    counter_account: str
    effective_at: datetime
    recorded_at: datetime
    amount: int
    balance: int


class StatementWriter(Protocol):
    """One statement in one format: ``begin``, ``entries`` for each page in order, ``end``, joined, are the file."""

    def begin(self) -> bytes: ...

    def entries(self, page: Sequence[StatementEntry]) -> bytes: ...

    def end(self) -> bytes: ...


async def written(
    writer: StatementWriter, pages: AsyncIterator[Sequence[StatementEntry]]
) -> AsyncGenerator[bytes]:
    """The file of one statement, chunk by chunk, none of them empty. One cut short by an error has no end.

    Drawing is work for a processor: it is done in a thread, beside the loop that answers others.
    """
    if begin := writer.begin():
        yield begin
    async for page in pages:
        if drawn := await asyncio.to_thread(writer.entries, page):
            yield drawn
    yield await asyncio.to_thread(writer.end)
