"""Who pays whom: the same accounts, amounts and draws for every system. Standard library only."""

from __future__ import annotations

import random

ACCOUNTS = 10_000
CURRENCY = "INR"
FUNDS = 10**12  # minor units in each account: no run empties one, every floor is still checked
HOT_SHARE = 0.95
METADATA = {"order_id": "ord_5f21", "channel": "app"}
LOADS = {"uniform": False, "hot": True}


def wallet(number: int) -> str:
    return f"Liabilities:Customer:c{number:05d}:Wallet"


class Pairs:
    """``pairs()`` is the next (payer, payee, amount): account numbers below ``accounts``, 1 to 1000 minor units.

    ``hot``: account 0 takes part in 95 % of them, in turn as payee and as payer, so that its floor binds too.
    """

    def __init__(self, rng: random.Random, *, hot: bool, accounts: int = ACCOUNTS) -> None:
        self._random = rng.random
        self._hot = hot
        self._accounts = accounts
        self._pays = False

    def __call__(self) -> tuple[int, int, int]:
        rnd = self._random
        amount = 1 + int(rnd() * 1000)
        first = 1 + int(rnd() * (self._accounts - 1))
        if self._hot and rnd() < HOT_SHARE:
            self._pays = not self._pays
            return (0, first, amount) if self._pays else (first, 0, amount)
        second = 1 + int(rnd() * (self._accounts - 2))
        return first, second + (second >= first), amount
