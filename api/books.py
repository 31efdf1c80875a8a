"""Whose books a client may read: a merchant its home book and its own accounts, a platform client any book."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from api.dependencies import AppDependencies
from api.policy import Principal
from gateway import ids, merchants
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
    own = deps.sights.get(principal.merchant_id) or await _own(deps, principal.merchant_id)
    if asked not in (None, own.book_id):
        raise BookUnknown(asked)
    return own


async def _own(deps: AppDependencies, merchant_id: UUID) -> Sight:
    home = (await merchants.get_merchant(deps.gateway, merchant_id)).book_id
    own = deps.sights[merchant_id] = Sight(home, ids.public(ids.MERCHANT, merchant_id))
    return own
