"""What an entry's line asks of the ledger: the account to open, the journal to post, the act to do again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection

from ledger import limits, periods, proposals
from ledger.acts import By
from ledger.books import change_account
from ledger.import_pack.errors import NotImportable
from ledger.model import (
    AccountStatus,
    Capture,
    Expire,
    HoldAction,
    Increase,
    Journal,
    NewAccount,
    OnClosed,
    Place,
    Posting,
    Release,
    Source,
)
from ledger.proposals import Kind

Line = Mapping[str, Any]


def account(line: Line) -> NewAccount:
    return NewAccount(line["account"], line["currency"], _optional(line["floor"]), line["owner"])


def journal(line: Line) -> Journal:
    """As it was given to the ledger: only what was asked, not what the ledger made of it."""
    requested = line.get("requested_effective_at")
    hold = line.get("hold")
    source = line["source"]
    return Journal(
        UUID(line["id"]),
        line["kind"],
        Source(source["type"], source["id"], source["event"]),
        () if "reverses" in line else tuple(_posting(p) for p in line["postings"] if "hold" not in p),
        hold=None if hold is None else _hold(hold),
        effective_at=datetime.fromisoformat(requested or line["effective_at"]),
        description=line["description"],
        metadata=line["metadata"],
        reverses=line.get("reverses"),
        on_closed=OnClosed.REFUSE if requested is None else OnClosed.FIRST_OPEN_DAY,
    )


def _posting(line: Line) -> Posting:
    asked = line.get("up_to", line["amount"])
    return Posting(line["debit"], line["credit"], int(asked), line["currency"], up_to="up_to" in line)


def _hold(terms: Line) -> HoldAction:
    id_ = UUID(terms["id"])
    match terms["action"]:
        case "place":
            at = terms["expires_at"]
            return Place(
                *(id_, terms["debit"], terms["credit"], int(terms["amount"]), terms["currency"]),
                expires_at=None if at is None else datetime.fromisoformat(at),
                tolerance_bps=terms["tolerance_bps"],
            )
        case "increase":
            return Increase(id_, int(terms["amount"]))
        case "capture":
            return Capture(id_, int(terms["amount"]), terms["final"], terms["debit"], terms["credit"])
        case "release":
            return Release(id_, _optional(terms["amount"]))
        case "expire":
            return Expire(id_)
        case other:
            raise NotImportable(f"there is no hold action {other!r}")


def _optional(amount: str | None) -> int | None:
    return None if amount is None else int(amount)


def after(act: Line) -> int | None:
    """The number of the last journal before the act, where it says so; a proposal does not."""
    detail = act["detail"]
    return detail.get("after", detail.get("head"))


class Acts:
    """Does acts again, in order. ``said``: the lines of ``proposals.jsonl``."""

    def __init__(self, conn: AsyncConnection[Any], book_id: int, said: Iterator[Line]) -> None:
        self._conn = conn
        self._book_id = book_id
        self._proposals = said

    async def do(self, act: Line, *, anew: bool = True) -> None:
        """Through the function that did it first, at its own time. ``anew`` False: it stands, only go past it.

        Raises ``NotImportable`` for what the ledger cannot do, and whatever the ledger refuses it with.
        """
        action = act["action"]
        proposal = self._proposal(act) if action.endswith("_proposed") else None
        if not anew:
            return
        by = By(act["person"], act["reason"], datetime.fromisoformat(act["recorded_at"]))
        if proposal is not None:
            wanted = (Kind(proposal["kind"]), UUID(proposal["id"]), proposal["content"])
            await proposals.propose(self._conn, self._book_id, *wanted, by)
        elif action == "change_account":
            await self._change_account(act, by)
        elif action == "set_limit":
            await self._set_limit(act, by)
        elif action == "period_closed":
            through = datetime.fromisoformat(act["subject"]).date()
            await periods.close(self._conn, self._book_id, by, through=through)
        elif action.endswith(("_approved", "_rejected")):
            kind, _, verdict = action.rpartition("_")
            ids = (Kind(kind), UUID(act["subject"]))
            found = await proposals.found(self._conn, self._book_id, *ids)
            approved = verdict == "approved"
            await proposals.decide(self._conn, self._book_id, found, by, approved=approved)
        else:
            raise NotImportable(f"act {act['act']} is of a kind that is not known here: {action}")

    def _proposal(self, act: Line) -> Line:
        proposal = next(self._proposals, None)
        if proposal is None or proposal["act"] != act["act"]:
            raise NotImportable(f"act {act['act']} proposes what proposals.jsonl does not have")
        return proposal

    async def _change_account(self, act: Line, by: By) -> None:
        path, currency = act["subject"].split(" ")
        await change_account(
            *(self._conn, self._book_id, path, currency),
            now=by.now,
            reason=by.reason,
            person=by.person,
            floor=_optional(act["detail"]["floor"]),
            status=AccountStatus(act["detail"]["status"]),
        )

    async def _set_limit(self, act: Line, by: By) -> None:
        path, currency = act["subject"].split(" ")
        said = act["detail"]
        terms = limits.LimitTerms(
            said["name"],
            limits.Side(said["side"]),
            limits.Measure(said["measure"]),
            int(said["maximum"]),
            limits.Window(said["window"]),
            active=said["active"],
        )
        await limits.set_limit(
            *(self._conn, self._book_id, path, currency, terms),
            now=by.now,
            reason=by.reason,
            person=by.person,
        )
