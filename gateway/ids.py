"""Ids at the edges: ``pay_01jd…``: a prefix that names the kind and a UUID in Crockford base 32.

26 characters, lower case, no letters to misread; time-ordered UUIDs sort as text. Inside, ids are UUIDs.
"""

from __future__ import annotations

import re
from functools import lru_cache
from uuid import UUID

from gateway.errors import IdInvalid

MERCHANT = "mer"
PAYMENT = "pay"
ATTEMPT = "att"
OPERATION = "op"
REFUND = "re"
CARD = "card"
EVENT = "evt"
SESSION = "cs"

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_VALUES = {letter: value for value, letter in enumerate(_ALPHABET)}
_BODY = re.compile(r"[0-7][0-9a-hjkmnp-tv-z]{25}")
_DIGITS = 26
_PAIRS = tuple(high + low for high in _ALPHABET for low in _ALPHABET)
_PAIR_SHIFTS = range(5 * (_DIGITS - 2), -1, -10)


@lru_cache(maxsize=4096)  # an id is told several times while something happens to it
def public(prefix: str, id: UUID) -> str:
    """``public("pay", UUID(int=1))`` is ``pay_`` and 26 base-32 digits of the UUID, highest first."""
    number = id.int
    return f"{prefix}_" + "".join([_PAIRS[number >> shift & 1023] for shift in _PAIR_SHIFTS])


def parse(prefix: str, text: str) -> UUID:
    """The inverse of ``public``; raises ``IdInvalid`` for any other text, so each id has one spelling."""
    head, _, body = text.partition("_")
    if head != prefix or not _BODY.fullmatch(body):
        raise IdInvalid(prefix)
    number = 0
    for letter in body:
        number = number << 5 | _VALUES[letter]
    return UUID(int=number)
