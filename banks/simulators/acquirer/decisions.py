"""What the acquirer says to each request: pure functions of its book, one refusal a line, in order."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from banks.card.spec import APPROVED
from banks.simulators.acquirer.book import Book, Decision, Entry
from banks.simulators.acquirer.requests import Kind, Request

INVALID_TRANSACTION = "12"
INVALID_AMOUNT = "13"
INVALID_CARD = "14"
NOT_FOUND = "25"
EXPIRED_CARD = "54"
EXCEEDS_LIMIT = "61"
ORIGINAL_AMOUNT = "64"


def decider(declined: str | None, now: datetime) -> Callable[[Book, Request], Decision]:
    """The decision of a request at ``now``; ``declined`` is the code a magic card or amount asks for."""

    def decide(book: Book, request: Request) -> Decision:
        if request.amount == 0:
            return Decision(INVALID_AMOUNT)
        if request.kind is Kind.AUTHORIZATION:
            return Decision(_authorize(book, request, declined, now))
        original = book.find_original(request)
        code = _ABOUT_ORIGINAL[request.kind](book, request, original)
        if code == APPROVED and declined is not None:
            code = declined
        return Decision(code, original)

    return decide


def _authorize(book: Book, request: Request, declined: str | None, now: datetime) -> str:
    if book.is_awaited(request):
        return INVALID_TRANSACTION  # reversed before it came
    if request.pan is None or not luhn_valid(request.pan):
        return INVALID_CARD
    if declined is not None:
        return declined
    if (request.expiry or "") < now.strftime("%y%m"):
        return EXPIRED_CARD
    return APPROVED


def _capture(book: Book, request: Request, original: Entry | None) -> str:
    if original is None:
        return NOT_FOUND
    standing = book.standing.get(original.number)
    if standing is None or not standing.open or original.kind is not Kind.AUTHORIZATION:
        return INVALID_TRANSACTION
    if request.currency != original.currency:
        return INVALID_TRANSACTION
    if request.authorization_code not in (None, original.authorization_code):
        return INVALID_TRANSACTION
    if request.amount > standing.allowed:
        return EXCEEDS_LIMIT
    return APPROVED


def _reverse(book: Book, request: Request, original: Entry | None) -> str:
    """Of an authorization only; of one that is unknown, declined or reversed already it changes nothing."""
    if request.original is None or request.original.mti != "0100":
        return INVALID_TRANSACTION
    if original is None or not original.approved:
        return APPROVED
    if (request.amount, request.currency) != (original.amount, original.currency):
        return ORIGINAL_AMOUNT
    standing = book.standing[original.number]
    remaining = request.replacement or 0
    if remaining < standing.used:
        return INVALID_TRANSACTION  # what is captured cannot be reversed
    if remaining > standing.limit:
        return INVALID_AMOUNT
    return APPROVED


def _refund(book: Book, request: Request, original: Entry | None) -> str:
    if request.original is None:
        return APPROVED if request.pan and luhn_valid(request.pan) else INVALID_CARD
    if original is None:
        return NOT_FOUND
    standing = book.standing.get(original.number)
    if standing is None or original.kind is not Kind.CAPTURE or request.currency != original.currency:
        return INVALID_TRANSACTION
    if request.amount > standing.left:
        return EXCEEDS_LIMIT
    return APPROVED


_ABOUT_ORIGINAL = {Kind.CAPTURE: _capture, Kind.REVERSAL: _reverse, Kind.REFUND: _refund}


def luhn_valid(pan: str) -> bool:
    """ISO/IEC 7812-1, annex B."""
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in pan[-2::-2])
    return (sum(doubled) + sum(int(digit) for digit in pan[-1::-2])) % 10 == 0
