"""The canonical form of a journal: one line of RFC 8785 (JCS) JSON, and its leaf hash (RFC 9162 section 2.1.1).

Amounts are strings, since JCS numbers are IEEE doubles. Keys are ASCII, so sorting them as bytes is JCS order.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any

import orjson

from ledger.model import Capture, HoldAction, Increase, Journal, Layer, OnClosed, Place, Posting, Release

LAYER_NAMES = ("posted", "pending")  # by Layer
HOLD_ACTIONS = ("place", "increase", "capture", "release", "expire")


def rfc3339(at: datetime) -> str:
    """UTC to the microsecond, ending in Z."""
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


def hold_terms(action: HoldAction) -> dict[str, Any]:
    """What was asked of a hold, as it stands in the canonical line."""
    terms: dict[str, Any] = {"action": type(action).__name__.lower(), "id": str(action.hold_id)}
    match action:
        case Place():
            terms |= {"amount": str(action.amount), "tolerance_bps": action.tolerance_bps}
            terms["expires_at"] = rfc3339(action.expires_at) if action.expires_at else None
            terms |= {"credit": action.credit, "currency": action.currency, "debit": action.debit}
        case Increase():
            terms["amount"] = str(action.amount)
        case Capture():
            terms |= {"amount": str(action.amount), "final": action.final}
            terms |= {"credit": action.credit, "debit": action.debit}
        case Release():
            terms["amount"] = None if action.amount is None else str(action.amount)
        case _:
            pass
    return terms


def posting_line(
    debit: str,
    credit: str,
    amount: int,
    currency: str,
    layer: Layer,
    hold: str | None = None,
    up_to: int | None = None,
) -> dict[str, str]:
    """``hold``: the hold's action that the line belongs to, one of ``HOLD_ACTIONS``. ``up_to``: what was asked, of
    a posting that books as much as is available."""
    line = {"amount": str(amount), "credit": credit, "currency": currency, "debit": debit}
    if hold is not None:
        line["hold"] = hold
    line["layer"] = LAYER_NAMES[layer]
    if up_to is not None:
        line["up_to"] = str(up_to)
    return line


def _asked(posting: Posting) -> dict[str, str]:
    """What a journal as given says of one of its own postings."""
    return posting_line(
        posting.debit,
        posting.credit,
        posting.amount,
        posting.currency,
        posting.layer,
        up_to=posting.amount if posting.up_to else None,
    )


def _was_asked(line: dict[str, str]) -> dict[str, str]:
    """The same of a line that stands: what it booked is what was asked, unless as much as available was."""
    return line | {"amount": line["up_to"]} if "up_to" in line else line


def canonical_line(
    journal: Journal,
    *,
    book: str,
    seq: int,
    effective_at: str,
    recorded_at: str,
    lines: Sequence[dict[str, Any]],
) -> bytes:
    """The line, without a newline. Times as ``rfc3339`` writes them; ``lines`` as ``posting_line`` does."""
    # In JCS order as written: sorting the keys again would cost more than writing the line.
    fields: dict[str, Any] = {
        "book": book,
        "description": journal.description,
        "effective_at": effective_at,
    }
    if journal.hold is not None:
        fields["hold"] = dict(sorted(hold_terms(journal.hold).items()))
    fields["id"] = journal.id  # orjson writes a UUID as str does
    fields["kind"] = journal.kind
    fields["metadata"] = dict(sorted(journal.metadata.items()))
    fields["postings"] = lines
    fields["recorded_at"] = recorded_at
    if journal.on_closed is OnClosed.FIRST_OPEN_DAY and journal.effective_at is not None:
        requested = rfc3339(journal.effective_at)
        if requested != effective_at:
            fields["requested_effective_at"] = requested
    if journal.reverses is not None:
        fields["reverses"] = journal.reverses
    fields["seq"] = seq
    source = journal.source
    fields["source"] = {"event": source.event, "id": source.id, "type": source.type}
    return orjson.dumps(fields)


def leaf_hash(line: bytes) -> bytes:
    """SHA-256(0x00 || line)."""
    return sha256(b"\x00" + line).digest()


def version_after(version: int, leaves: Sequence[bytes]) -> int:
    """What a book at ``version`` is at after a batch of these leaf hashes: 62 bits of SHA-256 over all of it.

    So two batches have one version only if they are the same journals upon the same book.
    """
    digest = sha256(version.to_bytes(8, "big", signed=True) + b"".join(leaves)).digest()
    return int.from_bytes(digest[:8], "big") >> 2


def same_content(journal: Journal, line: bytes) -> bool:
    """Whether ``journal`` says what the stored ``line`` says, apart from its id and, unless stated, its time."""
    stored = orjson.loads(line)
    requested = stored.get("requested_effective_at", stored["effective_at"])
    if journal.effective_at is not None and rfc3339(journal.effective_at) != requested:
        return False
    if journal.reverses is None:
        given = [_asked(p) for p in journal.postings]
        if given != [_was_asked(p) for p in stored["postings"] if "hold" not in p]:
            return False
    return (
        stored["kind"] == journal.kind
        and stored["description"] == journal.description
        and stored["metadata"] == dict(journal.metadata)
        and stored.get("reverses") == journal.reverses
        and stored.get("hold") == (None if journal.hold is None else hold_terms(journal.hold))
    )
