"""Magic card numbers and amounts of the simulated acquirer, and its prices, as data.

The simulator, its documentation (docs/simulator.md) and the tests read these tables; Khata itself never does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Behaviour(StrEnum):
    """What the acquirer does with a request. "First" ones treat a repeat like any other request."""

    NORMAL = "books and answers"
    DECLINE = "declines"
    LOSE_REQUEST = "first: neither books nor answers (time-out before booking)"
    LOSE_ANSWER = "first: books, does not answer (time-out after booking)"
    SILENT = "never books, never answers"
    SILENT_BOOKED = "books, never answers; only the settlement file tells"
    LATE = "books, answers after the client's time-out"
    WRONG_AMOUNT = "books, answers with another amount"
    RESET = "first: books, resets the connection in the middle of its answer"
    GARBAGE = "first: books, answers with bytes that are no message"


FIRST_TIME_ONLY = frozenset(
    {Behaviour.LOSE_REQUEST, Behaviour.LOSE_ANSWER, Behaviour.RESET, Behaviour.GARBAGE}
)


@dataclass(frozen=True, slots=True)
class Magic:
    """``code``: the response code of a decline (field 39), else None."""

    name: str
    behaviour: Behaviour
    code: str | None = None


CARDS: Mapping[str, Magic] = {
    "4111111111111111": Magic("approved (Visa)", Behaviour.NORMAL),
    "5555555555554444": Magic("approved (Mastercard)", Behaviour.NORMAL),
    "6521111111111110": Magic("approved (RuPay)", Behaviour.NORMAL),
    "4000000000000002": Magic("do not honour", Behaviour.DECLINE, "05"),
    "4000000000000010": Magic("insufficient funds", Behaviour.DECLINE, "51"),
    "4000000000000028": Magic("expired card", Behaviour.DECLINE, "54"),
    "4000000000000036": Magic("lost card", Behaviour.DECLINE, "41"),
    "4000000000000044": Magic("stolen card", Behaviour.DECLINE, "43"),
    "4000000000000051": Magic("issuer inoperative (retryable)", Behaviour.DECLINE, "91"),
    "4000000000000127": Magic("card verification value wrong", Behaviour.DECLINE, "N7"),
    "4000000000000069": Magic("time-out before booking", Behaviour.LOSE_REQUEST),
    "4000000000000077": Magic("time-out after booking", Behaviour.LOSE_ANSWER),
    "4000000000000085": Magic("late answer", Behaviour.LATE),
    "4000000000000093": Magic("wrong amount in the answer", Behaviour.WRONG_AMOUNT),
    "4000000000000101": Magic("connection reset in the answer", Behaviour.RESET),
    "4000000000000119": Magic("garbage as the answer", Behaviour.GARBAGE),
}

# An amount in minor units is magic when it ends in one of these families and the two digits below it:
# 66602 is INR 666.02, JPY 66,602, KWD 66.602.
CAPTURE_OR_REFUND_FAMILY, REVERSAL_FAMILY = 666, 667
AMOUNTS: Mapping[int, Magic] = {
    1: Magic("time-out before booking", Behaviour.LOSE_REQUEST),
    2: Magic("time-out after booking", Behaviour.LOSE_ANSWER),
    3: Magic("silent, not booked", Behaviour.SILENT),
    4: Magic("silent, booked", Behaviour.SILENT_BOOKED),
    5: Magic("late answer", Behaviour.LATE),
    6: Magic("wrong amount in the answer", Behaviour.WRONG_AMOUNT),
    7: Magic("connection reset in the answer", Behaviour.RESET),
    8: Magic("garbage as the answer", Behaviour.GARBAGE),
    9: Magic("do not honour", Behaviour.DECLINE, "05"),
    10: Magic("issuer inoperative (retryable)", Behaviour.DECLINE, "91"),
}
_NORMAL = Magic("approved", Behaviour.NORMAL)


def of_card(pan: str) -> Magic:
    """How an authorization of this card goes."""
    return CARDS.get(pan, _NORMAL)


def of_amount(amount: int, family: int) -> Magic:
    """How a capture, refund or reversal of this amount goes."""
    ending = amount % 100_000
    return AMOUNTS.get(ending % 100, _NORMAL) if ending // 100 == family else _NORMAL


def magic_amount(code: int, family: int = CAPTURE_OR_REFUND_FAMILY) -> int:
    """The smallest amount with this code: ``magic_amount(2) == 66602``."""
    return family * 100 + code


# What the acquirer keeps of each captured amount, in 1/10000 (accounting.md: 1000.00 → 15.00 and 2.70).
COST_BPS = 150
TAX_BPS = 1800  # of the cost


def half_up(amount: int, bps: int) -> int:
    """``bps``/10000 of ``amount`` in minor units, halves rounded up."""
    return (amount * bps + 5000) // 10_000
