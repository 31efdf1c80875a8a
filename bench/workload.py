"""What both systems are asked to do: transfers between 10,000 funded accounts that may not be overdrawn."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

from psycopg import AsyncConnection

from ledger import model as m
from ledger.books import create_book, open_accounts
from ledger.post import post

ACCOUNTS = 10_000
CURRENCY = "INR"
FUNDS = 10**12  # minor units in each account: no run empties one, every floor is still checked
HOT_SHARE = 0.95
METADATA = {"order_id": "ord_5f21", "channel": "app"}

ESCROW = "Assets:Bank:Meridian:Escrow"
FEES, GST = "Income:Fees:wallet", "Liabilities:Tax:GST"


def wallet(number: int) -> str:
    return f"Liabilities:Customer:c{number:05d}:Wallet"


WALLETS = [wallet(number) for number in range(ACCOUNTS)]


class Pairs:
    """``pairs()`` is the next (payer, payee, amount), account numbers below ``ACCOUNTS``.

    ``hot``: account 0 takes part in 95 % of them, in turn as payee and as payer, so that its floor binds too.
    """

    def __init__(self, rng: random.Random, *, hot: bool) -> None:
        self._random = rng.random
        self._hot = hot
        self._pays = False

    def __call__(self) -> tuple[int, int, int]:
        rnd = self._random
        amount = 1 + int(rnd() * 1000)
        first = 1 + int(rnd() * (ACCOUNTS - 1))
        if self._hot and rnd() < HOT_SHARE:
            self._pays = not self._pays
            return (0, first, amount) if self._pays else (first, 0, amount)
        second = 1 + int(rnd() * (ACCOUNTS - 2))
        return first, second + (second >= first), amount


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


async def open_book(conn: AsyncConnection, ids: Callable[[], UUID], now: datetime) -> int:
    """A book with every account open and every wallet (floor 0) funded."""
    book_id = await create_book(conn, name="bench", now=now)
    wallets = [m.NewAccount(path, CURRENCY, floor=0) for path in WALLETS]
    platform = [m.NewAccount(path, CURRENCY) for path in (ESCROW, FEES, GST)]
    await open_accounts(conn, book_id, [*platform, *wallets], now=now)
    units = [_fund(path, ids()) for path in WALLETS]
    must_stand(await post(conn, book_id, units, now=now))
    await conn.commit()
    return book_id


def _fund(path: str, id_: UUID) -> m.Unit:
    posting = m.Posting(debit=ESCROW, credit=path, amount=FUNDS, currency=CURRENCY)
    source = m.Source("bench", id_.hex, "funded")
    return m.Unit((m.Journal(id=id_, kind="funding", source=source, postings=(posting,)),))


def must_stand(results: Sequence[m.Result]) -> None:
    """A refusal would make the figures a lie."""
    for result in results:
        if not isinstance(result, m.Posted) or result.replayed:
            raise RuntimeError(f"a benchmark's unit did not stand: {result}")
