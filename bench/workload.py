"""The units that Khata is asked to post, and the book they are posted to."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from psycopg import AsyncConnection

from bench.pairs import ACCOUNTS, CURRENCY, FUNDS, HOT_SHARE, METADATA, Pairs, wallet
from ledger import model as m
from ledger.books import create_book, find_book, open_accounts
from ledger.bulk import RANDOM_BYTES, Captures, Paths, Places, Transfers, uuid7s
from ledger.post import post

ESCROW = "Assets:Bank:Meridian:Escrow"
FEES, GST = "Income:Fees:wallet", "Liabilities:Tax:GST"
WALLETS = [wallet(number) for number in range(ACCOUNTS)]


class Units:
    """Builds the units of each load; ids and source keys are new each time."""

    def __init__(self, pairs: Pairs, ids: Callable[[], UUID]) -> None:
        self._pairs = pairs
        self._ids = ids

    def transfer(self) -> m.Unit:
        payer, payee, amount = self._pairs()
        return self._unit("transfer", m.Posting(WALLETS[payer], WALLETS[payee], amount, CURRENCY))

    def payment(self) -> m.Unit:
        """A payment with our fee of 2 % and GST of 18 % on it: one journal, three legs that stand or fall together."""
        payer, payee, amount = self._pairs()
        amount += 500  # large enough to owe a fee and its tax
        fee = amount * 2 // 100
        payee_path = WALLETS[payee]
        return self._unit(
            "payment",
            m.Posting(WALLETS[payer], payee_path, amount, CURRENCY),
            m.Posting(payee_path, FEES, fee, CURRENCY),
            m.Posting(payee_path, GST, fee * 18 // 100, CURRENCY),
        )

    def place(self) -> tuple[m.Unit, m.Unit]:
        """A hold, and its final capture in full."""
        payer, payee, amount = self._pairs()
        hold_id = self._ids()
        place = m.Place(hold_id, WALLETS[payer], WALLETS[payee], amount, CURRENCY)
        return self._unit("hold", hold=place), self._unit(
            "capture", hold=m.Capture(hold_id, amount, final=True)
        )

    def _unit(self, kind: str, *postings: m.Posting, hold: m.HoldAction | None = None) -> m.Unit:
        id_ = self._ids()
        source = m.Source("bench", id_.hex, "done")
        return m.Unit(
            (m.Journal(id=id_, kind=kind, source=source, postings=postings, hold=hold, metadata=METADATA),)
        )


class Columns:
    """A load as columns: ``Pairs``, drawn by the batch; ids and source keys are new each time."""

    def __init__(
        self, seed: int, clock: Callable[[], datetime], *, hot: bool, accounts: int = ACCOUNTS
    ) -> None:
        self._random = np.random.default_rng(seed)
        self._clock = clock
        self._hot = hot
        self._accounts = accounts
        self._paths = Paths(WALLETS[:accounts])
        self._paid = 0

    def transfers(self, size: int) -> Transfers:
        return Transfers(kind="transfer", **self._journals(size), **self._between(size))

    def holds(self, size: int) -> tuple[Places, Captures]:
        """Holds, and the final capture of each in full."""
        holds = Places(kind="hold", hold_ids=self._ids(size), **self._journals(size), **self._between(size))
        captured = {"hold_ids": holds.hold_ids, "amount": holds.amount}
        return holds, Captures(kind="capture", **captured, **self._journals(size))

    def _journals(self, size: int) -> dict[str, Any]:
        ids = self._ids(size)
        digits = ids.tobytes().hex()
        return {
            "source_type": "bench",
            "source_event": "done",
            "source_ids": [digits[at : at + 32] for at in range(0, 32 * size, 32)],
            "ids": ids,
            "metadata": METADATA,
        }

    def _ids(self, size: int) -> NDArray[np.uint8]:
        return uuid7s(self._clock(), os.urandom(RANDOM_BYTES * size))

    def _between(self, size: int) -> dict[str, Any]:
        payer, payee = self._pairs(size)
        amount = self._random.integers(1, 1001, size)
        return {"paths": self._paths, "debit": payer, "credit": payee, "amount": amount, "currency": CURRENCY}

    def _pairs(self, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        first = self._random.integers(1, self._accounts, size)
        second = self._random.integers(1, self._accounts - 1, size)
        second += second >= first
        if not self._hot:
            return first, second
        hot = self._random.random(size) < HOT_SHARE
        turns = self._paid + np.cumsum(hot)
        self._paid = int(turns[-1])
        pays = turns % 2 == 1
        return np.where(hot & pays, 0, first), np.where(hot, np.where(pays, first, 0), second)


async def open_book(
    conn: AsyncConnection[Any],
    ids: Callable[[], UUID],
    now: datetime,
    *,
    analyze: Callable[[], Awaitable[None]],
    name: str = "bench",
    accounts: int = ACCOUNTS,
) -> int:
    """The book of that name with every account open and every wallet (floor 0) funded; made if it is not there.

    ``analyze`` gathers the tables' statistics: a large first batch in a book that the planner has not seen is
    planned as if the book had one account (docs/adr/0013).
    """
    known = await find_book(conn, name)
    if known is not None:
        return known
    book_id = await create_book(conn, name=name, now=now)
    wallets = [m.NewAccount(path, CURRENCY, floor=0) for path in WALLETS[:accounts]]
    platform = [m.NewAccount(path, CURRENCY) for path in (ESCROW, FEES, GST)]
    await open_accounts(conn, book_id, [*platform, *wallets], now=now)
    await conn.commit()
    await analyze()
    units = [fund(path, ids()) for path in WALLETS[:accounts]]
    must_stand(await post(conn, book_id, units, now=now))
    await conn.commit()
    return book_id


def fund(path: str, id_: UUID) -> m.Unit:
    """Money from the bank's account into a wallet."""
    posting = m.Posting(debit=ESCROW, credit=path, amount=FUNDS, currency=CURRENCY)
    source = m.Source("bench", id_.hex, "funded")
    return m.Unit((m.Journal(id=id_, kind="funding", source=source, postings=(posting,)),))


def must_stand(results: Sequence[m.Result]) -> None:
    """A refusal would make the figures a lie."""
    for result in results:
        if not isinstance(result, m.Posted) or result.replayed:
            raise RuntimeError(f"a benchmark's unit did not stand: {result}")
