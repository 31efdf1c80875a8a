"""Whose books a client may read: a merchant its home book and its own accounts, a platform client any book."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from api.dependencies import AppDependencies
from api.errors import MerchantRequired
from api.paths import public_in
from api.policy import Principal
from gateway import ids, merchants
from gateway.errors import MerchantNotFound
from ledger.errors import BookUnknown


@dataclass(frozen=True, slots=True)
class Sight:
    """``owner``: the only accounts to see; None for a platform client, which sees all."""

    book_id: int
    owner: str | None


async def sight_of(deps: AppDependencies, principal: Principal, asked: int | None = None) -> Sight:
    """What ``principal`` may see of book ``asked``; another book than a merchant's own is unknown to it."""
    if principal.merchant_id is None:
        return Sight(deps.book_id if asked is None else asked, None)
    return await sight_of_merchant(deps, principal.merchant_id, asked)


async def sight_of_merchant(deps: AppDependencies, merchant_id: UUID, asked: int | None = None) -> Sight:
    """What is the merchant's own, whoever asks. Raises ``MerchantNotFound``, ``BookUnknown`` for another book."""
    own = deps.sights.get(merchant_id) or await _own(deps, merchant_id)
    if asked not in (None, own.book_id):
        raise BookUnknown(asked)
    return own


async def merchant_asked(deps: AppDependencies, principal: Principal, asked: str | None) -> UUID:
    """The merchant whose things are asked for: the client's own, or the one that a platform client names.

    Raises ``MerchantRequired``; ``MerchantNotFound`` for one that is not there, and to a merchant for any other.
    """
    own = principal.merchant_id
    if asked is None:
        if own is None:
            raise MerchantRequired
        return own
    merchant_id = public_in(ids.MERCHANT, asked)
    if own not in (None, merchant_id):
        raise MerchantNotFound(asked)
    await sight_of_merchant(deps, merchant_id)
    return merchant_id


async def _own(deps: AppDependencies, merchant_id: UUID) -> Sight:
    home = (await merchants.get_merchant(deps.gateway, merchant_id)).book_id
    own = deps.sights[merchant_id] = Sight(home, ids.public(ids.MERCHANT, merchant_id))
    return own
