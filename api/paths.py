"""Ids in paths: one that is not well formed is one that does not exist."""

from __future__ import annotations

from uuid import UUID

from api.errors import NotFound
from gateway import ids
from gateway.errors import IdInvalid
from ledger.errors import AccountUnknown, InvalidEntry
from ledger.model import check_currency, check_path


def uuid_in(text: str) -> UUID:
    """A UUID in its one canonical spelling."""
    try:
        value = UUID(text)
    except ValueError:
        raise NotFound from None
    if str(value) != text:
        raise NotFound
    return value


def public_in(prefix: str, text: str) -> UUID:
    """The UUID of a public id such as ``pay_…``."""
    try:
        return ids.parse(prefix, text)
    except IdInvalid:
        raise NotFound from None


def currency_in(text: str) -> str:
    """A currency's code; it need not be one that anything is booked in."""
    try:
        check_currency(text)
    except InvalidEntry:
        raise NotFound from None
    return text


def account_in(text: str, currency: str) -> str:
    """An account path; raises ``AccountUnknown`` for what cannot be one."""
    try:
        check_path(text)
    except InvalidEntry:
        raise AccountUnknown(text, currency) from None
    return text
